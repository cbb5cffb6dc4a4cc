"""Paying a real MPP seller (mppx) on a real Tempo, in every way it can be asked and in the ways it can go wrong."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tempo_desk import FUNDS_BASE, LIVES_S, PARTNER, SMALL, SMALL_BASE, Desk, tempo_desk

from contracts.codec import checksum, parse_address, to_hex
from contracts.tokens import MODERATO_PATHUSD
from gateway.core.commands import PassDeadline
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.problems import Problem
from gateway.flow.promise import purchase_key
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

CREATE = "/v1/servers"
THIEF = "0x00000000000000000000000000000000000a11ce"


@pytest.fixture(scope="module")
def running() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture(scope="module")
def plain(running: LocalTempo) -> Iterator[SandboxProcess]:
    """A seller that is paid in the plain way."""
    with SandboxProcess.start("sandbox.dropmpp", {"rpc_url": running.rpc_url}) as process:
        yield process


@pytest.fixture
def tempo(running: LocalTempo) -> LocalTempo:
    """The chain, the seller's endpoint without faults."""
    running.shim.faults.clear()
    return running


@pytest.fixture
async def desk(tempo: LocalTempo, plain: SandboxProcess, tmp_path: Path) -> AsyncIterator[Desk]:
    """A gateway for the plain seller, whose book is empty."""
    async with tempo_desk(tempo, plain, tmp_path) as opened:
        _reset(opened)
        yield opened


@contextlib.asynccontextmanager
async def other(tempo: LocalTempo, directory: Path, config: dict[str, Any], **options: Any) -> AsyncIterator[Desk]:
    """A gateway for a seller that is configured so."""
    with SandboxProcess.start("sandbox.dropmpp", {"rpc_url": tempo.rpc_url} | config) as process:
        async with tempo_desk(tempo, process, directory, **options) as opened:
            yield opened


def _reset(desk: Desk) -> None:
    requests.post(desk.process.admin_url + "/admin/reset", timeout=10).raise_for_status()


async def refused(desk: Desk, *arguments: Any) -> Problem:
    """Run a call that must end in a problem."""
    with pytest.raises(Problem) as caught:
        await desk.run(*arguments)
    return caught.value


# as it should be


async def test_a_paid_call_is_delivered_settled_and_captured(desk: Desk) -> None:
    """One credential, one debit with our memo, under the hash that we knew; the house bears the fee; the books agree."""
    before = desk.income()
    reply = await desk.run("POST", CREATE, SMALL)
    assert (reply.status, reply.charge_base) == (201, SMALL_BASE)
    payment = await desk.payment(reply.payment_id)
    assert payment.authorization is not None
    keys = {value for request in desk.wire.seen for name, value in request.headers if name == "Idempotency-Key"}
    assert (len(desk.wire.seen), keys) == (2, {purchase_key(payment.id)})
    (debit,) = desk.debits()
    assert debit.memo == to_hex(payment.authorization.nonce)
    assert debit.tx_hash == to_hex(payment.authorization.tx_hash or b"")
    await desk.followed()
    closed = await desk.payment(payment.id)
    assert (closed.axes.transfer, closed.axes.charge) == (Transfer.SETTLED, Charge.CAPTURED)
    assert (closed.captured_base, desk.income() - before) == (SMALL_BASE, SMALL_BASE)
    await desk.until(desk.balanced)
    (evidence,) = desk.rows("SELECT value_base, fee_base FROM evidence WHERE kind = 'settled'")
    lost = FUNDS_BASE - desk.tempo.balance_of(to_hex(desk.wallet))
    assert evidence == {"value_base": SMALL_BASE, "fee_base": lost - SMALL_BASE}
    assert 0 < evidence["fee_base"] <= payment.authorization.fee_base
    assert desk.tasks() == []
    assert any(debit.tx_hash[2:] in str(row["body"]) for row in desk.rows("SELECT body FROM journal"))


async def test_a_sponsored_charge_with_splits(tempo: LocalTempo, tmp_path: Path) -> None:
    """The sponsor completes our hand-over: the wallet loses the price and nothing else, and the partner has its part."""
    config = {"fee_payer_key": tempo.dev_account(7)[1], "splits": [{"recipient": PARTNER, "bps": 1_000}]}
    async with other(tempo, tmp_path, config, payees=[PARTNER]) as desk:
        partner, income = tempo.balance_of(PARTNER), desk.income()
        reply = await desk.run("POST", CREATE, SMALL)
        assert reply.status == 201
        payment = await desk.payment(reply.payment_id)
        assert payment.authorization is not None
        assert (payment.authorization.tx_hash, payment.authorization.fee_base) == (None, 0)
        await desk.followed()
        assert (await desk.payment(payment.id)).axes.charge is Charge.CAPTURED
        assert tempo.balance_of(PARTNER) - partner == 2_340
        assert desk.income() - income == SMALL_BASE - 2_340
        assert tempo.balance_of(to_hex(desk.wallet)) == FUNDS_BASE - SMALL_BASE
        await desk.until(desk.balanced)
        assert desk.tasks() == []


async def test_a_seller_that_takes_only_hashes(tempo: LocalTempo, tmp_path: Path) -> None:
    """Where the operator allows it, we send; without that nothing is signed."""
    async with other(tempo, tmp_path, {"modes": ["push"]}, allow_push=True) as desk:
        reply = await desk.run("POST", CREATE, SMALL)
        assert reply.status == 201
        await desk.followed()
        assert (await desk.payment(reply.payment_id)).axes.charge is Charge.CAPTURED
        assert len(desk.debits()) == 1
    (tmp_path / "careful").mkdir()
    async with other(tempo, tmp_path / "careful", {"modes": ["push"]}) as desk:
        assert (await refused(desk, "POST", CREATE, SMALL)).code == "push_not_allowed"
        assert (desk.debits(), desk.open) == ([], [])


async def test_proofs_show_what_the_wallet_has_bought(desk: Desk) -> None:
    """Each answers its own challenge once; nothing is paid; every one is on record with its call."""
    bought = json.loads((await desk.run("POST", CREATE, SMALL)).body)["id"]
    debits = len(desk.debits())
    listed = await desk.run("GET", CREATE)
    assert [one["id"] for one in json.loads(listed.body)["servers"]] == [bought]
    assert (await desk.run("GET", CREATE)).status == 200
    assert (await desk.run("DELETE", f"{CREATE}/{bought}")).status == 200
    assert len(desk.debits()) == debits
    proofs = [json.loads(row["body"]) for row in desk.rows("SELECT body FROM journal WHERE kind = 'proof.signed'")]
    assert [(proof["route"], proof["account_id"]) for proof in proofs] == [
        ("list", "acc_1"),
        ("list", "acc_1"),
        ("delete", "acc_1"),
    ]
    assert len({proof["challenge_id"] for proof in proofs}) == 3


async def test_a_closed_catalogue_and_a_header_of_its_own(tempo: LocalTempo, tmp_path: Path) -> None:
    """Proof and payment go into the header that the seller names."""
    async with other(tempo, tmp_path, {"catalog": "proof", "requires_auth": True}) as desk:
        assert (await desk.run("GET", "/v1/catalog/sizes")).status == 200
        assert (await desk.run("POST", CREATE, SMALL)).status == 201
        names = [name for request in desk.wire.shown for name, value in request.headers if value.startswith("Payment ")]
        assert names == ["Payment-Authorization", "Payment-Authorization"]


@pytest.fixture
async def patient(tempo: LocalTempo, plain: SandboxProcess, tmp_path: Path) -> AsyncIterator[Desk]:
    """The same, with payments that live as long as they usually do: a crowd keeps the seller busy."""
    async with tempo_desk(tempo, plain, tmp_path, lives_s=25) as opened:
        _reset(opened)
        yield opened


async def test_a_hundred_at_once_are_a_hundred_debits(patient: Desk) -> None:
    """As many servers, credentials, debits and captures, and not one more of anything."""
    desk, before = patient, patient.income()
    calls = (desk.run("POST", CREATE, SMALL, idempotency_key=f"key-{n}") for n in range(100))
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} == {201}
    assert len({json.loads(reply.body)["id"] for reply in replies}) == 100
    assert len({request.headers for request in desk.wire.shown}) == 100
    await desk.followed(60)
    await desk.until(desk.balanced)
    assert len(desk.debits()) == 100
    assert desk.income() - before == 100 * SMALL_BASE
    ends = desk.rows("SELECT charge, count(*) AS n FROM payments GROUP BY charge")
    assert ends == [{"charge": "captured", "n": 100}]
    assert desk.tasks() == []


# as it may go


async def test_a_credential_shown_again_buys_nothing(desk: Desk) -> None:
    """Its seller refuses a second showing, and the chain would: one debit, whoever repeats it."""
    await desk.run("POST", CREATE, SMALL)
    (shown,) = desk.wire.shown
    again = await desk.wire.send(desk.vendor.origin, shown)
    assert again.status == 402
    await desk.followed()
    assert len(desk.debits()) == 1


@pytest.mark.parametrize("mode", ["drop_after", "error_after"])
async def test_p5_an_answer_lost_between_seller_and_chain(desk: Desk, mode: str) -> None:
    """P5: the seller sent the payment and cannot see it, and asks for another. Nobody pays twice; the chain tells."""
    before = desk.income()
    for method in ("eth_sendRawTransactionSync", "eth_sendRawTransaction"):
        fault = {"method": method, "mode": mode, "left": None}
        desk.tempo.shim.faults.add(fault)
    problem = await refused(desk, "POST", CREATE, SMALL)
    assert problem.code == "outcome_unknown"
    await desk.followed()
    (payment,) = desk.open
    assert (payment.axes.delivery, payment.axes.transfer, payment.axes.charge) == (
        *(Delivery.UNKNOWN, Transfer.SETTLED, Charge.HELD),
    )
    assert (desk.income() - before, len(desk.debits())) == (SMALL_BASE, 1)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    await desk.recovery.sweep()
    await desk.recovery.drain(5.0)
    assert len(desk.wire.shown) == 1
    await desk.store.post(PassDeadline(payment.id, payment.delivery_deadline_ms))
    assert (await desk.payment(payment.id)).disputed
    assert [kind for kind, _ in desk.tasks()] == ["dispute"]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "when": "after"},
        {"kind": "fail", "status": 502, "receipt": True},
        {"kind": "again", "work": True},
        {"kind": "refuse", "settle_after_s": 1},
    ],
)
async def test_p4_a_charge_that_the_seller_denies_or_forgets(desk: Desk, fault: dict[str, Any]) -> None:
    """P4: cut, a 502, asked again, collected later: unknown until the chain says paid, and never a second credential."""
    desk.fault(**fault, route="servers.create", paid=True)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    await desk.followed()
    (payment,) = desk.open
    assert (payment.axes.delivery, payment.axes.transfer) == (Delivery.UNKNOWN, Transfer.SETTLED)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    assert (len(desk.wire.shown), len(desk.debits())) == (1, 1)


async def test_p6_a_payment_that_is_never_collected_dies_with_its_window(desk: Desk) -> None:
    """P6: refused before it was sent. The hold stays until the window is over on chain; then the same call may buy."""
    desk.fault("refuse", "servers.create", paid=True)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    (payment,) = desk.open
    await desk.tracker.poll()
    assert desk.store.view.balances["acc_1"].held_base == SMALL_BASE
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    await desk.until(lambda: not desk.open, LIVES_S + 10)
    assert payment.authorization is not None
    assert desk.tempo.final()["timestamp"] >= payment.authorization.valid_before_s
    assert (await desk.payment(payment.id)).axes.charge is Charge.VOIDED
    assert desk.store.view.balances["acc_1"].held_base == 0
    assert desk.debits() == []
    assert (await desk.run("POST", CREATE, SMALL)).status == 201
    assert len(desk.debits()) == 1
    await desk.followed()


async def test_a_seller_whose_node_is_away_sends_nothing(desk: Desk) -> None:
    """Its own failure before anything moved looks like the others, and ends as dead."""
    for method in ("eth_call", "tempo_simulateV1", "eth_sendRawTransactionSync", "eth_sendRawTransaction"):
        desk.tempo.shim.faults.add({"method": method, "mode": "error", "left": None})
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "outcome_unknown"
    await desk.until(lambda: not desk.open, LIVES_S + 10)
    assert desk.debits() == []
    await desk.until(desk.balanced)


async def test_p4_under_every_fault_of_the_chains_endpoint_nobody_pays_twice(desk: Desk) -> None:
    """P4: as many debits as payments that the chain calls settled, each with its own memo, and never one too many."""
    methods = ("eth_sendRawTransactionSync", "eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_call", "*")
    modes = ("drop_before", "drop_after", "error", "error_after", "hang_after", "status")
    for number, (method, mode) in enumerate(itertools.product(methods, modes)):
        parameters = {"seconds": 1} if mode == "hang_after" else {}
        desk.tempo.shim.faults.add({"method": method, "mode": mode, "skip": number % 4, **parameters})
    calls = (desk.run("POST", CREATE, SMALL, idempotency_key=f"key-{n}") for n in range(40))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    served = [one for one in outcomes if not isinstance(one, BaseException)]
    assert {one.code for one in outcomes if isinstance(one, Problem)} == {"outcome_unknown"}
    assert len(served) < 40  # on a machine that is busy all 40 may outlive their agents' patience
    await desk.followed(LIVES_S + 20)
    ends = desk.rows("SELECT nonce, transfer FROM payments")
    paid = {to_hex(row["nonce"]) for row in ends if row["transfer"] == "settled"}
    assert len(ends) == len({request.headers for request in desk.wire.shown}) == 40
    assert sorted(debit.memo for debit in desk.debits()) == sorted(paid)
    assert max(1, len(served)) <= len(paid) <= 40
    await desk.until(lambda: desk.store.view.wallets[to_hex(desk.wallet), MODERATO_PATHUSD.asset_id].held_base == 0)
    assert desk.balanced()


# what is never paid


@pytest.mark.parametrize(
    ("terms", "code", "task"),
    [
        ({"recipient": THIEF}, "payee_not_allowed", "payee_unknown"),
        ({"splits": [{"recipient": THIEF, "amount": "0.001"}]}, "payee_not_allowed", "payee_unknown"),
        ({"realm": "elsewhere.test"}, "realm_not_allowed", None),
        ({"currency": "0x20c0000000000000000000000000000000000001"}, "asset_not_allowed", None),
        ({"chain_id": 4217}, "network_not_allowed", None),
        ({"amount": "5"}, "price_above_ceiling", None),
        ({"expires_in_s": -1}, "challenge_expired", None),
        ({"expires_in_s": 3}, "challenge_expired", None),
    ],
)
async def test_p8_a_crafted_challenge_is_not_paid(desk: Desk, terms: Any, code: str, task: str | None) -> None:
    """P8: another payee, split, realm, token, chain or price, or no time left: nothing is signed."""
    desk.fault("challenge", "servers.create", set=terms)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == code
    assert (desk.wire.shown, desk.open, desk.debits()) == ([], [], [])
    subject = f"drop/42431/{checksum(parse_address(THIEF))}"
    assert desk.tasks() == ([] if task is None else [(task, subject)])


async def test_a_free_route_that_asks_for_money_is_not_paid(desk: Desk) -> None:
    """Its document says that it is free: a task, and no proof either."""
    desk.fault("challenge", "servers.list", set={"amount": "0.01"})
    assert (await refused(desk, "GET", CREATE)).code == "unexpected_challenge"
    assert desk.wire.shown == []
    assert [kind for kind, _ in desk.tasks()] == ["unexpected_challenge"]


async def test_a_wait_is_honoured(desk: Desk) -> None:
    """The seller's Retry-After stops the payment, and the agent is told."""
    desk.fault("challenge", "servers.create", retry_after_s=7)
    problem = await refused(desk, "POST", CREATE, SMALL)
    assert (problem.code, problem.extra) == ("payment_deferred", {"retry_after_s": 7})
    assert desk.wire.shown == []


async def test_a_charge_beside_a_session_is_paid(desk: Desk) -> None:
    """What we do not serve spoils nothing beside it, on one line or on several."""
    session = 'Payment id="s", realm="127.0.0.1", method="tempo", intent="session", request="e30"'
    desk.fault("challenge", "servers.create", also=[session], join=True)
    assert (await desk.run("POST", CREATE, SMALL)).status == 201


async def test_only_sessions_are_on_offer(desk: Desk) -> None:
    """A typed refusal: a session is never taken for a charge."""
    lines = [
        f'Payment id="{intent}", realm="127.0.0.1", method="tempo", intent="{intent}", request="e30"'
        for intent in ("session", "subscription")
    ]
    desk.fault("challenge", "servers.create", headers=lines)
    assert (await refused(desk, "POST", CREATE, SMALL)).code == "unsupported_payment_intent"
    assert desk.wire.shown == []
