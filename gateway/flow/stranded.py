"""Open payments that a configuration would leave without anybody to end them.

Must not know where the configuration comes from.  Theory (P5): a hold leaves only by evidence, so its chain must stay
configured until the last one has ended, and its vendor too, because only the vendor's module can find the answer again.
A wallet or token that left the configuration strands nothing: the tracker follows what was promised from it.
"""

from collections import Counter
from collections.abc import Collection

from gateway.core.view import View


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
