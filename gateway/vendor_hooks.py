"""Which vendors may knock at our door, and how a delivery of theirs is told from anybody's and read.

Must not know HTTP, queues or records' fate.  Theory: only a vendor whose document describes webhooks, and whose secret
the operator has saved, has a door at all; whatever is not signed with that secret is nobody's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.config import Config, VendorKind
from gateway.core.records import VendorEvent
from gateway.vendor_credentials import MAX_WEBHOOK_SECRETS, VendorSecrets
from gateway.vendors.vrtx.webhooks import MAX_BODY_BYTES, SIGNATURE_HEADER, parse, verify
from wallets.secret import Secret

NO_HOOKS: Final[Mapping[str, "Hook"]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Hook:
    """The door of one vendor of kind `vrtx`, the only one with webhooks. `secrets` are the newest first, at most three."""

    vendor: str
    secrets: tuple[Secret[str], ...]
    kind: str = VendorKind.VRTX.value
    signature_header: str = SIGNATURE_HEADER
    max_body_bytes: int = MAX_BODY_BYTES

    def is_genuine(self, raw_body: bytes, signature: str | None) -> bool:
        """Say whether one of the secrets signed these very bytes; as quick for a wrong signature as for a right one."""
        return verify(raw_body, signature, self.secrets)

    def read(self, raw_body: bytes, now_ms: int, received_at_ms: int) -> VendorEvent | None:
        """Return the event of a genuine body; None for a type that the vendor's document does not have.

        `now_ms` is the time by which the vendor dates its events. Raises ValueError for a body that is no event, or for
        one from outside the window in which the vendor delivers; the message names nothing that it holds.
        """
        event = parse(raw_body, now_ms)
        if event is None:
            return None
        return VendorEvent(
            self.vendor, event.id, event.type, event.uuid, event.state, event.created_at_ms, received_at_ms
        )


def hooks_of(config: Config, secrets: Mapping[str, VendorSecrets]) -> Mapping[str, Hook]:
    """Return the doors of a configuration by the vendors' names: none for a vendor without a webhook secret."""
    hooks: dict[str, Hook] = {}
    for name, vendor in config.account_vendors().items():
        saved = secrets[name].webhook_secrets[:MAX_WEBHOOK_SECRETS] if name in secrets else ()
        if vendor.kind is VendorKind.VRTX and saved:
            hooks[name] = Hook(name, saved)
    return hooks
