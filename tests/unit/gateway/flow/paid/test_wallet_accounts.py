"""Wallets sign in: one proof, one key, one account a wallet, and never another's (P9, P13)."""

import asyncio
from hashlib import sha256

import pytest
from till_rig import PAYER, PAYER_KEY, USD, TillRig

from contracts.codec import Address, checksum
from contracts.signature import address_of, load_key, sign_digest
from gateway.core.apikeys import NewKey
from gateway.core.problems import Problem
from gateway.flow.paid.wallets import KEY_NAME, WalletRules, Wallets
from gateway.rails.x402.siwx import SignIn, SignInRefused

CONTRACT = Address(b"\xcc" * 20)


class OneContract:
    """A chain on which one contract says yes to one signature."""

    chain_id = 8453

    async def signed(self, address: Address, digest: bytes, signature: bytes) -> bool:
        return (address, signature) == (CONTRACT, b"yes" + digest)


def signed_in(till: TillRig, key: bytes = PAYER_KEY, n: int = 1) -> SignIn:
    """Return what a wallet signs for a challenge of its own."""
    wallet = load_key(key)
    text = f"{n} {checksum(address_of(wallet))}"
    asked = SignIn(address_of(wallet), 8453, f"nonce {n}", b"", text)
    return SignIn(asked.address, 8453, asked.nonce, sign_digest(wallet, asked.digest), text)


def wallets_of(till: TillRig, rules: WalletRules | None = None, *, contracts: bool = False) -> Wallets:
    """Return the use case on a till's store."""
    chain = OneContract() if contracts else None
    return Wallets(store=till.store, contracts=chain, clock=till.clock, entropy=till.entropy, rules=rules)


async def refused(attempt: "asyncio.Future[NewKey] | object") -> str:
    """Return the code with which a sign-in is refused."""
    with pytest.raises(Problem) as caught:
        await attempt  # type: ignore[misc]
    return caught.value.code


async def test_a_wallet_gets_a_key_of_its_own_account_each_time(till: TillRig) -> None:
    """The first proof opens the account, the second is the same account's; both keys work."""
    wallets = wallets_of(till)
    first, second = await wallets.sign_in(signed_in(till)), await wallets.sign_in(signed_in(till, n=2))
    assert first.key.account_id == second.key.account_id == till.view.wallet_accounts[PAYER]
    assert first.key.id != second.key.id
    assert till.view.keys_by_id.keys() >= {first.key.id, second.key.id}


async def test_p13_a_proof_is_good_once_also_after_a_restart(till: TillRig) -> None:
    """Replayed it gives nothing, at once, later, or to the next process."""
    wallets, asked = wallets_of(till), signed_in(till)
    await wallets.sign_in(asked)
    assert await refused(wallets.sign_in(asked)) == "challenge_used"
    await till.store.close()
    till.restart()
    assert await refused(wallets_of(till).sign_in(asked)) == "challenge_used"
    assert len(till.rows("SELECT * FROM api_keys WHERE name LIKE 'signed%'")) == 1


async def test_p13_the_same_proof_many_times_at_once_is_one_key(till: TillRig) -> None:
    """Of twenty one gets a key."""
    wallets, asked = wallets_of(till), signed_in(till)
    outcomes = await asyncio.gather(*(wallets.sign_in(asked) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, NewKey) for outcome in outcomes) == 1
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Problem)} == {"challenge_used"}


async def test_many_proofs_of_one_new_wallet_at_once_open_one_account(till: TillRig) -> None:
    """Whoever comes second gets a key of what the first opened."""
    wallets = wallets_of(till)
    made = await asyncio.gather(*(wallets.sign_in(signed_in(till, n=n)) for n in range(8)))
    assert len({each.key.account_id for each in made}) == 1
    assert len(till.rows("SELECT * FROM wallet_accounts")) == 1


async def test_a_wrong_signature_is_nobodys_and_uses_nothing_up(till: TillRig) -> None:
    """Another's, another text's, a malleable or a cut one; the challenge is still good afterwards."""
    wallets, good = wallets_of(till), signed_in(till)
    other = sign_digest(load_key(sha256(b"mallory").digest()), good.digest)
    for signature in (other, good.signature[:64], bytes(65), b""):
        wrong = SignIn(good.address, 8453, good.nonce, signature, good.text)
        with pytest.raises(SignInRefused):
            await wallets.sign_in(wrong)
    moved = SignIn(good.address, 8453, good.nonce, good.signature, good.text + ".")
    with pytest.raises(SignInRefused):
        await wallets.sign_in(moved)
    assert till.view.wallet_accounts == {}
    assert (await wallets.sign_in(good)).key.account_id


async def test_a_contract_counts_on_its_chain_alone(till: TillRig) -> None:
    """ERC-1271 on the one chain that was configured; on another the same address is nobody's."""
    asked = SignIn(CONTRACT, 8453, "n", b"", "text")
    yes = SignIn(CONTRACT, 8453, "n", b"yes" + asked.digest, "text")
    elsewhere = SignIn(CONTRACT, 4217, "n", b"yes" + asked.digest, "text")
    with pytest.raises(SignInRefused):
        await wallets_of(till).sign_in(yes)
    with pytest.raises(SignInRefused):
        await wallets_of(till, contracts=True).sign_in(elsewhere)
    with pytest.raises(SignInRefused):
        await wallets_of(till, contracts=True).sign_in(asked)
    made = await wallets_of(till, contracts=True).sign_in(yes)
    assert till.view.wallet_accounts[CONTRACT] == made.key.account_id


async def test_the_oldest_key_makes_room_and_others_stay(till: TillRig) -> None:
    """At most so many live keys by signing in; whoever lost them all still gets in."""
    wallets = wallets_of(till, WalletRules(keys_per_account=3))
    made = []
    for n in range(5):
        till.clock.ms += 1
        made.append((await wallets.sign_in(signed_in(till, n=n))).key)
    live = [key.id for key in till.view.keys_by_id.values() if key.name == KEY_NAME and key.revoked_at_ms is None]
    assert live == [key.id for key in made[2:]]
    assert till.view.keys_by_id["key_1"].revoked_at_ms is None


async def test_new_wallets_are_bounded_in_an_hour_and_known_ones_are_not(till: TillRig) -> None:
    """Wallets cost nothing to make, so what they may fill is."""
    wallets = wallets_of(till, WalletRules(accounts_per_hour=2))
    keys = [sha256(b"wallet %d" % n).digest() for n in range(3)]
    for n in range(2):
        await wallets.sign_in(signed_in(till, keys[n], n))
    assert await refused(wallets.sign_in(signed_in(till, keys[2], 2))) == "overloaded"
    await wallets.sign_in(signed_in(till, keys[0], 3))
    till.clock.ms += 3_600_001
    await wallets.sign_in(signed_in(till, keys[2], 2))


async def test_one_wallet_signs_in_so_often_in_an_hour(till: TillRig) -> None:
    """M7: each time is rows for ever; what is replayed does not count, and another wallet is not kept out."""
    wallets = wallets_of(till, WalletRules(keys_per_hour=3))
    for n in range(3):
        await wallets.sign_in(signed_in(till, n=n))
        for _ in range(3 - n):
            assert await refused(wallets.sign_in(signed_in(till, n=n))) in {"challenge_used", "too_many_calls"}
    before = till.rows("SELECT count(*) FROM journal")
    with pytest.raises(Problem) as caught:
        await wallets.proven(PAYER, "an MPP challenge")
    assert (caught.value.code, caught.value.extra) == ("too_many_calls", {"retry_after_s": 3600})
    assert till.rows("SELECT count(*) FROM journal") == before
    await wallets.sign_in(signed_in(till, sha256(b"another").digest(), 9))
    till.clock.ms += 3_600_000
    await wallets.sign_in(signed_in(till, n=10))


async def test_one_site_does_not_keep_other_sites_wallets_out(till: TillRig) -> None:
    """M7: it makes so many accounts in an hour; those that it has sign in, and so do new ones of another."""
    wallets = wallets_of(till, WalletRules(accounts_per_site=2))
    keys = [sha256(b"wallet %d" % n).digest() for n in range(3)]
    for n in range(2):
        await wallets.sign_in(signed_in(till, keys[n], n), b"site")
    assert await refused(wallets.sign_in(signed_in(till, keys[2], 2), b"site")) == "too_many_calls"
    await wallets.sign_in(signed_in(till, keys[0], 3), b"site")
    await wallets.sign_in(signed_in(till, keys[2], 2), b"another site")


async def test_a_sign_in_looks_at_its_own_accounts_keys_only(till: TillRig) -> None:
    """M7: other accounts' keys, and those that were revoked, are not gone through."""
    wallets = wallets_of(till, WalletRules(keys_per_account=2))
    for n in range(4):
        till.clock.ms += 1
        made = await wallets.sign_in(signed_in(till, n=n))
    live = till.view.live_keys
    assert set(live) == {"acc_1", made.key.account_id}
    assert len(live[made.key.account_id]) == 2
    till.restart()
    assert {account_id: set(keys) for account_id, keys in till.view.live_keys.items()} == {
        account_id: set(keys) for account_id, keys in live.items()
    }


async def test_what_a_bare_wallet_paid_is_its_keys_to_spend(till: TillRig) -> None:
    """A payment opens the account, an MPP proof gives a key of it; a wallet that signs in first is credited there."""
    payment = till.pay()
    await till.order(payment, account_id=None)
    till.chain.settle(payment)
    early = await wallets_of(till).sign_in(signed_in(till))
    await till.poll()
    late = await wallets_of(till).proven(PAYER, "challenge")
    assert early.key.account_id == late.key.account_id
    assert till.available(late.key.account_id) == 5 * USD
    assert await refused(wallets_of(till).proven(PAYER, "challenge")) == "challenge_used"
