"""The chart of accounts: which ledger accounts exist, on which side they stand and which may never owe.

Must not know balances.  Theory: an agent's balance is a USD liability of the house; a wallet's tokens are an asset of
its own kind; the two meet only in `fx:<asset>`, which exists once in USD and once in the token.
"""

from gateway.core.ledger import Account, Ledger, Side
from gateway.core.money import USD

HOUSE_CREDIT = "house:credit"  # credit that the operator granted without money behind it
HOUSE_LOSS = "house:loss"  # disputes that the house bears, overruns
HOUSE_CAPITAL = "house:capital"  # tokens that the operator put into wallets, and deposits at vendors
HOUSE_FEES = "house:fees"  # network fees that wallets and relayers paid
HOUSE_RISK = "house:risk"  # what the house lends ahead of finality
HOUSE_UNCLAIMED = "house:unclaimed"  # owed to whoever sent it: what came in and is nobody's yet
SUSPENSE = "suspense"  # tokens that provably left without a payment of ours; a task was opened for each


def agent(account_id: str) -> str:
    """Return the code of an agent's prepaid balance."""
    return f"agent:{account_id}"


def wallet(address_hex: str) -> str:
    """Return the code of a wallet's token inventory."""
    return f"wallet:{address_hex}"


def relayer(address_hex: str) -> str:
    """Return the code of what a relayer spent on gas: its coins are bought outside the books, so it may stand below zero."""
    return f"relayer:{address_hex}"


def gas_asset(chain_id: int) -> str:
    """Return the asset that a chain's gas is paid in, counted in gwei (1e-9 of the coin)."""
    return f"gas:{chain_id}"


def vendor(name: str) -> str:
    """Return the code of what the operator has at a vendor: a prepaid balance, or (below zero) bills to come."""
    return f"vendor:{name}"


def vendor_asset(name: str) -> str:
    """Return the asset that a balance at a vendor is: worth a dollar a unit, and no other vendor's."""
    return f"account:{name}"


def suspense(address_hex: str) -> str:
    """Return the code of what a wallet holds less than the book says, unproven: what turns up again clears it first."""
    return f"{SUSPENSE}:{address_hex}"


def vendor_suspense(name: str) -> str:
    """Return the code of what is left at a vendor less than our tariffs explain; what turns up again clears it first."""
    return f"{SUSPENSE}:{vendor(name)}"


def fx(asset: str) -> str:
    """Return the code of the account through which an asset is exchanged for USD."""
    return f"fx:{asset}"


# code prefix -> (side, floored). `fx`, a vendor that bills later, relayers and the house's may stand on either side of zero.
_KINDS: dict[str, tuple[Side, bool]] = {
    "agent": (Side.CREDIT, True),
    "wallet": (Side.DEBIT, True),
    "vendor": (Side.DEBIT, False),
    "fx": (Side.CREDIT, False),
    "relayer": (Side.DEBIT, False),
    "house": (Side.DEBIT, False),
    "suspense": (Side.DEBIT, False),
}


def ensure(ledger: Ledger, code: str, asset: str = USD) -> Account:
    """Return the account, opening it as the chart says; an unknown kind raises KeyError."""
    found = ledger.find(code, asset)
    if found is not None:
        return found
    side, floored = _KINDS[code.partition(":")[0]]
    return ledger.open(code, asset, side, floored=floored)
