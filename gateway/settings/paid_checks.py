"""What must hold between the tables of being paid and the others: no address with two jobs, nothing that could not be collected.

Must not start anything.  Theory: as of `gateway.settings.checks`: a contradiction that is found at the start costs nothing.
"""

from collections.abc import Iterator

from gateway.settings.checks import Finding, token_names
from gateway.settings.model import Settings


def paid_findings(settings: Settings) -> Iterator[Finding]:
    """Yield (key, what is wrong, what to write) for every contradiction about tills, relayers, facilitator and top-ups."""
    yield from _addresses(settings)
    for till in settings.tills.values():
        yield from token_names(settings, ("tills", till.name), till.tokens)
    for relayer in settings.relayers.values():
        for number, name in enumerate(relayer.chains):
            if name not in settings.chains:
                place = ("relayers", relayer.name, "chains", str(number))
                yield place, "there is no [chains] table of that name", "add it"
    yield from _facilitator(settings)
    yield from _topups(settings)


def _addresses(settings: Settings) -> Iterator[Finding]:
    """A till that spends would have its receipts booked as the operator's capital; a relayer that receives could be drained."""
    seen = {wallet.address: f"wallets.{wallet.name}" for wallet in settings.wallets.values()}
    payees = {payee: vendor.name for vendor in settings.vendors.values() for payee in vendor.payees}
    named = [("tills", till.name, till.address) for till in settings.tills.values()]
    named += [("relayers", relayer.name, relayer.address) for relayer in settings.relayers.values()]
    for section, name, address in named:
        place = (section, name, "address")
        if address in seen:
            yield place, f"{seen[address]} has it too", "give each its own key: `gateway wallet new`"
        if address in payees:
            yield place, f"is a payee of vendors.{payees[address]}", "give each its own key: `gateway wallet new`"
        seen[address] = f"{section}.{name}"


def _facilitator(settings: Settings) -> Iterator[Finding]:
    facilitator = settings.facilitator
    if facilitator is None:
        return
    yield from token_names(settings, ("facilitator",), facilitator.tokens)
    served = {chain for relayer in settings.relayers.values() for chain in relayer.chains}
    served_ids = {settings.chains[name].chain_id for name in served if name in settings.chains}
    for number, name in enumerate(facilitator.tokens):
        token = settings.tokens.get(name)
        place = ("facilitator", "tokens", str(number))
        if token is None:
            continue
        if token.is_tip20:
            yield place, "a tip20 token has no authorizations to collect", "write an EIP-3009 token such as base-usdc"
        elif token.on_chain not in served_ids:
            yield place, "no [relayers] table serves its chain", "add a relayer for it"
    if not settings.relayers:
        yield ("facilitator",), "nobody pays the gas", "add a [relayers.<name>] table"


def _topups(settings: Settings) -> Iterator[Finding]:
    if settings.topups is None:
        return
    if not settings.tills:
        yield ("topups",), "agents have nowhere to pay to", "add a [tills.<name>] table"
    collected = set() if settings.facilitator is None else set(settings.facilitator.tokens)
    for till in settings.tills.values():
        for number, name in enumerate(till.tokens):
            token = settings.tokens.get(name)
            if token is None or token.is_tip20 or settings.topups.facilitator_url is not None or name in collected:
                continue
            place = ("tills", till.name, "tokens", str(number))
            yield place, "nobody collects it", f'add "{name}" to [facilitator] tokens, or name a facilitator_url'
