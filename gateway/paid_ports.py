"""The seams of being paid: a facilitator of anybody's, our own engine of settlements, and a chain that we send to.

Must not know any implementation.  Theory: whoever verifies and submits (we ourselves, another facilitator, a fault
injector) answers in the same words, and none of these words ever credits anybody: final blocks do (P14).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.logs import Log
from gateway.core.paid import Settlement
from gateway.ports import Block, Receipt

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exact:
    """An x402 `exact` payment by EIP-3009, strictly parsed, that says what its requirements ask for."""

    version: int  # x402Version, 1 or 2
    network: str  # as the caller wrote it: "base" or "eip155:8453"
    authorization: Authorization
    signature: bytes  # v already normalised where it is 65 bytes long


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a payment is none: an x402 reason code (`rails.x402.reasons`), words, and the payer as far as it is known."""

    reason: str
    message: str
    payer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a payment that we were asked to settle.

    `success`: it is in a block. `reason` "settlement_pending" with `tx_hash`: it may still land, nothing may be signed anew.
    """

    success: bool
    reason: str
    message: str
    payer: bytes | None
    tx_hash: bytes | None
    network: str
    amount_base: int | None = None
    settlement_id: str | None = None


class Facilitator(Protocol):
    """Verifies and settles x402 payments, as on the wire: ours in this process, or anybody's by URL."""

    async def verify(self, version: int, payload: Json, requirements: Json) -> Rejected | Address:
        """Return the payer of a payment that could be settled now, or why it is none. Changes nothing.

        Raises FacilitatorUnknown where nobody knows.
        """
        ...

    async def settle(self, version: int, payload: Json, requirements: Json, account_id: str) -> Settled:
        """Have a payment collected for a seller's account. Repeats get the first answer.

        Raises FacilitatorUnknown where nobody knows what became of it: it may have been collected.
        """
        ...


class FacilitatorUnknown(Exception):  # noqa: N818 - named for what is known
    """The facilitator hangs, answers with what is no answer, or lost its chain. Whether it did anything is not known."""


class Engine(Protocol):
    """Collects authorizations: each once, by one claim, alone or with others in one transaction."""

    async def settle(self, exact: Exact, account_id: str, wait_s: float) -> Settled:
        """Claim, submit, and wait until it is in a block or `wait_s` are over.

        The same authorization again waits for the first one and gets its answer, also after a restart. What the chain can
        refuse is simulated here, whoever verified before.
        """
        ...

    def find(self, identity: tuple[int, bytes, bytes, bytes]) -> Settlement | None:
        """Return the settlement of an authorization that is open or that ended lately."""
        ...


@dataclass(frozen=True, slots=True)
class Simulated:
    """What one authorization would do in the newest block: nothing wrong ("" ), or the token's own revert text."""

    reverted: bool
    text: str = ""


class Reverted(Exception):  # noqa: N818 - named for what is known
    """A call was executed, and the contract reverted it with `data`, as far as the node says."""

    data: bytes


class RelayChain(Protocol):
    """One chain as relayers see it: the newest state, from whichever endpoint answers. Never evidence.

    All methods raise ChainUnavailable.
    """

    chain_id: int

    async def head(self) -> Block:
        """Return the newest block; kept for a moment."""
        ...

    async def has_code(self, address: Address) -> bool:
        """Say whether there is code at an address; what has code is kept, what has none is kept for a few blocks."""
        ...

    async def simulate(self, relayer: Address, authorization: Authorization, signature: bytes, gas: int) -> Simulated:
        """Call transferWithAuthorization as it would be sent, in the newest state; questions of a moment go together."""
        ...

    async def call(
        self, sender: Address, to: Address, data: bytes, gas: int | None = None, fees: tuple[int, int] | None = None
    ) -> bytes:
        """Return what a call answers in the newest state. Raises Reverted.

        With `fees` (the most for a gas, and of it the tip, in wei) the contract sees the price that it will see in a block.
        """
        ...

    async def estimate(self, sender: Address, to: Address, data: bytes) -> int:
        """Return the gas that a transaction would need."""
        ...

    async def fees(self) -> tuple[int, int]:
        """Return (base fee, usual priority fee) in wei of the newest block."""
        ...

    async def account_nonce(self, address: Address) -> int:
        """Return how many transactions of an address are in blocks."""
        ...

    async def ether_wei(self, address: Address) -> int:
        """Return an address's balance of the chain's coin in wei."""
        ...

    async def send(self, raw: bytes) -> str:
        """Hand over a signed transaction: "" taken (or known already), else the node's reason."""
        ...

    async def mined(self, tx_hashes: Sequence[bytes], since_block: int) -> Mapping[bytes, tuple[Receipt, int]]:
        """Return receipts, with the fee in wei, of those of the transactions that are in a block of the newest chain."""
        ...

    async def authorization_used(self, token: Address, authorizer: Address, nonce: bytes) -> bool:
        """Return the token's authorizationState in the newest block."""
        ...

    async def used_logs(self, token: Address, authorizer: Address, nonce: bytes, since_block: int) -> tuple[Log, ...]:
        """Return the AuthorizationUsed and AuthorizationCanceled logs of one nonce up to the newest block."""
        ...
