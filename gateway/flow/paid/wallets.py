"""Accounts of bare wallets: whoever proves a wallet's key gets an API key of the account that the wallet opened.

Must not know headers or how a challenge was made.  Theory: a proof is good once, so it is used up before anything is given
for it; a key of the address itself speaks for it everywhere, a contract only where it stands: the same address on another
chain may be somebody else's, so contracts count on one chain alone.
"""

from dataclasses import dataclass
from typing import Protocol

import structlog

from contracts.codec import Address, ContractError, to_hex
from contracts.signature import SIGNATURE_BYTES, recover_address
from gateway.core.apikeys import KEYS, PROXY, READ, NewKey, new_key
from gateway.core.commands import AddKey, Attached, Refused, RevokeKey
from gateway.core.paid import WalletAccount
from gateway.core.paid_commands import BindWallet, TakeNonce
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.core.window import SlidingWindow
from gateway.flow.ids import Ids
from gateway.flow.paid.mpp_seller import MppSeller
from gateway.ports import Clock, Entropy, Store
from gateway.rails.x402.siwx import SignIn, SignInDesk, SignInRefused

SIWX, MPP = "siwx", "mpp"
KEY_NAME = "signed in by wallet"
SCOPES = (PROXY, READ, KEYS)
ALL = b"all"
HOUR_MS = 3_600_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WalletRules:
    """How much is given to wallets: live keys by signing in for one account; in an hour, keys for one wallet and new accounts.

    So many accounts for all together that no few sites keep every new wallet out.
    """

    keys_per_account: int = 10
    keys_per_hour: int = 30
    accounts_per_site: int = 20
    accounts_per_hour: int = 6_000


class ContractWallets(Protocol):
    """Asks contracts of one chain whether a signature is theirs. Implemented by gateway.chains.contract_wallets."""

    chain_id: int

    async def signed(self, address: Address, digest: bytes, signature: bytes) -> bool:
        """Say whether there is a contract at the address that calls the signature its own. Raises ChainUnavailable."""
        ...


class Wallets:
    """Takes proofs and hands out keys.

    `contracts` is the chain on which a contract's word counts; None where there is none, or where there are several.
    """

    def __init__(
        self,
        *,
        store: Store,
        contracts: ContractWallets | None,
        clock: Clock,
        entropy: Entropy,
        rules: WalletRules | None,
    ) -> None:
        self._store, self._contracts, self._clock, self._entropy = store, contracts, clock, entropy
        self._ids = Ids(clock, entropy)
        self._rules = rules or WalletRules()
        self._keys = SlidingWindow(self._rules.keys_per_hour, HOUR_MS)
        self._accounts = SlidingWindow(self._rules.accounts_per_hour, HOUR_MS)
        self._sites = SlidingWindow(self._rules.accounts_per_site, HOUR_MS)

    async def sign_in(self, asked: SignIn, site: bytes = b"") -> NewKey:
        """Return a new key for whoever signed, from an address at `site`.

        Raises SignInRefused for another's signature, Problem: challenge_used, too_many_calls, overloaded, bad_request.
        Also ChainUnavailable where only a contract could tell and its chain does not answer.
        """
        if not await self._signed(asked):
            raise SignInRefused("the signature is not the address's")
        return await self._admit(asked.address, SIWX, asked.nonce, site)

    async def proven(self, address: Address, challenge_id: str, site: bytes = b"") -> NewKey:
        """Return a new key for a wallet that answered an MPP challenge of ours. Raises Problem as `sign_in` does."""
        return await self._admit(address, MPP, challenge_id, site)

    async def _signed(self, asked: SignIn) -> bool:
        if len(asked.signature) == SIGNATURE_BYTES:
            try:
                if recover_address(asked.digest, asked.signature) == asked.address:
                    return True
            except ContractError:
                pass  # a contract's signature may have any form
        contracts = self._contracts
        if contracts is None or contracts.chain_id != asked.chain_id:
            return False
        return await contracts.signed(asked.address, asked.digest, asked.signature)

    async def _admit(self, address: Address, realm: str, challenge_id: str, site: bytes) -> NewKey:
        known, now_ms = self._store.view.wallet_accounts.get(address), self._clock.now_ms()
        self._require_room(address, site, now_ms, new=known is None)
        taken = await self._store.post(TakeNonce(realm, challenge_id, now_ms))
        if isinstance(taken, Refused):
            self._keys.uncount(address)  # whoever repeats a wallet's old proofs must not lock it out
            raise Problem(taken.code, taken.detail)
        account_id = known or await self._open(address, now_ms)
        await self._make_room(account_id, now_ms)
        made = new_key(account_id, KEY_NAME, SCOPES, (), now_ms, self._entropy.bytes)
        added = await self._store.post(AddKey(made.key))
        if isinstance(added, Refused):
            raise Problem(added.code, added.detail)
        log.info("wallet.signed_in", wallet=to_hex(address), account=account_id, key=made.key.id)
        return made

    async def _open(self, address: Address, now_ms: int) -> str:
        account_id = self._ids.new("acct")
        wallet = WalletAccount(address, account_id, now_ms)
        result = await self._store.post(BindWallet(wallet, f"wallet {to_hex(address)}", now_ms))
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        if isinstance(
            result, Attached
        ):  # somebody was first: a payment of it became final, or it signed in twice at once
            return result.record_id
        return account_id

    def _require_room(self, address: Address, site: bytes, now_ms: int, *, new: bool) -> None:
        """Count one, if there is room for it: each is rows for ever, and neither wallets nor signatures cost anything."""
        wait_s = self._keys.wait_s(address, now_ms)
        if wait_s:
            raise _too_many("this wallet has signed in too often; use a key that it has", wait_s)
        if new:
            wait_s = self._sites.wait_s(site, now_ms)
            if wait_s:
                raise _too_many("too many new wallets from there; a payment opens an account as well", wait_s)
            if self._accounts.wait_s(ALL, now_ms):
                raise Problem("overloaded", "too many new wallets at once; a payment opens an account as well")
            self._sites.count(site, now_ms)
            self._accounts.count(ALL, now_ms)
        self._keys.count(address, now_ms)

    async def _make_room(self, account_id: str, now_ms: int) -> None:
        """The oldest keys of earlier sign-ins end: whoever lost them all must still get in."""
        live = self._store.view.live_keys.get(account_id, {}).values()
        signed_in = sorted((key for key in live if key.name == KEY_NAME), key=_age)
        for key in signed_in[: max(0, len(signed_in) - self._rules.keys_per_account + 1)]:
            await self._store.post(RevokeKey(key.id, account_id, now_ms))


@dataclass(frozen=True, slots=True)
class WalletDoor:
    """What wallets sign in through: sign-in-with-x, and MPP's proof where a till takes a token on Tempo."""

    wallets: Wallets
    desk: SignInDesk
    mpp: MppSeller | None = None


def _too_many(detail: str, wait_s: int) -> Problem:
    return Problem("too_many_calls", detail, extra={"retry_after_s": wait_s})


def _age(key: ApiKey) -> tuple[int, str]:
    return key.created_at_ms, key.id
