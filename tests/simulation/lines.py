"""What stands between one process and the world's chain and keys: delays, failures, and a record of every signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from gateway.ports import Block, ChainDisagreement, ChainUnavailable, Receipt

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from contracts.codec import Address
    from contracts.eip3009 import Authorization
    from contracts.logs import Log
    from contracts.mpp_proof import IdentityProof
    from contracts.tempo import TempoCharge
    from contracts.tokens import Token
    from tests.simulation.process import Process
    from wallets.signer import LocalSigner

__all__ = ["Line", "Recorded"]

T = TypeVar("T")


class Line:
    """The Chain port of one process: the scripted chain behind a line that delays and fails as the seed says."""

    def __init__(self, process: Process) -> None:
        self._process, self._chain = process, process.world.chain
        self.chain_id = self._chain.chain_id

    @property
    def witnesses(self) -> tuple[str, ...]:
        return self._chain.witnesses

    async def _ask(self, answer: Coroutine[Any, Any, T]) -> T:
        try:
            await self._process.pause()
            trouble = self._process.world.chain_trouble()
        except BaseException:
            answer.close()
            raise
        if trouble:
            answer.close()
            if trouble == "disagreement":
                raise ChainDisagreement("scripted", {"a": "one", "b": "other"})
            raise ChainUnavailable("scripted")
        return await answer

    async def head(self) -> Block:
        return await self._ask(self._chain.head())

    async def final(self) -> Block:
        return await self._ask(self._chain.final())

    async def block(self, number: int) -> Block:
        return await self._ask(self._chain.block(number))

    async def payment_logs(
        self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
    ) -> tuple[Log, ...]:
        return await self._ask(self._chain.payment_logs(token, wallets, from_block, to_block, nonce))

    async def incoming_logs(
        self, token: Token, payees: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        return await self._ask(self._chain.incoming_logs(token, payees, from_block, to_block))

    async def outgoing_logs(
        self, token: Token, payers: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        return await self._ask(self._chain.outgoing_logs(token, payers, from_block, to_block))

    async def sightings(self, token: Token, wallets: Sequence[bytes], from_block: int) -> tuple[Log, ...]:
        return await self._ask(self._chain.sightings(token, wallets, from_block))

    async def receipt(self, tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        return await self._ask(self._chain.receipt(tx_hash, at))

    async def authorization_used(self, token: Token, wallet: bytes, nonce: bytes, at: Block) -> bool:
        return await self._ask(self._chain.authorization_used(token, wallet, nonce, at))

    async def token_balance(self, token: Token, owner: bytes, at: Block) -> int:
        return await self._ask(self._chain.token_balance(token, owner, at))


class Recorded:
    """A signer whose every signature the world remembers: what must never be seen, and what may be collected."""

    def __init__(self, process: Process, signer: LocalSigner) -> None:
        self._process, self._signer = process, signer

    @property
    def address(self) -> Address:
        return self._signer.address

    def sign_authorization(self, auth: Authorization) -> bytes:
        signature = self._signer.sign_authorization(auth)
        self._process.world.signed(auth, signature)
        return signature

    def sign_charge(self, charge: TempoCharge) -> bytes:
        return self._signer.sign_charge(charge)

    def sign_refund(self, auth: Authorization) -> bytes:
        signature = self._signer.sign_refund(auth)
        self._process.world.signed(auth, signature)
        return signature

    def sign_refund_charge(self, charge: TempoCharge) -> bytes:
        return self._signer.sign_refund_charge(charge)

    def sign_proof(self, proof: IdentityProof) -> bytes:
        return self._signer.sign_proof(proof)

    def sign_transaction(self, request: Mapping[str, object]) -> bytes:
        return self._signer.sign_transaction(request)
