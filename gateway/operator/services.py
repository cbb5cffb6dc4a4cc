"""What the operator's calls work with, and the one type that names a call.

Must not know sockets or argument parsers.  Theory: the database has one owner, so the same functions run inside the server
or, when there is none, in the process that asks; neither way can do what the other cannot.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.records import Payment
from gateway.flow.call import Served
from gateway.flow.unproven import Said
from gateway.operator.params import Params
from gateway.paid_ports import RelayChain
from gateway.ports import Clock, Entropy, Store


def _nothing() -> None:
    """Do nothing: no signer runs here whose list of payees could be out of date."""


class Deployer(Protocol):
    """Puts the batch contract up."""

    async def deploy(self, chain_id: int, wait_s: float = 60.0) -> bytes | None:
        """Return the transaction's hash, None where the contract stands already."""
        ...


class Resolver(Protocol):
    """Ends what one chain calls used and nothing proves."""

    async def resolve(self, payment_id: str, said: Said) -> Payment:
        """End a payment as said; return it as it is then. Raises Problem."""
        ...


@dataclass(frozen=True, slots=True)
class Relaying:
    """The relayers of the configuration as (name, chain id, address), their chains, and who deploys."""

    relayers: Sequence[tuple[str, int, bytes]]
    chains: Mapping[int, RelayChain]
    deployer: Deployer
    batch: bytes


@dataclass(frozen=True, slots=True)
class Services:
    """`routes` is every configured vendor's route names; `own_addresses` may never become payees.

    `account_vendors` are the names of those that know us by an account.
    `payees_changed` is called after an approval is durable: the server puts the list before its signers.
    `relaying` is None where nobody pays gas, or no server runs.
    `unproven` ends, by chain id, what the chain calls used and nothing proves; of no chain where no server runs.
    `accept_database` tells the signers' mark that a quarantine was lifted by force; None where no server runs.
    """

    store: Store
    clock: Clock
    entropy: Entropy
    routes: Mapping[str, frozenset[str]]
    own_addresses: frozenset[bytes]
    payees_changed: Callable[[], None] = _nothing
    accept_database: Callable[[], None] | None = None
    account_vendors: frozenset[str] = frozenset()
    relaying: Relaying | None = None
    unproven: Mapping[int, Resolver] = field(default_factory=dict)


def routes_of(vendors: Iterable[Served]) -> Mapping[str, frozenset[str]]:
    """Return the route names of each vendor, as Services takes them."""
    return {vendor.name: frozenset(route.name for route in vendor.routes) for vendor in vendors}


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: its function and the names of its parameters. An unknown parameter is refused before it runs."""

    run: Callable[[Services, Params], Awaitable[dict[str, Any]]]
    parameters: tuple[str, ...] = ()
