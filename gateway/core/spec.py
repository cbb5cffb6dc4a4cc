"""What one server is ordered as, at whichever vendor: the need, and what goes onto the server.

Must not know requests' bodies or vendors.  Theory: the same value is quoted, sealed with the order, and ordered again at
the next vendor, so it has one spelling as a document and reads back as what it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gateway.core.plan import Need


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What is ordered. `need.plan` is set where one plan was asked for; region and image are in the need.

    `ssh_keys` are ids of our own SSH keys, `minutes` the time to prepay at first (Billing.MINUTES), `snapshot` the id of
    our snapshot that it is made from.
    """

    need: Need
    ssh_keys: tuple[str, ...] = ()
    user_data: str = field(default="", repr=False)
    minutes: int | None = None
    snapshot: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return the spec as JSON's types."""
        return {
            "need": need_document(self.need),
            "ssh_keys": list(self.ssh_keys),
            "user_data": self.user_data,
            "minutes": self.minutes,
            "snapshot": self.snapshot,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "ServerSpec":
        """Return the spec of a document that `to_document` made."""
        return cls(
            need_from(document["need"]),
            tuple(document["ssh_keys"]),
            document["user_data"],
            document["minutes"],
            document["snapshot"],
        )


def need_document(need: Need) -> dict[str, Any]:
    """Return what a need states as JSON's types: what does not matter is left out."""
    said = {each.name: getattr(need, each.name) for each in fields(Need)}
    kept = {name: value for name, value in said.items() if value not in (None, (), False)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def need_from(document: Mapping[str, Any]) -> Need:
    """Return the need of a document that `need_document` made, of this version or an older one: nothing said is dropped."""
    said: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
    return Need(**said)
