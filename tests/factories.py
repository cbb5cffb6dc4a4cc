"""Ready-made valid values: every argument is optional, and `n` keeps several of a kind apart."""

import re
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.core import commands as c
from gateway.core.book import Book, BookRules, Rows
from gateway.core.commands import Command, Result
from gateway.core.decide_meter import HELD
from gateway.core.ledger import Account, Ledger
from gateway.core.meter import next_hold_base
from gateway.core.payment import Axes, Delivery, Fault, Transfer
from gateway.core.records import (
    AgentAccount,
    Answer,
    ApiKey,
    Attempt,
    AuthorizationTerms,
    Budget,
    Evidence,
    Freeze,
    Meter,
    Payment,
    PeriodTerms,
    Resource,
    Task,
    VendorEvent,
)
from gateway.core.server import (
    Candidate,
    Fleet,
    Hook,
    HookDelivery,
    HookDeliveryState,
    Quote,
    Server,
    Snapshot,
    SshKey,
)
from gateway.store.core import StoreCore, connect

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CHAIN_ID = 8453
ASSET = "USDC@8453"
TOKEN = bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913")
WALLET = bytes(range(20))
PAYEE = b"\x77" * 20
VENDOR = "vpsagent"
METERED = "cryptovps"
_MARKED = re.compile(r"(?:(.*)-)?(g[a-z2-7]{16})", re.ASCII | re.DOTALL)


def never_frozen(_wallet: bytes) -> bool:
    """Answer that no wallet is frozen, for the guards of tests that freeze nothing."""
    return False


def unmark(marked: object) -> tuple[str, str] | None:
    """Return (the name, perhaps cut; the token) of a name that carries our mark at its end, or None."""
    found = _MARKED.fullmatch(marked) if isinstance(marked, str) else None
    return None if found is None else (found[1] or "", found[2])


def ledger_account(ledger: Ledger, code: str, asset: str) -> Account:
    """Return an account that must be there."""
    account = ledger.find(code, asset)
    assert account is not None, f"no account {code} in {asset}"
    return account


def make_terms(n: int = 1, **changes: Any) -> AuthorizationTerms:
    """Return an authorization of 9 tokens with a nonce of its own."""
    terms = AuthorizationTerms(
        chain_id=CHAIN_ID,
        token=TOKEN,
        asset=ASSET,
        wallet=WALLET,
        pay_to=PAYEE,
        nonce=sha256(b"nonce %d" % n).digest(),
        value_base=9_000_000,
        valid_before_s=NOW_MS // 1000 + 900,
        signed_at_block=100,
    )
    return replace(terms, **changes)


def make_payment(n: int = 1, **changes: Any) -> Payment:
    """Return a presented payment of USD 9 by key_1 of acc_1; `terms` may be changed as well."""
    payment = Payment(
        id=f"pay_{n:04}",
        account_id="acc_1",
        key_id="key_1",
        request_id=f"req_{n:04}",
        vendor=VENDOR,
        route="rent",
        method="POST",
        path="/rent",
        fingerprint=sha256(b"request %d" % n).digest(),
        idempotency_key=None,
        represent="yes",
        terms=make_terms(n),
        hold_base=9_000_000,
        created_at_ms=NOW_MS,
        delivery_deadline_ms=NOW_MS + HOUR_MS,
        axes=Axes(transfer=Transfer.PRESENTED),
    )
    return replace(payment, **changes)


def make_attempt(n: int = 1, **changes: Any) -> Attempt:
    """Return the first attempt of payment n."""
    attempt = Attempt(f"pay_{n:04}", 1, 9_000_000, NOW_MS // 1000 + 900, b"sealed request %d" % n, NOW_MS)
    return replace(attempt, **changes)


def make_answer(n: int = 1, **changes: Any) -> Answer:
    """Return a sealed answer to payment n."""
    return replace(Answer(f"pay_{n:04}", 200, b"sealed answer %d" % n, NOW_MS), **changes)


def make_evidence(n: int = 1, kind: str = "settled", **changes: Any) -> Evidence:
    """Return evidence about payment n: a log of its own if it was collected, a block alone if it is unused."""
    block = 200 + n
    evidence = Evidence(
        kind=kind,
        chain_id=CHAIN_ID,
        block_number=block,
        block_hash=sha256(b"block %d" % block).digest(),
        block_time_s=NOW_MS // 1000 + n,
        witnesses=("rpc-a", "rpc-b"),
        payment_id=f"pay_{n:04}",
    )
    if kind != "unused":
        log_index = None if kind == "failed" else n
        evidence = replace(evidence, tx_hash=sha256(b"tx %d" % n).digest(), log_index=log_index)
    if kind in {"settled", "outflow"}:
        evidence = replace(evidence, value_base=9_000_000)
    if kind == "outflow":
        evidence = replace(evidence, payment_id=None)
    return replace(evidence, **changes)


def make_account(n: int = 1, **changes: Any) -> AgentAccount:
    """Return an agent's account."""
    return replace(AgentAccount(f"acc_{n}", f"Agent {n}", NOW_MS), **changes)


def make_budget(n: int = 1, **changes: Any) -> Budget:
    """Return a budget of USD 20 an hour on everything."""
    return replace(Budget(f"bud_{n}", 20_000_000, 3_600), **changes)


def make_key(n: int = 1, **changes: Any) -> ApiKey:
    """Return an unlimited key of acc_1."""
    key = ApiKey(f"key_{n}", "acc_1", sha256(b"key %d" % n).digest(), f"Key {n}", ("spend", "read"), (), NOW_MS)
    return replace(key, **changes)


def make_resource(n: int = 1, **changes: Any) -> Resource:
    """Return a server that payment n bought."""
    resource = Resource(
        vendor=VENDOR,
        ref=f"srv_{n:04}",
        account_id="acc_1",
        payment_id=f"pay_{n:04}",
        kind="server",
        state="running",
        surrogate_digest=sha256(b"surrogate %d" % n).digest(),
        sealed_secret=b"sealed secret %d" % n,
        expires_at_ms=NOW_MS + 24 * HOUR_MS,
        as_of_ms=NOW_MS,
    )
    return replace(resource, **changes)


def make_meter(n: int = 1, **changes: Any) -> Meter:
    """Return a thing that acc_1 orders at an account vendor for USD 0.0147 a started hour."""
    meter = Meter(
        id=f"met_{n:04}",
        vendor=METERED,
        account_id="acc_1",
        key_id="key_1",
        kind="server",
        token=f"gw-{n:04}",
        label="web",
        hourly="0.0147",
        monthly=None,
        unit_s=3_600,
        rule="started_units",
        while_running=False,
        created_at_ms=NOW_MS,
    )
    return replace(meter, **changes)


def make_period_payment(n: int, meter: Meter, starts_at_ms: int, ends_at_ms: int, **changes: Any) -> Payment:
    """Return payment n for a meter's next period, with the hold that it needs unless `hold_base` says another."""
    hold_base = changes.pop("hold_base", next_hold_base(meter, starts_at_ms, ends_at_ms))
    terms = PeriodTerms(meter.vendor, meter.id, meter.seq + 1, hold_base, starts_at_ms, ends_at_ms)
    whose = {"account_id": meter.account_id, "key_id": meter.key_id, "vendor": meter.vendor}
    return make_payment(n, **{"terms": terms, "hold_base": hold_base, "axes": HELD, **whose, **changes})


def make_order(n: int = 1, *, hours: int = 24, limits: c.AccountLimits | None = None, **changes: Any) -> c.Purchase:
    """Return the purchase of meter n and its first period by payment n; `meter` and payment may be changed."""
    meter = changes.pop("meter", None) or make_meter(n)
    starts_at_ms = meter.created_at_ms
    meter = replace(meter, billed_until_ms=starts_at_ms)
    ends_at_ms = starts_at_ms + hours * HOUR_MS
    changes = {"axes": Axes(transfer=Transfer.PREPARED), "created_at_ms": starts_at_ms, **changes}
    payment = make_period_payment(n, meter, starts_at_ms, ends_at_ms, **changes)
    attempt = make_attempt(n, payment_id=payment.id, value_base=payment.terms.value_base)
    return c.Purchase(payment, attempt, limits or make_limits(), starts_at_ms, meter)


def make_start(**changes: Any) -> c.MeterStart:
    """Return what a vendor says of a thing that costs what was quoted, from now on."""
    return replace(c.MeterStart("0.0147", None, "server", NOW_MS), **changes)


def make_created(n: int = 1, **changes: Any) -> c.RecordOutcome:
    """Return the vendor's answer that the thing of payment n exists as it was quoted."""
    resource = make_resource(n, vendor=METERED)
    return make_outcome(n, **{"resource": resource, "metered": make_start(), "at_ms": NOW_MS, **changes})


def make_next(n: int, meter: Meter, *, hours: int = 24, at_ms: int = 0, **changes: Any) -> c.OpenPeriod:
    """Return payment n for the period that follows those that are held."""
    starts_at_ms = meter.held_until_ms
    payment = make_period_payment(n, meter, starts_at_ms, starts_at_ms + hours * HOUR_MS, **changes)
    return c.OpenPeriod(payment, at_ms or starts_at_ms)


def make_balance(balance_base: int = 50_000_000, n: int = 1, **changes: Any) -> c.ObserveBalance:
    """Return a look at what the operator has at the account vendor: to the cent, a drift of a dollar."""
    look = c.ObserveBalance(METERED, balance_base, 10_000, 1_000_000, f"task_balance_{n}", NOW_MS)
    return replace(look, **changes)


def make_identity(n: int = 1, **changes: Any) -> c.RecordProof:
    """Return a proof of identity that answers challenge n."""
    proof = c.RecordProof(
        *(WALLET, "dropmpp", "list_servers", "acc_1", "key_1", f"req_{n}", f"challenge {n}", "drop.example"),
        chain_id=4217,
        at_ms=NOW_MS,
    )
    return replace(proof, **changes)


def make_event(n: int = 1, **changes: Any) -> VendorEvent:
    """Return an account vendor's event n: that server n is gone, told a second after it."""
    event = VendorEvent(METERED, f"evt_{n:08}", "server.deleted", f"srv_{n:04}", "destroyed", NOW_MS, NOW_MS + 1_000)
    return replace(event, **changes)


def make_task(n: int = 1, **changes: Any) -> Task:
    """Return an open task."""
    return replace(Task(f"task_{n}", "payee", f"subject {n}", "look at this", NOW_MS), **changes)


def make_freeze(**changes: Any) -> Freeze:
    """Return a freeze of everything."""
    return replace(Freeze("all", "drill", NOW_MS, "operator"), **changes)


def make_limits(**changes: Any) -> c.AccountLimits:
    """Return caps that are out of the way."""
    limits = c.AccountLimits(
        exposure_base=10**15,
        open_payments_per_vendor=10_000,
        calls_per_vendor=10_000,
        unpaid_deliveries=10_000,
        unpaid_window_ms=24 * HOUR_MS,
    )
    return replace(limits, **changes)


def make_purchase(n: int = 1, *, limits: c.AccountLimits | None = None, at_ms: int = 0, **changes: Any) -> c.Purchase:
    """Return the purchase of payment n; further arguments change the payment, `terms` included."""
    payment = make_payment(n, **changes)
    attempt = make_attempt(n, payment_id=payment.id, value_base=payment.terms.value_base)
    return c.Purchase(payment, attempt, limits or make_limits(), at_ms or payment.created_at_ms)


def make_outcome(n: int = 1, delivery: Delivery = Delivery.DELIVERED, **changes: Any) -> c.RecordOutcome:
    """Return a vendor's answer to payment n, without anything for the agent."""
    return replace(
        c.RecordOutcome(f"pay_{n:04}", delivery, Fault.NONE, 200, answer=None, resource=None, at_ms=NOW_MS + n),
        **changes,
    )


def make_settled(n: int = 1, **changes: Any) -> c.RecordSettled:
    """Return proof that payment n was collected; the arguments change the evidence."""
    return c.RecordSettled(f"pay_{n:04}", make_evidence(n, **changes), NOW_MS + n)


def make_dead(n: int = 1, **changes: Any) -> c.RecordDead:
    """Return proof that payment n can never be collected; the arguments change the evidence."""
    return c.RecordDead(f"pay_{n:04}", make_evidence(n, **{"kind": "unused", **changes}), NOW_MS + n)


def make_credit(n: int = 1, **changes: Any) -> c.CreditAccount:
    """Return an operator credit of USD 100 to acc_1."""
    return replace(c.CreditAccount("acc_1", 100_000_000, f"credit {n}", "pilot", "operator", NOW_MS), **changes)


def make_float(balance_base: int = 1_000_000_000, n: int = 1, **changes: Any) -> c.ObserveFloat:
    """Return a look at the wallet's token balance."""
    seen = make_evidence(n, kind="unused", payment_id=None)
    return replace(c.ObserveFloat(WALLET, ASSET, balance_base, seen, f"task_float_{n}", NOW_MS), **changes)


def make_outflow(n: int = 1, **changes: Any) -> c.RecordOutflow:
    """Return a collection from the wallet that no payment explains; the arguments change the evidence."""
    return c.RecordOutflow(WALLET, ASSET, make_evidence(n, kind="outflow", **changes), f"task_out_{n}", NOW_MS)


def make_candidate(n: int = 1, **changes: Any) -> Candidate:
    """Return a way to fulfil an order for USD 9 at first."""
    return replace(Candidate(VENDOR, f"plan-{n}", "eu", 9_000_000), **changes)


def make_server(n: int = 1, **changes: Any) -> Server:
    """Return a server that was just ordered by acc_1."""
    server = Server(
        id=f"srv_{n:04}",
        account_id="acc_1",
        key_id="key_1",
        name=f"box {n}",
        client_token=f"token {n}",
        fingerprint=sha256(b"order %d" % n).digest(),
        sealed_spec=b"sealed spec",
        candidates=(make_candidate(1), make_candidate(2)),
        created_at_ms=NOW_MS,
        as_of_ms=NOW_MS,
        vendor=VENDOR,
        plan="plan-1",
        region="eu",
    )
    return replace(server, **changes)


def make_quote(n: int = 1, **changes: Any) -> Quote:
    """Return a quote that is good for an hour."""
    quote = Quote(f"quo_{n:04}", "acc_1", make_candidate(n), '{"plan": {}}', b"sealed spec", NOW_MS, NOW_MS + HOUR_MS)
    return replace(quote, **changes)


def make_snapshot(n: int = 1, **changes: Any) -> Snapshot:
    """Return a snapshot of srv_0001."""
    snapshot = Snapshot(f"snp_{n:04}", "acc_1", "srv_0001", VENDOR, f"snap-{n}", "before", "pending", NOW_MS, NOW_MS)
    return replace(snapshot, **changes)


def make_ssh_key(n: int = 1, **changes: Any) -> SshKey:
    """Return an SSH key that no vendor knows yet."""
    key = SshKey(f"sshk_{n:04}", "acc_1", f"laptop {n}", f"ssh-ed25519 AAAA{n}", f"SHA256:{n}", NOW_MS)
    return replace(key, **changes)


def make_fleet(n: int = 1, **changes: Any) -> Fleet:
    """Return a fleet of two servers for a day and USD 50."""
    fleet = Fleet(
        id=f"flt_{n:04}",
        account_id="acc_1",
        key_id="key_1",
        name=f"fleet {n}",
        client_token=f"fleet token {n}",
        fingerprint=sha256(b"fleet %d" % n).digest(),
        sealed_spec=b"sealed need",
        count=2,
        until_ms=NOW_MS + DAY_MS,
        budget_base=50_000_000,
        created_at_ms=NOW_MS,
    )
    return replace(fleet, **changes)


def make_hook(n: int = 1, **changes: Any) -> Hook:
    """Return an endpoint that wants to hear of servers."""
    hook = Hook(f"hook_{n:04}", "acc_1", f"https://agent.example/{n}", b"sealed", ("server.*",), "mine", NOW_MS)
    return replace(hook, **changes)


def make_delivery(n: int = 1, hook: int = 1, **changes: Any) -> HookDelivery:
    """Return journal row `n` on its way to an endpoint."""
    delivery = HookDelivery(f"hook_{hook:04}", n, "acc_1", HookDeliveryState.PENDING, 0, NOW_MS, NOW_MS)
    return replace(delivery, **changes)


def open_core(
    folder: Path | None = None, rules: BookRules | None = None, core: type[StoreCore] = StoreCore
) -> StoreCore:
    """Return a store core on `folder`'s database, or on one in memory."""
    return core(connect(":memory:" if folder is None else folder / "gateway.db"), rules)


def seeded(core: StoreCore, *, key: ApiKey | None = None) -> StoreCore:
    """Fund acc_1 with USD 100 and the wallet with 1000 tokens, and give acc_1 a key; return the core."""
    core.post([c.OpenAccount(make_account()), c.AddKey(key or make_key()), make_credit(), make_float()])
    return core


def post(core: StoreCore, command: Command) -> Result:
    """Post one command alone and return its result."""
    return core.post([command])[0][0]


def book_state(book: Book) -> dict[str, Any]:
    """Return everything that the book knows, comparable, with counts of zero left out."""
    state: dict[str, Any] = {
        "accounts": {a.id: tuple(getattr(a, f.name) for f in fields(a)) for a in book.ledger.accounts()},
        "open": dict(book.ledger._open),
        "next": (book.ledger._next_account_id, book.ledger._next_transfer_id),
        "chain": (book.chain.seq, book.chain.head),
        "unanswered": {
            (account_id, fingerprint): list(found.items())
            for account_id, places in book.unanswered._by_account.items()
            for fingerprint, found in places.items()
        },
        "open_count": {k: n for k, n in book.open_count.items() if n},
        "exposure_base": {k: n for k, n in book.exposure_base.items() if n},
        "metered_count": {k: n for k, n in book.metered_count.items() if n},
        "open_periods": {meter_id: dict(held) for meter_id, held in book.open_periods.items()},
    }
    for name in (
        *("agent_accounts", "keys", "keys_by_digest", "freezes", "budget_uses", "open_payments"),
        *("answers_kept", "unpaid_accounts"),
        *("payees", "prices", "cursors", "meters", "vendor_balances", "pending_events"),
        *("servers", "server_refs", "fleets", "hooks", "deliveries", "told_seq"),
    ):
        state[name] = type(getattr(book, name))(getattr(book, name))
    paid = book.paid
    for name in (
        "settlements",
        "relays",
        "topups",
        "refunds",
        "sellers",
        "wallet_accounts",
        "till_cursors",
        "lent",
        "returning",
    ):
        state[f"paid {name}"] = dict(getattr(paid, name))
    state["paid funders"] = set(paid.funders)
    state["paid grants"] = {account_id: left for account_id, left in paid.grants.items() if left}
    return state


def dump(core: StoreCore) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    names = [row[0] for row in core.db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {name: sorted(map(tuple, core.db.execute(f"SELECT * FROM {name}")), key=repr) for name in names}


def leaves_nothing(core: StoreCore, command: Command) -> Result:
    """Post a command and return its result, after asserting that it left neither rows nor any change in memory."""
    memory, disk = book_state(core.book), dump(core)
    results, step = core.post([command])
    assert step.rows == Rows()
    assert book_state(core.book) == memory
    assert dump(core) == disk
    return results[0]
