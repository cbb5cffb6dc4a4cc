"""What our facilitator refuses, on a real chain: each kind has its code, and nothing is ever sent for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import CallReverted, Limits, RpcEndpoint
from gateway.core.paid import SettlementState
from gateway.facilitator.verify import Reach, Verifier
from gateway.paid_ports import Exact, FacilitatorUnknown, Rejected, Simulated
from gateway.ports import Block, ChainUnavailable
from gateway.system import SystemClock
from sandbox.devtoken import Contract
from tests.unit.gateway.facilitator.facilitator_bed import (
    RELAYER,
    TX_HASH,
    Bed,
    ToldEngine,
    bed_on,
    relay_chain,
    settlement,
)
from tests.unit.gateway.facilitator.payments_bed import PAY_TO, TOKENS, Draft, Sent
from tests.unit.gateway.facilitator.refusals import CASES, Kind, broken, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from contracts.codec import Address
    from contracts.eip3009 import Authorization
    from sandbox.chain import LocalBase

USED = "invalid_exact_evm_nonce_already_used"
SIGNATURE = "invalid_exact_evm_payload_signature"
SIMULATION = "invalid_exact_evm_transaction_simulation_failed"
BALANCE = "invalid_exact_evm_insufficient_balance"
OWNER, COSIGNER, STRANGER = ("0x" + pair * 32 for pair in ("a1", "a2", "a3"))


@pytest.fixture
async def bed(shared_automine_base: LocalBase) -> AsyncIterator[Bed]:
    """Our facilitator on the shared chain; it takes windows of at most an hour."""
    chain, endpoint = relay_chain(shared_automine_base)
    yield bed_on(chain, window_max_s=3_600)
    await endpoint.close()


@pytest.fixture
def payer(shared_automine_base: LocalBase) -> Draft:
    """A payment of somebody who has the money."""
    who, key = shared_automine_base.dev_account(2)
    shared_automine_base.mint(who, 1_000_000)
    return Draft(key)


def submitted(base: LocalBase, draft: Draft, version: int = 2) -> Sent:
    """Return a payment that somebody else has already had collected."""
    sent = draft.sign(version)
    terms, signature = sent.authorization, sent.signature
    words = (terms["from"], terms["to"], int(terms["value"]), 0, int(terms["validBefore"]), terms["nonce"])
    call = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
    base.receipt(base.send(base.token_address, Contract.load("DevUSDC").call(call, *words, signature)))
    return sent


# what is good


@pytest.mark.parametrize("version", [1, 2])
async def test_a_good_payment_is_valid_as_often_as_one_asks(
    bed: Bed, payer: Draft, shared_automine_base: LocalBase, version: int
) -> None:
    """Verifying changes nothing: no block, no claim, and a second verifier gets the same verdict."""
    sent, before = payer.sign(version), shared_automine_base.head()
    for _ in range(3):
        found = await bed.facilitator.verify(sent.version, sent.payload, sent.requirements)
        assert not isinstance(found, Rejected)
        assert ("0x" + found.hex()) == sent.authorization["from"].lower()
    assert bed.engine.asked == []
    assert shared_automine_base.head() == before


@pytest.mark.parametrize("version", [1, 2])
async def test_a_good_payment_goes_to_the_engine_as_it_was_read(bed: Bed, payer: Draft, version: int) -> None:
    """The engine gets the seller's account and the longest wait, and its answer is the answer."""
    sent = payer.sign(version)
    found = await bed.settle(sent, "acc_7")
    assert (found.success, found.tx_hash, found.network) == (True, TX_HASH, sent.requirements["network"])
    ((exact, account_id, wait_s),) = bed.engine.asked
    assert (exact.signature, account_id, wait_s) == (sent.signature, "acc_7", 45.0)


# what is wrong with the payment itself


@pytest.mark.parametrize(("kind", "version"), CASES, ids=name_of)
async def test_a_wrong_payment_is_named_and_never_sent(
    bed: Bed, payer: Draft, shared_automine_base: LocalBase, kind: Kind, version: int
) -> None:
    """Verify and settle give the same code, the engine hears nothing of it, and no transaction is made."""
    before = shared_automine_base.head()["number"]
    sent = broken(kind, version, payer.key)
    assert await bed.reason(sent) == kind.reason
    found = await bed.settle(sent)
    assert (found.success, found.reason, found.tx_hash) == (False, kind.reason, None)
    assert bed.engine.asked == []
    assert shared_automine_base.head()["number"] == before


# what the chain refuses


@pytest.mark.parametrize("version", [1, 2])
async def test_a_payer_without_the_money_is_refused(bed: Bed, version: int) -> None:
    """A good signature over money that is not there."""
    assert await bed.reason(Draft(STRANGER).sign(version)) == BALANCE


async def test_a_collected_payment_is_refused(bed: Bed, payer: Draft, shared_automine_base: LocalBase) -> None:
    """Whoever collected it: the token's own state counts."""
    assert await bed.reason(submitted(shared_automine_base, payer)) == USED


async def test_a_paused_token_is_refused(bed: Bed, payer: Draft, automine_base: LocalBase) -> None:
    """The protocol has no word for it; the message has."""
    chain, endpoint = relay_chain(automine_base)
    own = bed_on(chain)
    automine_base.mint(automine_base.dev_account(2)[0], 1_000_000)
    assert await own.reason(payer.sign(2)) == ""
    automine_base.set_paused(True)
    found = await own.facilitator.verify(2, (sent := payer.sign(2)).payload, sent.requirements)
    assert isinstance(found, Rejected)
    assert (found.reason, "paused" in found.message) == (SIMULATION, True)
    await endpoint.close()


@pytest.mark.parametrize("who", ["payer", "payee"])
async def test_a_barred_account_is_refused(payer: Draft, automine_base: LocalBase, who: str) -> None:
    """Neither may be on the token's list."""
    chain, endpoint = relay_chain(automine_base)
    address = automine_base.dev_account(2)[0]
    automine_base.mint(address, 1_000_000)
    automine_base.set_blacklisted(address if who == "payer" else PAY_TO)
    assert await bed_on(chain).reason(payer.sign(1)) == SIMULATION
    await endpoint.close()


# contract wallets


@pytest.fixture
def wallet(shared_automine_base: LocalBase) -> str:
    """A contract wallet with money, of one owner."""
    return deployed(shared_automine_base, "0x" + "c1" * 20, OWNER)


def deployed(base: LocalBase, at: str, *keys: str) -> str:
    """Put a wallet of one or two keys at an address, and money into it."""
    signers = [Draft(key).sign(2).authorization["from"] for key in keys]
    if int.from_bytes(base.call(at, "0x8da5cb5b"), "big") == 0:
        base.place_contract_wallet(at, *signers)
    base.mint(at, 1_000_000)
    return at


async def test_a_contract_wallet_is_asked_itself(bed: Bed, wallet: str, shared_automine_base: LocalBase) -> None:
    """The owner's 65 bytes are good, and so are the 130 of a wallet of two keys: they go to the engine."""
    assert await bed.reason(Draft(OWNER, sender=wallet).sign(2)) == ""
    two = deployed(shared_automine_base, "0x" + "c2" * 20, OWNER, COSIGNER)
    sent = Draft(OWNER, sender=two, cosigner=COSIGNER).sign(1)
    assert len(sent.signature) == 130
    assert await bed.reason(sent) == ""
    assert (await bed.settle(sent)).success


@pytest.mark.parametrize("case", ["another key", "too long", "empty"])
async def test_what_a_contract_wallet_denies_is_refused(bed: Bed, wallet: str, case: str) -> None:
    """Only the wallet's own word counts, and nothing is claimed without it."""
    sent = Draft(STRANGER if case == "another key" else OWNER, sender=wallet).sign(2)
    sent.signature = {"another key": sent.signature, "too long": sent.signature + b"\1", "empty": b""}[case]
    assert await bed.reason(sent) == SIGNATURE
    assert (await bed.settle(sent)).reason == SIGNATURE
    assert bed.engine.asked == []


async def test_a_delegated_key_does_not_sign_for_itself(bed: Bed, shared_automine_base: LocalBase) -> None:
    """An address with code is a contract to the token, also where it has a key (EIP-7702): no ecrecover behind it."""
    own = Draft("0x" + "a7" * 32).sign(2).authorization["from"]
    deployed(shared_automine_base, own, OWNER)
    assert await bed.reason(Draft("0x" + "a7" * 32).sign(2)) == SIGNATURE
    assert await bed.reason(Draft(OWNER, sender=own).sign(2)) == ""


@pytest.mark.parametrize("harm", [1, 2, 0])
async def test_a_hostile_wallet_costs_nothing(bed: Bed, shared_automine_base: LocalBase, harm: int) -> None:
    """A wallet that burns all gas, or answers without end, or denies, is refused, and no transaction is made."""
    at = "0x" + "c9" * 20
    shared_automine_base.place_code(at, Contract.load("DevHostileWallet"))
    shared_automine_base.mint(at, 1_000_000)
    before = shared_automine_base.head()["number"]
    sent = Draft(OWNER, sender=at).sign(2)
    sent.signature = bytes((harm,)) + bytes(70)
    assert await bed.reason(sent) == SIGNATURE
    assert (await bed.settle(sent)).reason == SIGNATURE
    assert bed.engine.asked == []
    assert shared_automine_base.head()["number"] == before


# what was claimed before


def known(bed: Bed, sent: Sent) -> Exact:
    """Return a payment as it is read."""
    exact = bed.facilitator.read(sent.version, sent.payload, sent.requirements)
    assert isinstance(exact, Exact)
    return exact


@pytest.mark.parametrize(
    "state", [SettlementState.CLAIMED, SettlementState.SENT, SettlementState.MINED, SettlementState.FINAL]
)
async def test_what_is_claimed_here_is_not_valid_again(bed: Bed, payer: Draft, state: SettlementState) -> None:
    """In flight or collected: whoever verifies it now would sell a second time for it."""
    sent = payer.sign(2)
    exact = known(bed, sent)
    bed.engine.known[exact.authorization.key] = settlement(exact, state)
    assert await bed.reason(sent) == USED
    assert (await bed.settle(sent)).success


async def test_what_failed_for_good_says_why_and_what_was_never_sent_may_be_tried_again(bed: Bed, payer: Draft) -> None:
    """Its end decides between the two."""
    sent = payer.sign(2)
    exact = known(bed, sent)
    ended = settlement(exact, SettlementState.FAILED, ended_at_ms=5, reason="transaction_failed")
    bed.engine.known[exact.authorization.key] = ended
    assert await bed.reason(sent) == "transaction_failed"
    bed.engine.known[exact.authorization.key] = settlement(exact, SettlementState.FAILED, reason=BALANCE)
    assert await bed.reason(sent) == ""


@pytest.mark.parametrize("where", ["engine", "store"])
async def test_a_repeat_gets_its_answer_though_the_window_has_passed(bed: Bed, payer: Draft, where: str) -> None:
    """The money has moved: no clock turns that into a refusal."""
    sent = payer.change(valid_for_s=-500).sign(2)
    exact = known(bed, sent)
    (bed.engine.known if where == "engine" else bed.kept)[exact.authorization.key] = settlement(
        exact, SettlementState.FINAL, ended_at_ms=5
    )
    assert (await bed.settle(sent)).success
    assert len(bed.engine.asked) == 1


# a chain that does not answer, or says odd things


@dataclass
class OddChain:
    """The questions that a verifier asks, answered from a script."""

    chain_id: int = 8453
    text: str = "something else"
    used: bool = False
    views: dict[bytes, int] | None = None

    async def head(self) -> Block:
        return Block(1, bytes(32), SystemClock().now_ms() // 1000)

    async def has_code(self, address: Address) -> bool:
        return False

    async def simulate(self, relayer: Address, authorization: Authorization, signature: bytes, gas: int) -> Simulated:
        return Simulated(reverted=True, text=self.text)

    async def authorization_used(self, token: Address, authorizer: Address, nonce: bytes) -> bool:
        return self.used

    async def call(self, sender: Address, to: Address, data: bytes, gas: int | None = None) -> bytes:
        if self.views is None or data[:4] not in self.views:
            raise CallReverted("node", "eth_call", 3)
        return self.views[data[:4]].to_bytes(32, "big")


BALANCE_OF, PAUSED, BARRED = (bytes.fromhex(each) for each in ("70a08231", "5c975abb", "fe575a87"))


@pytest.mark.parametrize(
    ("chain", "reason", "word"),
    [
        (OddChain(used=True), USED, "something else"),
        (OddChain(views={BALANCE_OF: 9_999}), BALANCE, "something else"),
        (OddChain(views={BALANCE_OF: 10_000, PAUSED: 1}), SIMULATION, "paused"),
        (OddChain(views={BALANCE_OF: 10_000, PAUSED: 0, BARRED: 1}), SIMULATION, "barred"),
        (OddChain(views={BALANCE_OF: 10_000}), SIMULATION, "something else"),
        (OddChain(), SIMULATION, "something else"),
    ],
)
async def test_a_revert_without_a_known_text_is_looked_into(chain: OddChain, reason: str, word: str) -> None:
    """The token's own state tells the reason, and where it does not the code says no more than is known."""
    engine = ToldEngine()
    reaches = {8453: Reach(chain, (RELAYER,))}  # type: ignore[arg-type]
    verifier = Verifier(TOKENS, reaches, engine.find, SystemClock(), gas=200_000)
    sent = Draft(OWNER).sign(2)
    exact = verifier.read(sent.version, sent.payload, sent.requirements)
    assert isinstance(exact, Exact)
    found = await verifier.verify(exact)
    assert found is not None
    assert found.reason == reason
    assert word in found.message


async def test_a_chain_that_does_not_answer_is_unknown_and_never_a_bad_signature(payer: Draft) -> None:
    """Verify says that nobody knows; settle, which has claimed nothing, says that nothing was done."""
    endpoint = RpcEndpoint("http://127.0.0.1:9", Limits(connect_s=0.2, attempt_s=0.2, call_s=0.3, attempts=1))
    own = bed_on(RpcRelayChain([endpoint], 8453))
    with pytest.raises(FacilitatorUnknown):
        await own.reason(payer.sign(2))
    found = await own.settle(payer.sign(2))
    assert (found.success, found.reason, found.tx_hash) == (False, "unexpected_settle_error", None)
    assert own.engine.asked == []
    await endpoint.close()


async def test_an_engine_that_lost_its_chain_leaves_the_outcome_unknown(bed: Bed, payer: Draft) -> None:
    """It may have sent it: that must never look like a failure."""
    bed.engine.error = ChainUnavailable("gone")
    with pytest.raises(FacilitatorUnknown):
        await bed.settle(payer.sign(2))


async def test_what_is_supported_is_what_is_served(bed: Bed) -> None:
    """Both versions of each chain, the old name where it has one, and who signs the transactions."""
    found = await bed.facilitator.supported()
    assert found["kinds"] == [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:8453"},
        {"x402Version": 1, "scheme": "exact", "network": "base"},
    ]
    assert found["signers"] == {"eip155:*": ["0x7777777777777777777777777777777777777777"]}
    assert found["extensions"] == []


def test_a_token_that_nobody_could_collect_is_an_error_at_the_start() -> None:
    """A chain without an endpoint or a relayer, and one whose endpoint is another's."""
    for reaches in ({}, {8453: Reach(OddChain(), ())}, {8453: Reach(OddChain(chain_id=1), (RELAYER,))}):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="nobody collects"):
            Verifier(TOKENS, reaches, ToldEngine().find, SystemClock(), gas=1)
