"""What the operator has at a vendor that charges an account: deposits that came in, and charges that we cannot explain.

Must not know how balances are read.  Theory: what is left there lies between what the books have posted and what they
would have if every open period cost its whole hold; above that band somebody paid in, below it the vendor took more than
its tariff says.  A balance that falls and comes back inside the band (a create that the vendor gave back) is neither.
"""

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, ObserveBalance, Result
from gateway.core.money import MAX_AMOUNT_BASE, format_amount
from gateway.core.records import Task


def decide_balance(book: Book, command: ObserveBalance) -> Result:
    """Follow a vendor's balance: book what came in; what is missing beyond `drift_base` is a task, and in suspense.

    A deposit made while things run is booked in two parts: what they have cost since their last bill comes with that bill.
    """
    balance_base = max(-MAX_AMOUNT_BASE, min(command.balance_base, MAX_AMOUNT_BASE))
    account = book.ledger.find(chart.vendor(command.vendor), chart.vendor_asset(command.vendor))
    posted_base, available_base = (0, 0) if account is None else (account.posted_base, account.available_base)
    known = book.vendor_balances.get(command.vendor)
    rise_base, short_base = balance_base - posted_base, available_base - balance_base
    changed = known is None or abs(balance_base - known[0]) > command.noise_base
    if rise_base > command.noise_base:
        _book_rise(book, command, balance_base, min(rise_base, MAX_AMOUNT_BASE))
    elif short_base > max(command.drift_base, command.noise_base):
        _book_shortage(book, command, balance_base, min(short_base, MAX_AMOUNT_BASE))
    elif not changed:
        return Done(changed=False)
    seen = (balance_base, command.at_ms)
    book.vendor_balances[command.vendor] = book.rows.vendor_balances[command.vendor] = seen
    return Done()


def _book_rise(book: Book, command: ObserveBalance, balance_base: int, rise_base: int) -> None:
    """What was missing is found again first; the rest is the operator's capital."""
    asset = chart.vendor_asset(command.vendor)
    account = book.account(chart.vendor(command.vendor), asset)
    missing = book.ledger.find(chart.vendor_suspense(command.vendor), asset)
    found_base = 0 if missing is None else min(rise_base, missing.posted_base)
    if missing is not None and found_base:
        book.book(book.ledger.move(account, missing, found_base), None)
    if rise_base > found_base:
        capital = book.account(chart.HOUSE_CAPITAL, asset)
        book.book(book.ledger.move(account, capital, rise_base - found_base), None)
    content = {"amount_base": rise_base, "found_again_base": found_base}
    book.journal(command.at_ms, "vendor.deposit", None, _content(command, balance_base) | content)


def _book_shortage(book: Book, command: ObserveBalance, balance_base: int, short_base: int) -> None:
    """The books follow the vendor, so that the next deposit is seen whole; whose loss it is a human decides."""
    asset = chart.vendor_asset(command.vendor)
    account, suspense = book.account(chart.vendor(command.vendor), asset), chart.vendor_suspense(command.vendor)
    book.book(book.ledger.move(book.account(suspense, asset), account, short_base), None)
    book.journal(command.at_ms, "vendor.short", None, _content(command, balance_base) | {"amount_base": short_base})
    detail = (
        f"{command.vendor} says {format_amount(balance_base)} is left, {format_amount(short_base)} less than the books "
        "say at the least: it charged more than its tariff explains"
    )
    book.put_task(Task(command.task_id, "vendor_balance_drift", command.vendor, detail, command.at_ms))


def _content(command: ObserveBalance, balance_base: int) -> dict[str, object]:
    return {"vendor": command.vendor, "balance_base": balance_base}
