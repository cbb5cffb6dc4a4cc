"""What the neutral API's records have in common: which kind each is, which version, and whether it is over.

Must not know rows or decisions.  Theory: six kinds of record that change in one way (a value replaced by its next version)
need one set of rules; what is over stays over, so only what is open has to be in memory.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.server import Fleet, FleetState, Hook, Kept, Quote, Server, Snapshot, SshKey

SERVER: Final = "server"
QUOTE: Final = "quote"
SNAPSHOT: Final = "snapshot"
SSH_KEY: Final = "ssh_key"
FLEET: Final = "fleet"
HOOK: Final = "hook"

KINDS: dict[type, str] = {
    Server: SERVER,
    Quote: QUOTE,
    Snapshot: SNAPSHOT,
    SshKey: SSH_KEY,
    Fleet: FLEET,
    Hook: HOOK,
}
"""Each record's word: of the journal (`server.running`), of its id there (`server_id`) and of `Store.record`."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client token of an account stands for: the server or fleet that was ordered with it, and its request."""

    kind: str
    record_id: str
    fingerprint: bytes


def kind_of(record: Kept) -> str:
    """Return a record's kind."""
    return KINDS[type(record)]


def version_of(record: Kept) -> int:
    """Return a record's version; a quote has one."""
    return 1 if isinstance(record, Quote) else record.version


def is_over(record: Kept) -> bool:
    """Say whether nothing can happen to it any more: it never becomes open again."""
    if isinstance(record, Server):
        return not record.open
    if isinstance(record, Fleet):
        return record.state is FleetState.ENDED
    if isinstance(record, SshKey | Hook):
        return record.deleted_at_ms is not None
    return False


def order_of(record: Kept) -> Order | None:
    """Return what the record's client token stands for; None for a record that has none."""
    if isinstance(record, Server | Fleet):
        return Order(kind_of(record), record.id, record.fingerprint)
    return None
