"""What the HTTP side is handed of the facilitator: who may come in, how often, and what there is to buy.

Must not know HTTP. Theory: settling spends the house's gas for somebody else's money, so it takes the operator's word that an
account is a seller; what each seller may burn and whom it may be paid at is the engine's to keep, beside the claim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.core.paid import SellerTerms
from gateway.core.problems import Problem
from gateway.facilitator.discovery import Sellable
from gateway.facilitator.limits import PerMinute
from gateway.facilitator.local import LocalFacilitator
from gateway.paid_ports import Exact
from gateway.ports import Store


@dataclass(frozen=True, slots=True)
class FacilitatorDoor:
    """Our own facilitator as others reach it. `public`: whoever has no key may have payments verified too."""

    facilitator: LocalFacilitator
    per_payer: PerMinute
    per_payee: PerMinute
    public: bool = False
    sellable: Callable[[], Sequence[Sellable]] = field(default=tuple)

    def count(self, exact: Exact, caller: str) -> None:
        """Count one request about a payment. Raises Problem("too_many_calls") with the seconds to wait.

        Each caller (an account, "" for those without a key) has limits of its own: anybody can name another's address as
        payer or payee, and must not use up what others may ask about it.
        """
        terms = exact.authorization
        for limit, address, whose in (
            (self.per_payer, terms.authorizer, "of this payer"),
            (self.per_payee, terms.pay_to, "for this payee"),
        ):
            wait_s = limit.take(address + caller.encode())
            if wait_s is not None:
                detail = f"too many requests {whose}: wait as long as Retry-After says"
                raise Problem("too_many_calls", detail, extra={"retry_after_s": wait_s})


def require_seller(store: Store, account_id: str) -> SellerTerms:
    """Return what the operator lets an account settle. Raises Problem("seller_required")."""
    terms = store.view.sellers.get(account_id)
    if terms is None or terms.ended_at_ms is not None:
        raise Problem("seller_required", "this account may not settle; ask the operator")
    return terms
