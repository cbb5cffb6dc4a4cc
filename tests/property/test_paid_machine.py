"""Generated lives of being paid: payments, orders, loans, refunds and settlements in any order, against a simple model.

The model knows no ledger and no rows: it keeps who owns which payment, which logs were booked, and what each account must have.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core import chart
from gateway.core import paid_commands as c
from gateway.core.commands import AddKey, Attached, Command, CreditAccount, Done, OpenAccount, Refused, Result
from gateway.core.paid import RefundState, RelayState, SettlementState, TopUpState
from gateway.core.records import HOUSE
from gateway.core.view import Balance
from gateway.store.core import StoreCore, connect
from tests.factories import (
    CHAIN_ID,
    NOW_MS,
    TOKEN,
    make_account,
    make_evidence,
    make_float,
    make_key,
    make_outcome,
    make_purchase,
    make_settled,
    make_terms,
)
from tests.paid_factories import (
    TILL,
    Desk,
    digest,
    make_incoming,
    make_received,
    make_refund,
    make_relay,
    make_seller,
    make_settlement,
    make_wallet,
    newer,
    paying,
)

ACCOUNTS = ("acc_1", "acc_2")
GRANTED = 8
CAP, OWN = 18, 15
AMOUNTS = st.integers(1, 12)
WHO = st.sampled_from(ACCOUNTS)
FEW = st.integers(1, 6)
LOGS = st.integers(1, 8)
ANY = st.integers(0, 99)  # one of those that there are
MORE = st.booleans()


@dataclass
class Ordered:
    """An order as the model knows it."""

    account: str
    amount: int
    payment: int
    state: TopUpState = TopUpState.PAYING
    lent: int = 0


@dataclass
class Received:
    """A log that was booked: of whom, how much, how much of it goes or went back."""

    account: str | None
    amount: int
    signed: bool
    unclaimed: bool
    back: int = 0


@dataclass
class Back:
    """A refund."""

    account: str
    log: int
    amount: int
    state: RefundState = RefundState.HELD


@dataclass
class Model:
    """Who owns which payment, and who has what."""

    posted: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(ACCOUNTS, GRANTED)))
    grants: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(ACCOUNTS, GRANTED)))
    owners: dict[int, str] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)  # payment: the settlement that claimed it first
    orders: dict[int, Ordered] = field(default_factory=dict)
    logs: dict[int, Received] = field(default_factory=dict)
    refunds: dict[int, Back] = field(default_factory=dict)
    loss: int = 0
    gas: int = 0

    def returning(self, account: str) -> int:
        """Return what is held for refunds."""
        return sum(r.amount for r in self.refunds.values() if r.account == account and r.state is RefundState.HELD)

    def lent(self, account: str) -> int:
        """Return what the house has lent an account."""
        return sum(o.lent for o in self.orders.values() if o.account == account)

    def available(self, account: str) -> int:
        """Return what an account may spend."""
        return self.posted[account] - self.returning(account)

    def recover(self, account: str, owed: int) -> None:
        """The account gives back what it has, the house bears the rest."""
        back = min(owed, self.available(account))
        self.posted[account] -= back
        self.loss += owed - back


class PaidMachine(RuleBasedStateMachine):
    """Posts generated commands, in groups of its own choosing, and checks the promises after each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="paid-machine-")
        self.desk = Desk(self.open())
        self.model = Model()
        self.pending: list[tuple[Command, Callable[[Result], None]]] = []
        self.bought = self.nonces = 0

    def open(self) -> StoreCore:
        """Open the database, without waiting for the disk: no power fails here."""
        core = StoreCore(connect(Path(self.folder.name) / "gateway.db"))
        core.db.execute("PRAGMA synchronous = OFF")
        return core

    def teardown(self) -> None:
        """Post what is left, and leave no files."""
        self.flush()
        self.desk.core.close()
        self.folder.cleanup()

    def send(self, command: Command, check: Callable[[Result], None], *, more: bool) -> None:
        """Queue a command with what the model makes of its result; post the group unless more is to come."""
        self.pending.append((command, check))
        if not more:
            self.flush()

    def flush(self) -> None:
        """Post the group, then let the model follow, result by result."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        results, step = self.desk.core.post([command for command, _ in pending])
        self.desk.view.advance(step)
        for (_, check), result in zip(pending, results, strict=True):
            check(result)

    @initialize()
    def found(self) -> None:
        """Two accounts with the operator's credit."""
        commands: list[Command] = [make_float()]
        for n, account in enumerate(ACCOUNTS, 1):
            commands += [OpenAccount(make_account(n)), AddKey(make_key(n, account_id=account))]
            commands.append(CreditAccount(account, GRANTED, f"start {n}", "", "me", NOW_MS))
        self.desk.post(*commands)

    # orders

    @rule(n=FEW, payment=FEW, account=WHO, amount=AMOUNTS, more=MORE)
    def order(self, n: int, payment: int, account: str, amount: int, *, more: bool) -> None:
        """A payment is taken for an order, perhaps one that has one, perhaps one that is something else's."""

        def check(result: Result) -> None:
            known = self.model.orders.get(n)
            owner = self.model.owners.get(payment)
            if known is None and owner is None and payment not in self.model.settled:
                assert result == Done()
                self.model.orders[n] = Ordered(account, amount, payment)
                self.model.owners[payment] = f"top_{n:04}"
            elif known is not None and (known.account, known.amount, known.payment) == (account, amount, payment):
                assert result == Attached(f"top_{n:04}")
            else:
                assert isinstance(result, Refused)
                taken = known is not None and known.payment != payment and known.state is not TopUpState.FAILED
                assert (result.code == "topup_taken") == taken
                assert result.code in {"topup_taken", "payment_reused", "changed_meanwhile"}

        topup = paying(n, payment=payment, account_id=account, amount_base=amount, client_token="")
        self.send(c.PutTopUp(topup, "paying", NOW_MS), check, more=more)

    @rule(n=FEW, account=WHO, amount=AMOUNTS, lent=MORE)
    def order_seen(self, n: int, account: str, amount: int, *, lent: bool) -> None:
        """A payment is taken and seen in a block, and perhaps lent on, in one go."""
        self.order(n, n, account, amount, more=False)
        known = self.model.orders.get(n)
        if known is not None and known.state is TopUpState.PAYING:
            self.move_order(sorted(self.model.orders).index(n), "seen")
        if lent:
            self.lend(n, more=False)

    @rule(which=ANY, event=st.sampled_from(["seen", "seen", "seen", "seen", "failed", "paying"]))
    def move_order(self, which: int, event: str) -> None:
        """An order's payment is seen, or lost again, or can never land."""
        self.flush()
        n = _one(self.model.orders, which)
        known, kept = self.model.orders.get(n), self.desk.view.topups.get(f"top_{n:04}")
        if known is None or kept is None:
            return
        ended = NOW_MS if event == "failed" else None
        moved = newer(kept, state=TopUpState(event), ended_at_ms=ended)
        assert self.desk.post(c.PutTopUp(moved, event, NOW_MS)) == Done()
        known.state = TopUpState(event)
        if event == "failed":
            owed, known.lent = known.lent, 0
            self.model.recover(known.account, owed)

    @rule(which=ANY, more=MORE)
    def lend(self, which: int, *, more: bool) -> None:
        """The house lends within its caps, on what was seen."""
        seen = [n for n, known in self.model.orders.items() if known.state is TopUpState.SEEN]
        n = _one(seen or self.model.orders, which)

        def check(result: Result) -> None:
            known = self.model.orders.get(n)
            if known is None:
                assert isinstance(result, Refused)
            elif known.lent:
                assert result == Done(changed=False)
            elif known.state is not TopUpState.SEEN:
                assert isinstance(result, Refused)
                assert result.code == "changed_meanwhile"
            elif sum(map(self.model.lent, ACCOUNTS)) + known.amount > CAP or (
                self.model.lent(known.account) + known.amount > OWN
            ):
                assert isinstance(result, Refused)
                assert result.code == "risk_cap"
            else:
                assert result == Done()
                known.lent = known.amount
                self.model.posted[known.account] += known.amount

        self.send(c.LendTopUp(f"top_{n:04}", CAP, OWN, NOW_MS), check, more=more)

    # money in

    @rule(log=LOGS, account=st.sampled_from([*ACCOUNTS, None]), amount=AMOUNTS, signed=MORE, more=MORE)
    def arrive(self, log: int, account: str | None, amount: int, *, signed: bool, more: bool) -> None:
        """A transfer lands that pays no order, perhaps by a log that was booked."""

        def check(result: Result) -> None:
            assert result == Done(changed=log not in self.model.logs)
            if log not in self.model.logs:
                self.model.logs[log] = Received(account, amount, signed, account is None)
                if account is not None:
                    self.model.posted[account] += amount

        self.send(self.booking(log, amount, None, account, signed=signed), check, more=more)

    @rule(log=LOGS, which=ANY, amount=AMOUNTS)
    def pay(self, log: int, which: int, amount: int) -> None:
        """The payment of an order lands, more or less than was lent on it, also after the order was given up."""
        self.flush()
        n = _one(self.model.orders, which)
        kept = self.desk.core.book.paid.topup(f"top_{n:04}")
        if kept is None:
            return
        known = self.model.orders[n]
        paid = newer(kept, state=TopUpState.CREDITED)
        result = self.desk.post(self.booking(log, amount, paid, known.account, signed=True))
        if log in self.model.logs:
            assert result == Done(changed=False)
        elif known.state is TopUpState.CREDITED:
            assert isinstance(result, Refused)
        else:
            assert result == Done()
            known.state, owed = TopUpState.CREDITED, max(0, known.lent - amount)
            self.model.posted[known.account] += max(0, amount - known.lent)
            known.lent = 0
            self.model.recover(known.account, owed)
            self.model.logs[log] = Received(known.account, amount, signed=True, unclaimed=False)

    def booking(self, log: int, amount: int, topup: Any, account: str | None, *, signed: bool) -> Command:
        """Return the command that books a log."""
        changes = {"amount_base": amount, "value_base": amount, "account_id": account, "refundable": signed}
        proof = make_received(log, value_base=amount)
        return c.BookIncoming(make_incoming(log, **changes), proof, topup, None, "", f"task_{log}", NOW_MS)

    @rule(which=ANY, account=st.sampled_from([*ACCOUNTS, None]), more=MORE)
    def resolve(self, which: int, account: str | None, *, more: bool) -> None:
        """The operator decides about what is nobody's, once."""
        log = _one(self.model.logs, which)

        def check(result: Result) -> None:
            received = self.model.logs.get(log)
            if received is not None and received.unclaimed:
                assert result == Done()
                received.unclaimed, received.account = False, account
                if account is not None:
                    self.model.posted[account] += received.amount
            else:
                assert isinstance(result, Refused) or not (isinstance(result, Done) and result.changed)

        self.send(c.ResolveIncoming(f"rcv_{log:04}", account, "", "me", NOW_MS), check, more=more)

    # money out

    @rule(account=WHO, amount=AMOUNTS)
    def buy(self, account: str, amount: int) -> None:
        """Something is bought, delivered and collected: of the operator's credit first."""
        self.flush()
        self.bought += 1
        n = 1_000 + self.bought
        whose = {"account_id": account, "key_id": f"key_{account[-1]}"}
        purchase = make_purchase(n, hold_base=amount, terms=make_terms(n, value_base=amount), **whose)
        result = self.desk.post(purchase)
        if amount > self.model.available(account):
            assert isinstance(result, Refused)
            return
        self.desk.post(make_outcome(n), make_settled(n, value_base=amount))
        self.model.posted[account] -= amount
        self.model.grants[account] = max(0, self.model.grants[account] - amount)

    @rule(n=FEW, which=ANY, stranger=st.sampled_from([None, None, None, *ACCOUNTS]), amount=AMOUNTS, more=MORE)
    def give_back(self, n: int, which: int, stranger: str | None, amount: int, *, more: bool) -> None:
        """A refund is asked for, perhaps of another's money, of too much, or of the operator's credit."""
        signed = [log for log, received in self.model.logs.items() if received.signed and received.account is not None]
        log = _one(signed or self.model.logs, which)
        owner = self.model.logs[log].account if log in self.model.logs else None
        account = stranger or owner or "acc_1"

        def check(result: Result) -> None:
            model, received = self.model, self.model.logs.get(log)
            if n in model.refunds:
                own = model.refunds[n].account == account
                assert result == Attached(f"ref_{n:04}") if own else isinstance(result, Refused)
                return
            paid_in = model.posted[account] - model.returning(account) - model.grants[account] - model.lent(account)
            fine = received is not None and received.account == account and received.signed and not received.unclaimed
            fine = fine and received is not None and amount <= received.amount - received.back and amount <= paid_in
            fine = fine and amount <= model.available(account)
            assert isinstance(result, Done) == fine, result
            if fine and received is not None:
                received.back += amount
                model.refunds[n] = Back(account, log, amount)

        if n in self.model.refunds and self.model.refunds[n].account != account:
            return  # its id is the first one's: another would be a bug of the caller's
        if any(isinstance(command, c.OpenRefund) for command, _ in self.pending):
            self.flush()
        refund = make_refund(n, log, account_id=account, amount_base=amount, value_base=amount)
        self.send(c.OpenRefund(refund, NOW_MS), check, more=more)

    @rule(which=ANY, settled=MORE)
    def end_refund(self, which: int, *, settled: bool) -> None:
        """A final block says that a refund has landed, or never will."""
        self.flush()
        n = _one(self.model.refunds, which)
        back, kept = self.model.refunds.get(n), self.desk.view.refunds.get(f"ref_{n:04}")
        if back is None or kept is None:
            return
        state = RefundState.SETTLED if settled else RefundState.DEAD
        kind, value = ("refunded", back.amount) if settled else ("unused", 0)
        proof = make_evidence(500 + n, kind, payment_id=None, value_base=value)
        assert self.desk.post(c.MoveRefund(newer(kept, state=state), proof, state.value, NOW_MS)) == Done()
        back.state = state
        if settled:
            self.model.posted[back.account] -= back.amount
        else:
            self.model.logs[back.log].back -= back.amount

    # settlements

    @rule(n=FEW, payment=FEW, whose=st.sampled_from(["acc_1", HOUSE]), more=MORE)
    def claim(self, n: int, payment: int, whose: str, *, more: bool) -> None:
        """Somebody asks us to collect a payment, perhaps one that is an order's or was claimed."""
        settlement = make_settlement(payment, id=f"stl_{payment:02}{n:02}", account_id=whose)

        def check(result: Result) -> None:
            model, owner = self.model, self.model.owners.get(payment)
            if payment in model.settled:
                assert result == Attached(model.settled[payment])
            elif owner is not None and whose != HOUSE:
                assert isinstance(result, Refused)
                assert result.code == "duplicate_settlement"
            else:
                assert result == Done()
                model.settled[payment] = settlement.id
                if whose != HOUSE:
                    model.owners[payment] = settlement.id

        self.send(c.ClaimSettlement(settlement, NOW_MS), check, more=more)

    @rule(which=ANY, event=st.sampled_from(["sent", "final", "failed"]), fee=st.integers(0, 5 * 10**9))
    def move(self, which: int, event: str, fee: int) -> None:
        """A settlement is sent, or its transaction is final: with it, or without it."""
        self.flush()
        payment = _one(self.model.settled, which)
        kept = self.desk.view.settlements.get(self.model.settled.get(payment, ""))
        if kept is None:
            return
        relay = self.desk.view.relays.get(f"rly_{payment:04}")
        if event == "sent":
            relay = make_relay(payment, kept.id) if relay is None else newer(relay)
            moved = newer(kept, state=SettlementState.SENT, relay_id=relay.id)
        elif relay is None:
            return
        else:
            relay = newer(relay, state=RelayState.FINAL, fee_wei=fee)
            ended = None if event == "final" else NOW_MS
            moved = newer(kept, state=SettlementState(event), ended_at_ms=ended)
            self.model.gas += -(-fee // 10**9)
        command = c.MoveSettlements((moved,), relay, event, NOW_MS)
        assert self.desk.post(command) == Done()
        again = self.desk.post(command)
        assert isinstance(again, Refused)
        assert again.code == "changed_meanwhile"

    # rights

    @rule(n=FEW, more=MORE)
    def rights(self, n: int, *, more: bool) -> None:
        """Wallets, challenges, terms and cursors, again and again."""
        view = self.desk.view
        bound = c.BindWallet(make_wallet(n, address=digest(f"wallet {n}")[:20]), "", NOW_MS)
        self.send(bound, lambda result: None if result == Done() else _is(result, Attached(f"acct_w{n}")), more=True)
        nonce = c.TakeNonce("siwx", f"challenge {n}", NOW_MS)
        self.send(nonce, lambda result: None, more=True)
        self.send(nonce, lambda result: _is(isinstance(result, Refused) and result.code, "challenge_used"), more=True)
        terms = make_seller() if "acc_1" not in view.sellers else newer(view.sellers["acc_1"], window_s=n)
        self.send(c.PutSeller(terms, "me", NOW_MS), lambda result: None, more=True)
        self.send(
            c.MoveTillCursor(CHAIN_ID, ((TILL, TOKEN),), n, digest(f"block {n}")),
            lambda result: None,
            more=more,
        )

    @rule()
    def restart(self) -> None:
        """The process ends and begins again."""
        self.flush()
        self.desk.core.close()
        before = self.desk.view
        self.desk = Desk(self.open())
        assert self.desk.view == before

    # promises

    @invariant()
    def everything_is_proven(self) -> None:
        """P1, P2, P11, P12, P13: journal, evidence, ledger, memory and view agree."""
        self.desk.prove()

    @invariant()
    def balances_are_the_models(self) -> None:
        """Each account has what an independent reckoning says, and the house bears the rest."""
        if self.pending:
            return
        for account in ACCOUNTS:
            expected = Balance(self.model.available(account), self.model.returning(account))
            assert self.desk.view.balances.get(account, expected) == expected
            assert self.desk.core.book.paid.grants.get(account, 0) == self.model.grants[account]
        assert self.desk.posted(chart.HOUSE_LOSS) == self.model.loss
        assert self.desk.posted(chart.HOUSE_RISK) == sum(map(self.model.lent, ACCOUNTS))
        assert self.desk.posted(chart.HOUSE_FEES, chart.gas_asset(CHAIN_ID)) == self.model.gas
        unclaimed = sum(log.amount for log in self.model.logs.values() if log.unclaimed)
        assert self.desk.posted(chart.HOUSE_UNCLAIMED) == -unclaimed


def _one(known: Collection[int], which: int) -> int:
    """Return one of the numbers, or one that is none of them where there are none."""
    numbers = sorted(known)
    return numbers[which % len(numbers)] if numbers else 99


def _is(found: object, expected: object) -> None:
    assert found == expected


PaidMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,  # the same lives every time; drop this and raise max_examples to look further
    phases=[Phase.generate],  # a life that fails is told at once: making it short takes longer than a test may
    suppress_health_check=list(HealthCheck),
)
test_being_paid_keeps_its_promises = PaidMachine.TestCase
