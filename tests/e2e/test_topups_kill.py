"""`kill -9` at every edge of being paid, with real processes: whoever paid is credited once, and what goes back goes back once.

A process lives until the edge of one payment, the next one on the same directory finds it (P12). Half of the clients never
come back for their answer; the others repeat their request, byte for byte. What the chains, the book and the clients say is
compared when everything is final: P1 to P14 hold, and one payment is one transfer, one credit, and one answer.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from e2e_agent import Agent, eventually
from e2e_gateway import GatewayError
from hour_gateway import DrivenGateway
from topup_bed import BASE, PACK_BASE, TEMPO, Answer, Ask, Chains, Purse, TillHome, make_home, open_chains

from contracts.codec import Address, to_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LINES_AT_ONCE = 8
DIE_WITHIN_S, END_WITHIN_S = 120, 120
KILLED = -9
NOT_READY = 503  # a process that has just begun has seen no block
ARMED = "commit.RevokeKey.after"  # the edge that counts is the first one after a key was revoked
CALM_S = 0.3  # longer than it takes whoever was late for the payment before to hear so
PACK = "/v1/topups/packs/one"
SALE_BASE, REFUND_BASE = 7_000, 11_000
CROWD = 20
TOGETHER_WITHIN_S = 6
PAYEE = Address(bytes.fromhex("e7a11" + "0" * 35))  # of sellers' sales: nobody's else

X402, MPP, SALE, BACK, BACK_TEMPO = "x402 top-up", "Tempo top-up", "sale", "refund", "Tempo refund"

STEPS = ("before", "written", "after")
AROUND = ("before", "after")


def _edges(name: str, steps: Sequence[str] = AROUND) -> list[str]:
    return [f"{name}.{step}" for step in steps]


CLAIM = [*_edges("commit.ClaimSettlement", STEPS)]
COLLECT = [
    *_edges("commit.MoveSettlements.sent", STEPS),
    *_edges("relay.send"),
    *_edges("commit.MoveSettlements.mined"),
    *_edges("commit.MoveSettlements.final"),
]
CREDIT = [*_edges("commit.PutTopUp.seen"), *_edges("commit.BookIncoming", STEPS)]
EDGES = {
    X402: [*_edges("commit.PutTopUp.paying", STEPS), *CLAIM, *COLLECT, *CREDIT],
    MPP: [*_edges("commit.PutTopUp.paying", STEPS), *_edges("broadcast.send"), *CREDIT],
    SALE: [*CLAIM, *COLLECT],
    BACK: [
        *_edges("commit.OpenRefund", STEPS),
        *_edges("commit.MoveRefund.sent"),
        *CLAIM,
        *COLLECT,
        *_edges("commit.MoveRefund.settled", STEPS),
    ],
    BACK_TEMPO: [
        *_edges("commit.OpenRefund", STEPS),
        *_edges("commit.MoveRefund.sent"),
        *_edges("broadcast.send"),
        *_edges("commit.MoveRefund.settled", STEPS),
    ],
}
FIRST = {
    X402: "commit.PutTopUp.paying",
    MPP: "commit.PutTopUp.paying",
    SALE: "commit.ClaimSettlement",
    BACK: "commit.OpenRefund",
    BACK_TEMPO: "commit.OpenRefund",
}
"""What is written down of each before anything else."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is paid, at which edge the process dies, and whether the client comes again."""

    kind: str
    point: str
    repeats: bool

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.kind} {self.point} {'again' if self.repeats else 'gone'}"

    @property
    def chain(self) -> str:
        """Where it is paid."""
        return TEMPO if self.kind in {MPP, BACK_TEMPO} else BASE

    @property
    def lost(self) -> bool:
        """Whether the gateway died before it had written anything, and nobody ever asked again."""
        return not self.repeats and self.point in _edges(FIRST[self.kind], ("before", "written"))


def _cases(kind: str, *, both: bool = False) -> list[Case]:
    """Every edge; by turns the client comes again or does not, at the first ones (or at all) both."""
    points = EDGES[kind]
    found = [Case(kind, point, repeats=bool(n % 2)) for n, point in enumerate(points)]
    more = points if both else points[:3]
    return found + [Case(kind, point, repeats=not bool(n % 2)) for n, point in enumerate(more)]


CASES = [*_cases(X402, both=True), *_cases(MPP, both=True), *_cases(SALE), *_cases(BACK), *_cases(BACK_TEMPO)]
LINE_LENGTH = 8
_SENT = [*CLAIM, *_edges("commit.MoveSettlements.sent", STEPS), *_edges("relay.send")]
MARCHES = {
    Case(X402, "every edge", repeats=True): [
        *_edges("commit.PutTopUp.paying", STEPS),
        *_SENT,
        *_edges("commit.BookIncoming", ("before", "written")),
    ],
    Case(BACK, "every edge", repeats=True): [
        *_edges("commit.OpenRefund", STEPS),
        *_edges("commit.MoveRefund.sent"),
        *_SENT,
        *_edges("commit.MoveRefund.settled", ("before", "written")),
    ],
}
"""Edges that one payment meets one after the other, each in another process."""


def _lines() -> list[list[Case]]:
    """Cases that use one directory, one after the other."""
    found: list[list[Case]] = []
    for _, group in itertools.groupby(CASES, key=lambda case: case.kind):
        cases = list(group)
        count = -(-len(cases) // LINE_LENGTH)
        found += [cases[n::count] for n in range(count)]
    return found


LINES = _lines()


@dataclass(slots=True)
class Played:
    """One case: who asked for what, and what it was told, by the process that died and by those after it."""

    case: Case
    purse: Purse
    ask: Ask
    agent: Agent | None
    exit: int = 0
    told: list[Answer | None] = field(default_factory=list)

    @property
    def answers(self) -> list[Answer]:
        """Every answer that arrived."""
        return [answer for answer in self.told if answer is not None]


class Line:
    """One directory, and the processes on it."""

    def __init__(self, till: TillHome, cases: Sequence[Case]) -> None:
        self.till, self.cases = till, cases
        self.played: dict[Case, Played] = {}
        self._seller: Agent | None = None
        self._owner: tuple[Agent, Purse] | None = None

    @classmethod
    def played_on(cls, directory: Path, chains: Chains, cases: Sequence[Case]) -> Line:
        """Return a line that is over."""
        return cls(make_home(directory, chains, cases[0].chain), cases).play()

    @classmethod
    def marched_on(cls, directory: Path, chains: Chains, case: Case, points: Sequence[str]) -> Line:
        """Return a line of one payment that is over."""
        return cls(make_home(directory, chains, case.chain), [case]).march(points)

    def play(self) -> Line:
        """Die once for each case, end in peace, and be whole."""
        last: Played | None = None
        for number, case in enumerate(self.cases):
            with self._gateway(ARMED, case.point) as gateway:
                self._recover(gateway, last)
                played = self.played[case] = last = self._prepare(gateway, case, number)
                arm(gateway)
                played.told.append(reach(gateway, played.ask))
                played.exit = gateway.wait_end(DIE_WITHIN_S)
        with self._gateway() as gateway:
            self._recover(gateway, last)
        assert gateway.wait_end(1) == 0
        self.till.check()
        return self

    def march(self, points: Sequence[str]) -> Line:
        """Have one payment die at every one of these edges, its client coming again and again; end in peace, and be whole."""
        (case,) = self.cases
        with self._gateway() as gateway:
            gateway.wait_open()
            played = self.played[case] = self._prepare(gateway, case, 0)
        for point in points:
            with self._gateway(point) as gateway:
                # What was begun may be gone on with, up to the edge, before anybody is let in.
                with contextlib.suppress(GatewayError):
                    gateway.wait_open()
                    played.told.append(reach(gateway, played.ask))
                played.exit = gateway.wait_end(DIE_WITHIN_S)
                assert played.exit == KILLED, point
        with self._gateway() as gateway:
            self._recover(gateway, played)
        self.till.check()
        return self

    def _gateway(self, *points: str) -> DrivenGateway:
        return DrivenGateway(self.till.home, self.till.home.directory / "clock", points)

    def _recover(self, gateway: DrivenGateway, last: Played | None) -> None:
        gateway.wait_open()
        if last is not None:
            if last.case.repeats:
                last.told += [repeat(gateway, last.ask)]
            settle_down(self.till, str(last.case))
            if last.case.repeats:
                last.told += [repeat(gateway, last.ask)]

    def _prepare(self, gateway: DrivenGateway, case: Case, number: int) -> Played:
        if case.kind == SALE:
            seller = self._seller = self._seller or self._open_shop(gateway)
            purse = self.till.chains.purse(BASE)
            return Played(case, purse, purse.pay_seller(seller.key, PAYEE, SALE_BASE), seller)
        if case.kind in {BACK, BACK_TEMPO}:
            owner, purse = self._owner = self._owner or self._fund(gateway, case.chain)
            receipt = owner.ask("GET", "/v1/receipts").json()["entries"][0]["id"]
            headers = {"Authorization": f"Bearer {owner.key}", "Idempotency-Key": f"back{number}"}
            body = {"receipt": receipt, "amount": "0.011"}
            return Played(case, purse, Ask("POST", "/v1/refunds", headers, body), owner)
        purse = self.till.chains.purse(case.chain)
        # Who comes again has a key; who does not is a bare wallet, and gets an account when it is credited.
        agent = open_agent(gateway, f"payer{number}") if case.repeats else None
        return Played(case, purse, pay(gateway, case, purse, agent), agent)

    def _open_shop(self, gateway: DrivenGateway) -> Agent:
        gateway.operate("account_open", account="shop", name="A seller")
        gateway.operate("sellers_set", account="shop", gas_budget="0.01")
        secret = gateway.operate("key_new", account="shop", scopes=["settle"])["secret"]
        return Agent(gateway, "shop", secret)

    def _fund(self, gateway: DrivenGateway, chain: str) -> tuple[Agent, Purse]:
        agent, purse = open_agent(gateway, "owner"), self.till.chains.purse(chain)
        case = Case(MPP if chain == TEMPO else X402, "", repeats=True)
        assert repeat(gateway, pay(gateway, case, purse, agent)).status == 200
        settle_down(self.till, "the owner's top-up")
        return agent, purse


def arm(gateway: DrivenGateway) -> None:
    """From now on the edge kills."""
    status, _ = gateway.try_operate("account_open", account="fuse", name="Nobody")
    assert status in {200, 409}
    key_id = gateway.operate("key_new", account="fuse")["key"]["id"]
    time.sleep(CALM_S)
    gateway.operate("key_revoke", key=key_id)


def open_agent(gateway: DrivenGateway, name: str) -> Agent:
    """Open an account without credit, and make a key."""
    gateway.operate("account_open", account=name, name="A customer")
    return Agent(gateway, name, gateway.operate("key_new", account=name)["secret"])


def pay(gateway: DrivenGateway, case: Case, purse: Purse, agent: Agent | None) -> Ask:
    """Return the request that pays for a pack: with a key by version 2 of x402, without one by version 1."""
    headers = {} if agent is None else {"Authorization": f"Bearer {agent.key}"}
    if case.kind == MPP:
        return purse.pay_tempo(gateway.base_url, PACK, headers)
    return purse.pay_x402(gateway.base_url, PACK, headers, 1 if agent is None else 2)


def reach(gateway: DrivenGateway, ask: Ask) -> Answer | None:
    """Make a request once it can be taken; None where the gateway died over it."""
    found: list[Answer | None] = []

    def taken() -> bool:
        found.append(ask.send(gateway.base_url))
        return found[-1] is None or found[-1].status != NOT_READY

    eventually(taken, what="readiness")
    return found[-1]


def repeat(gateway: DrivenGateway, ask: Ask) -> Answer:
    """Make the same request until it is answered with more than "not known yet"; nothing else may come before."""

    def settled() -> Answer | None:
        answer = ask.send(gateway.base_url)
        assert answer is not None, "the gateway lives"
        assert answer.status in {200, 201, 202, NOT_READY}, answer
        pending = answer.status in {202, NOT_READY} or answer.body.get("errorReason") == "settlement_pending"
        return None if pending else answer

    found: Answer = eventually(settled, what="an answer", within_s=END_WITHIN_S, pause_s=0.3)
    return found


def settle_down(till: TillHome, what: str) -> None:
    """Wait until nothing is under way any more."""
    eventually(lambda: not till.open_things(), what=f"the end of {what}", within_s=END_WITHIN_S, pause_s=0.2)


@pytest.fixture(scope="module")
def chains() -> Iterator[Chains]:
    """Both chains."""
    with open_chains() as opened:
        yield opened


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """So many gateways live at a time."""
    with ThreadPoolExecutor(LINES_AT_ONCE) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(
    chains: Chains, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Future[tuple[TillHome, list[list[Played]]]]:
    """Many payers at once, twice; begun before the lines, for it takes longest."""
    return pool.submit(play_crowd, tmp_path_factory.mktemp("crowd") / "gw", chains)


@pytest.fixture(scope="module")
def lines(
    chains: Chains,
    pool: ThreadPoolExecutor,
    marches: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Case, Future[Line]]:
    """Every case's line, some at a time."""
    assert marches is not None
    played: dict[Case, Future[Line]] = {}
    for number, cases in enumerate(LINES):
        directory = tmp_path_factory.mktemp("line") / f"gw{number}"
        played |= dict.fromkeys(cases, pool.submit(Line.played_on, directory, chains, cases))
    return played


@pytest.fixture(scope="module")
def marches(
    chains: Chains, pool: ThreadPoolExecutor, crowd: object, tmp_path_factory: pytest.TempPathFactory
) -> dict[Case, Future[Line]]:
    """What dies again and again; it takes long as well, and so begins before the lines."""
    assert crowd is not None
    found: dict[Case, Future[Line]] = {}
    for case, points in MARCHES.items():
        directory = tmp_path_factory.mktemp("march") / "gw"
        found[case] = pool.submit(Line.marched_on, directory, chains, case, points)
    return found


def of_kind(*kinds: str) -> Callable[[Any], Any]:
    """Parametrise by the cases of some kinds."""
    return pytest.mark.parametrize("case", [case for case in CASES if case.kind in kinds], ids=str)


@of_kind(X402, MPP)
def test_a_payer_is_credited_exactly_once(lines: dict[Case, Future[Line]], case: Case) -> None:
    """One transfer, one receipt, one order, the price on the account; nothing at all of what was never written down."""
    check_top_up(lines[case].result(), case)


def check_top_up(line: Line, case: Case) -> None:
    """What chain, book and client say of a top-up is the same."""
    played = line.played[case]
    assert played.exit == KILLED
    check_credited(line.till, played, paid=not case.lost)
    ids = {answer.body["id"] for answer in played.answers}
    assert len(ids) == int(bool(played.answers))
    assert all(answer.status in {200, 202} for answer in played.answers)
    if case.repeats:
        assert played.answers[-1].body["credit"] == "available"


def check_credited(till: TillHome, played: Played, *, paid: bool) -> None:
    """The payer's transfers, receipts, orders and account say the same: PACK_BASE once, or nothing."""
    payer, chain = played.purse.address, played.case.chain
    transfers = till.chains.transfers(chain, payer, till.till)
    assert [value for _, value in transfers] == [PACK_BASE] * paid
    received = till.rows("SELECT * FROM incoming WHERE sender = ?", payer)
    assert [(to_hex(row["tx_hash"]), row["value_base"]) for row in received] == transfers  # P13, P14
    orders = till.rows("SELECT * FROM topups WHERE payer = ?", payer)
    assert [(row["state"], row["credited_base"]) for row in orders] == [("credited", PACK_BASE)] * paid
    if paid:
        assert (received[0]["state"], received[0]["topup_id"]) == ("credited", orders[0]["id"])
        account_id = received[0]["account_id"]
        assert played.agent is None or account_id == played.agent.account_id
        assert till.posted_base(f"agent:{account_id}", "USD") == -PACK_BASE
        assert proofs_of(till, received[0]["id"]) == [("received", transfers[0][0])]  # P14
    assert len(till.rows("SELECT 1 FROM wallet_accounts WHERE address = ?", payer)) == int(
        paid and played.agent is None
    )


def proofs_of(till: TillHome, closed_id: str) -> list[tuple[str, str]]:
    """Return (kind, transaction) of every chain fact that closed something."""
    found = till.rows("SELECT * FROM evidence WHERE payment_id = ?", closed_id)
    return [(row["kind"], to_hex(row["tx_hash"])) for row in found]


@of_kind(SALE)
def test_a_seller_s_payment_is_collected_once(lines: dict[Case, Future[Line]], case: Case) -> None:
    """The payee has the price once; the same payload again gets the first answer, with the one transaction."""
    line = lines[case].result()
    played, till = line.played[case], line.till
    assert played.exit == KILLED
    transfers = till.chains.transfers(BASE, played.purse.address, PAYEE)
    assert [value for _, value in transfers] == [SALE_BASE] * (not case.lost)
    rows = till.rows("SELECT * FROM settlements WHERE authorizer = ?", played.purse.address)
    assert [(row["state"], to_hex(row["tx_hash"])) for row in rows] == [("final", tx) for tx, _ in transfers]
    assert all(answer.body["success"] for answer in played.answers)
    assert {answer.body["transaction"] for answer in played.answers} <= {tx for tx, _ in transfers}
    assert len(played.answers) >= 2 * case.repeats


@of_kind(BACK, BACK_TEMPO)
def test_a_refund_leaves_once(lines: dict[Case, Future[Line]], case: Case) -> None:
    """One refund under its name, settled by one transfer to who had paid; none where nothing was written down."""
    check_refund(lines[case].result(), case)


def check_refund(line: Line, case: Case) -> None:
    """What chain, book and client say of a refund is the same."""
    played, till = line.played[case], line.till
    assert played.exit == KILLED
    claim = played.ask.headers["Idempotency-Key"]
    refunds = till.rows("SELECT * FROM refunds WHERE client_token = ?", claim)
    assert [(row["state"], row["amount_base"]) for row in refunds] == [("settled", REFUND_BASE)] * (not case.lost)
    transfers = till.chains.transfers(case.chain, till.till, played.purse.address)
    assert len({tx for tx, _ in transfers}) == len(transfers)
    for refund in refunds:
        assert transfers.count((to_hex(refund["tx_hash"]), refund["value_base"])) == 1
        assert proofs_of(till, refund["id"]) == [("refunded", to_hex(refund["tx_hash"]))]
    assert {answer.body["id"] for answer in played.answers} <= {row["id"] for row in refunds}
    if case.repeats:
        assert played.answers[-1].body["state"] == "settled"
    # No other transfer than those of the line's refunds, and the account has what is left.
    settled = till.rows("SELECT * FROM refunds")
    assert len(transfers) == len(settled) == sum(not each.lost for each in line.cases)
    assert till.posted_base("agent:owner", "USD") == len(settled) * REFUND_BASE - PACK_BASE
    (receipt,) = till.rows("SELECT * FROM incoming")
    assert receipt["refunded_base"] == len(settled) * REFUND_BASE


@pytest.mark.parametrize("case", MARCHES, ids=str)
def test_what_dies_at_every_edge_in_turn_is_paid_once(marches: dict[Case, Future[Line]], case: Case) -> None:
    """A dozen deaths of one payment are no worse than one."""
    (check_refund if case.kind == BACK else check_top_up)(marches[case].result(), case)


CROWD_EDGES = ("commit.MoveSettlements.sent.after", "relay.send.after", "commit.MoveSettlements.mined.written")


def play_crowd(directory: Path, chains: Chains) -> tuple[TillHome, list[list[Played]]]:
    """CROWD payers at once in one transaction, and the process dies with it; every other payer comes again."""
    till = make_home(directory, chains, BASE, batch_age_s=TOGETHER_WITHIN_S)
    clock, rounds = till.home.directory / "clock", list[list[Played]]()
    with ThreadPoolExecutor(CROWD) as together:
        for number, point in enumerate(CROWD_EDGES):
            with DrivenGateway(till.home, clock, (ARMED, point)) as gateway:
                gateway.wait_open()
                if not number:
                    gateway.operate("batches_deploy", chain_id=till.chains.base.chain_id)
                else:
                    _return(gateway, till, rounds[-1], together)
                rounds.append([_come(gateway, till, point, number, each) for each in range(CROWD)])
                arm(gateway)
                told = together.map(lambda played: played.ask.send(gateway.base_url), rounds[-1])
                for played, answer in zip(rounds[-1], told, strict=True):
                    played.told.append(answer)
                exited = gateway.wait_end(DIE_WITHIN_S)
                for played in rounds[-1]:
                    played.exit = exited
        with DrivenGateway(till.home, clock) as gateway:
            gateway.wait_open()
            _return(gateway, till, rounds[-1], together)
    till.check()
    return till, rounds


def _come(gateway: DrivenGateway, till: TillHome, point: str, number: int, each: int) -> Played:
    case = Case(X402, point, repeats=bool(each % 2))
    purse = till.chains.purse(BASE)
    agent = open_agent(gateway, f"payer{number}x{each}") if case.repeats else None
    return Played(case, purse, pay(gateway, case, purse, agent), agent)


def _return(gateway: DrivenGateway, till: TillHome, payers: list[Played], together: ThreadPoolExecutor) -> None:
    again = [played for played in payers if played.case.repeats]
    for played, answer in zip(again, together.map(lambda each: repeat(gateway, each.ask), again), strict=True):
        played.told.append(answer)
    settle_down(till, "a batch")


@pytest.mark.parametrize("number", range(len(CROWD_EDGES)), ids=CROWD_EDGES)
def test_a_crowd_in_one_transaction_is_credited_once_each(
    crowd: Future[tuple[TillHome, list[list[Played]]]], number: int
) -> None:
    """Twenty authorizations, one transaction, killed with it: twenty transfers and twenty credits."""
    till, rounds = crowd.result()
    payers = rounds[number]
    assert len({played.purse.address for played in payers}) == CROWD
    for played in payers:
        assert played.exit == KILLED
        check_credited(till, played, paid=True)
        assert [answer.body["state"] for answer in played.answers if answer.status != 200] == []
    carried = till.rows("SELECT * FROM relays WHERE purpose = 'batch' ORDER BY account_nonce")
    assert [relay["settlement_ids"].count("stl_") for relay in carried] == [CROWD] * len(CROWD_EDGES)


def test_the_whole_account_of_a_line_is_its_payments(lines: dict[Case, Future[Line]]) -> None:
    """Over all cases: every payer's credit is a transfer to the till that the chain has, and there is no other."""
    for line in {future.result() for future in lines.values()}:
        received = line.till.rows("SELECT * FROM incoming")
        assert {row["state"] for row in received} <= {"credited"}
        owed = line.till.rows("SELECT * FROM ledger_accounts WHERE code LIKE 'agent:%' AND asset = 'USD'")
        credits_base = sum(row["credits_posted"] - row["debits_posted"] for row in owed)
        refunded_base = sum(row["refunded_base"] for row in received)
        assert credits_base == sum(row["value_base"] for row in received) - refunded_base
