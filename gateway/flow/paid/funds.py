"""Whether a payer has what a payment takes, asked before the payment is claimed.

Must not know rails, headers or what is bought.  Theory: a signature costs nothing and a claim costs us a row for ever, so
nobody gets a row for money that is not there; and since many signatures may be over the same money, what the payer's other
payments under way will take is not there either. The newest block is asked, which proves nothing and credits nobody.
"""

from collections.abc import Mapping
from typing import Final

from contracts.tokens import Token, TokenKey
from gateway.core.paid import TopUpState
from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.ports import Chain, ChainDisagreement, ChainUnavailable, Clock, Store

CLAIMED_WITHIN_MS: Final = 2_000  # how long a good answer counts as a payment under way, unless its row is there sooner
LOOK_AGAIN_S: Final = (0.5, 1.0)  # an endpoint may not have the newest block yet that another one told of


class Funds:
    """Looks at payers' balances. `chains` are by chain id; it closes none."""

    def __init__(self, store: Store, chains: Mapping[int, Chain], clock: Clock) -> None:
        self._store, self._chains, self._clock = store, chains, clock
        self._about_to_be: dict[bytes, tuple[TokenKey, bytes, int, int]] = {}  # nonce: token, payer, value, until when

    async def shortage(
        self, token: Token, payer: bytes, nonce: bytes, value_base: int, fee_base: int = 0
    ) -> str | None:
        """Return what is wrong with a payer's balance, in words, None where it has the payment and its fee (base units).

        `nonce` names the payment, as its order is kept: what was claimed already is not counted twice. Raises
        Problem: too_many_open_payments where the payer's other payments under way may take it, so that it is to wait;
        facilitator_unavailable where nobody can tell.
        """
        needed_base = value_base + fee_base
        balance_base = await self._balance(token, payer)
        if balance_base < needed_base:
            return f"the payer has {balance_base} base units, and the payment takes up to {needed_base}"
        if balance_base < needed_base + self._promised(token, payer, nonce):
            detail = "other payments under way may take what this wallet has; nothing was taken"
            raise Problem("too_many_open_payments", detail)
        # Until its row is there, or many requests at once would all be told of the same money.
        until_ms = self._clock.now_ms() + CLAIMED_WITHIN_MS
        self._about_to_be[nonce] = (token.key, payer, value_base, until_ms)
        return None

    def _promised(self, token: Token, payer: bytes, nonce: bytes) -> int:
        rows = list(self._store.view.topups.values())
        now_ms, there = self._clock.now_ms(), {each.nonce for each in rows}
        self._about_to_be = {
            name: each
            for name, each in self._about_to_be.items()
            if name not in there and not is_over(each[3], now_ms, CLAIMED_WITHIN_MS)
        }
        under_way = [
            (each.nonce, each.value_base or 0)
            for each in rows
            if each.state is TopUpState.PAYING
            and (each.chain_id, each.token, each.payer) == (token.chain_id, token.address, payer)
        ]
        under_way += [
            (name, value_base)
            for name, (key, by, value_base, _) in self._about_to_be.items()
            if (key, by) == (token.key, payer)
        ]
        return sum(value_base for name, value_base in under_way if name != nonce)

    async def _balance(self, token: Token, payer: bytes) -> int:
        chain = self._chains.get(token.chain_id)
        for pause_s in (0.0, *LOOK_AGAIN_S):
            if chain is None:
                break
            await self._clock.sleep(pause_s)
            try:
                return await chain.token_balance(token, payer, await chain.head())
            except ChainUnavailable:
                continue
            except ChainDisagreement:
                break
        detail = "the chain does not answer; nothing was taken, and the same payment may be sent again"
        raise Problem("facilitator_unavailable", detail)
