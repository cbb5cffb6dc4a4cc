"""Open payments, orders and refunds that a configuration would leave without anybody to end them.

Must not know where the configuration comes from.  Theory (P5): a hold leaves only by evidence, so its chain must stay
configured until the last one has ended, and its vendor too, because only the vendor's module can find the answer again.
A wallet or token that left the configuration strands nothing: the tracker follows what was promised from it. A till does:
what comes to it or leaves it is seen only where it is read.
"""

from collections import Counter
from collections.abc import Collection

from gateway.core.paid import TillPlace, TopUp, TopUpState
from gateway.core.view import View

PAYABLE = frozenset({TopUpState.PAYING, TopUpState.SEEN})  # a payment was claimed for it that may land


def stranded(view: View, chain_ids: Collection[int], vendor_names: Collection[str]) -> list[str]:
    """Say what must be configured again before the gateway may start, with the payments that wait for it; or nothing."""
    payments = view.open_payments.values()
    terms = (p.authorization for p in payments)
    chains = Counter(t.chain_id for t in terms if t is not None and t.chain_id not in chain_ids)
    vendors = Counter(p.vendor for p in payments if p.vendor not in vendor_names)
    missing = [(count, f"chain {chain_id}") for chain_id, count in sorted(chains.items())]
    missing += [(count, f"vendor {name}") for name, count in sorted(vendors.items())]
    return [
        f"{what} is not configured, and {count} open payment{'s need' if count > 1 else ' needs'} it: "
        "configure it again until they have ended"
        for count, what in missing
    ]


def stranded_at_tills(view: View, places: Collection[TillPlace]) -> list[str]:
    """Say which tills and tokens must be configured again, with what waits for them; or nothing.

    `places` is what will be read. An order says in which token it is paid and not to which till: that is one of those that
    were read until the last stop, and of these each must be read until no order can be paid there any more.
    """
    refunds = Counter((r.chain_id, r.till, r.token) for r in view.refunds.values())
    orders = Counter(_paid_in(order) for order in view.topups.values() if order.state in PAYABLE)
    waiting: Counter[TillPlace] = Counter({place: count for place, count in refunds.items() if place not in places})
    for place in _last_read(view):
        if place not in places:
            waiting[place] += orders[place[0], place[2]]
    found = [
        f"till 0x{till.hex()} with token 0x{token.hex()} on chain {chain_id} is not configured, and {count} open "
        f"order{'s or refunds need' if count > 1 else ' or refund needs'} it: configure it again until they have ended"
        for (chain_id, till, token), count in sorted(waiting.items())
        if count
    ]
    read = {(chain_id, token) for chain_id, _, token in (*places, *view.till_cursors)}
    found += [
        f"no till takes token 0x{(token or b'').hex()} on chain {chain_id}, and {count} open "
        f"order{'s are' if count > 1 else ' is'} paid in it: configure one again until they have ended"
        for (chain_id, token), count in sorted(orders.items(), key=repr)
        if (chain_id, token) not in read
    ]
    return found


def _paid_in(order: TopUp) -> tuple[int | None, bytes | None]:
    return order.chain_id, order.token


def _last_read(view: View) -> list[TillPlace]:
    """What was configured until the last stop: on each chain, what is read as far as anything is."""
    furthest: dict[int, int] = {}
    for place, cursor in view.till_cursors.items():
        furthest[place[0]] = max(cursor[0], furthest.get(place[0], 0))
    return [place for place, cursor in view.till_cursors.items() if cursor[0] == furthest[place[0]]]
