"""What T7 and T10 commit: accounts with money, purchases from hold to capture, and the disk's own rate beside them."""

import itertools
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from gateway.core.commands import (
    AddKey,
    Command,
    CreditAccount,
    Done,
    OpenAccount,
    Purchase,
    RecordOutcome,
    RecordSettled,
)
from gateway.core.ids import make_id
from gateway.core.payment import Delivery
from gateway.store.core import StoreCore, connect
from tests.bench.figures import Measure, Run, Stopwatch
from tests.factories import (
    NOW_MS,
    make_account,
    make_answer,
    make_attempt,
    make_float,
    make_key,
    make_limits,
    make_outcome,
    make_payment,
    make_settled,
    make_terms,
)

CREDIT_BASE, FLOAT_BASE, VALUE_BASE = 10**10, 10**14, 1_000
SEALED_BYTES = 512
_GROUP = 500
_PAGE = b"\0" * 4096
_LIMITS = make_limits(open_payments_per_vendor=10**6, unpaid_deliveries=10**6)

Cycle = tuple[Purchase, RecordOutcome, RecordSettled]


class Cycles:
    """Makes cycles that were never made before, over accounts 1 to `accounts` in turn."""

    _numbers = itertools.count(1)  # shared, so that no two contests make the same payment

    def __init__(self, accounts: int) -> None:
        self._accounts = accounts

    def take(self, count: int) -> list[Cycle]:
        """Return so many."""
        return [self._cycle(next(self._numbers)) for _ in range(count)]

    def _cycle(self, number: int) -> Cycle:
        account = 1 + number % self._accounts
        chance = sha256(b"%d" % number).digest()
        payment = make_payment(
            number,
            id=make_id("pay", NOW_MS + number, chance),
            account_id=f"acc_{account}",
            key_id=f"key_{account}",
            idempotency_key=chance.hex(),
            terms=make_terms(number, value_base=VALUE_BASE),
            hold_base=VALUE_BASE,
        )
        attempt = make_attempt(number, payment_id=payment.id, value_base=VALUE_BASE, sealed_request=bytes(SEALED_BYTES))
        answer = make_answer(number, payment_id=payment.id, sealed=bytes(SEALED_BYTES))
        outcome = make_outcome(number, Delivery.DELIVERED, payment_id=payment.id, answer=answer)
        settled = make_settled(number, value_base=VALUE_BASE)
        return Purchase(payment, attempt, _LIMITS, NOW_MS), outcome, RecordSettled(payment.id, settled.evidence, NOW_MS)


def seed(path: Path, accounts: int) -> None:
    """Make a database whose accounts have money and keys, and whose wallet has a float."""
    core = StoreCore(connect(path))
    core.post([make_float(FLOAT_BASE)])
    for first in range(1, accounts + 1, _GROUP):
        commands: list[Command] = []
        for n in range(first, min(first + _GROUP, accounts + 1)):
            key = make_key(n, account_id=f"acc_{n}")
            credit = CreditAccount(f"acc_{n}", CREDIT_BASE, f"credit {n}", "", "bench", NOW_MS)
            commands += [OpenAccount(make_account(n)), AddKey(key), credit]
        results, _ = core.post(commands)
        assert all(isinstance(result, Done) for result in results)
    core.close()


def fsyncs(path: Path, count: int) -> Measure:
    """Return the measure of appending 4 KiB and waiting for the disk."""

    def run(_number: int) -> Mapping[str, float]:
        descriptor, each_us = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), []
        with Stopwatch() as watch:
            for _ in range(count):
                began = time.perf_counter()
                os.write(descriptor, _PAGE)
                os.fsync(descriptor)
                each_us.append((time.perf_counter() - began) * 1e6)
        os.close(descriptor)
        return Run(count, watch.seconds, each_us).figures(watch.cpu_s)

    return run
