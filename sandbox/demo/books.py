"""The end: the account's statement line by line, and the sums that must agree with the chain to the last unit.

Must not know what was bought. Theory: the same money is counted in three places that do not know each other, the
account, the wallet's and the vendor's balance on chain; whatever was lost or made up shows as a difference.
"""

from dataclasses import dataclass
from typing import Any

from sandbox.demo.checks import DemoFailure, expect, wait_for
from sandbox.demo.screen import Screen
from sandbox.demo.units import units, usd
from sandbox.demo.world import ACCOUNT_VENDORS, CREDIT_BASE, FUNDED_BASE, TEMPO_FUNDED_BASE, World

HOUSE = "acc_house_catalogue"
PATIENCE_S = 60
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # Transfer(address,address,uint256)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that is counted, in base units; the chain's at one final block."""

    granted: int
    topped_up: int
    till_on_chain: int
    gateway_till: int
    credited: int
    available: int
    held: int
    spent: int
    statement_available: int
    statement_held: int
    captured: int
    settled: int
    funded: int
    wallet_on_chain: int
    vendor_received: int
    gateway_wallet: int
    captured_on_base: int


@dataclass(frozen=True, kw_only=True)
class TempoFigures:
    """What is counted on Tempo, in base units of pathUSD, at one final block."""

    funded: int
    settled: int
    fees: int
    wallet_on_chain: int
    vendor_received: int
    gateway_wallet: int


@dataclass(frozen=True)
class Sum:
    """Two ways to the same figure."""

    left: str
    left_base: int
    right: str
    right_base: int

    @property
    def agrees(self) -> bool:
        """Whether both are the same to the last unit."""
        return self.left_base == self.right_base


@dataclass(frozen=True)
class _Ledger:
    """The gateway's own accounts as its `balances` told them, all at one moment."""

    rows: list[dict[str, Any]]

    def posted(self, code: str, chain_id: int, none: int | None = None) -> int:
        """Return what an account has in the one token of a chain; `none` where there may be no such account yet."""
        found = [row for row in self.rows if row["code"] == code and f"eip155:{chain_id}/" in row["asset"]]
        if not found and none is not None:
            return none
        expect(f"ledger accounts {code} on chain {chain_id}", 1, len(found))
        return units(found[0]["posted"])


def sums(f: Figures) -> list[Sum]:
    """Return every equation that must hold."""
    return [
        Sum("granted + topped up", f.granted + f.topped_up, "available + held + spent", f.available + f.held + f.spent),
        Sum("credited, as the account has it", f.credited, "granted + topped up", f.granted + f.topped_up),
        Sum("top-ups", f.topped_up, "till's balance on chain", f.till_on_chain),
        Sum("till, as the gateway's books have it", f.gateway_till, "till's balance on chain", f.till_on_chain),
        Sum("available, as the statement adds up", f.statement_available, "available", f.available),
        Sum("held, as the statement adds up", f.statement_held, "held", f.held),
        Sum("all charges", f.captured, "spent", f.spent),
        Sum("wallet's funding - settled", f.funded - f.settled, "wallet's balance on chain", f.wallet_on_chain),
        Sum("wallet, as the gateway's books have it", f.gateway_wallet, "wallet's balance on chain", f.wallet_on_chain),
        Sum("VpsAgent's receipts on chain", f.vendor_received, "its charges", f.captured_on_base),
    ]


def tempo_sums(f: TempoFigures) -> list[Sum]:
    """Return every equation that must hold on Tempo."""
    left = f.funded - f.settled - f.fees
    return [
        Sum("Tempo: funding - settled - network fees", left, "wallet's balance on chain", f.wallet_on_chain),
        Sum("Tempo: wallet in the gateway's books", f.gateway_wallet, "wallet's balance on chain", f.wallet_on_chain),
        Sum("Tempo: the reseller's receipts", f.vendor_received, "settled", f.settled),
    ]


def close(world: World, screen: Screen) -> None:
    """Print statement and sums; raise DemoFailure when anything is off."""
    payments = world.agent.payments()
    available, held = _statement(world, screen, payments)
    house = _house(world)
    block = world.chain.final()["number"]
    balance, ledger = world.agent.balance(), _Ledger(world.gateway.run("balances")["accounts"])
    figures = Figures(
        granted=CREDIT_BASE,
        topped_up=sum(units(each["amount"]) for each in world.agent.topups() if each["credit"] == "available"),
        till_on_chain=world.chain.balance_of(world.till, block=block),
        gateway_till=ledger.posted(f"wallet:{world.till.lower()}", world.chain.chain_id, none=0),
        credited=units(balance["credited"]),
        available=units(balance["available"]),
        held=units(balance["held"]),
        spent=units(balance["spent"]),
        statement_available=available,
        statement_held=held,
        captured=sum(units(p["captured"]) for p in payments),
        settled=_settled(payments, "vpsagent") + sum(units(p["settled"]) for p in house),
        funded=FUNDED_BASE,
        wallet_on_chain=world.chain.balance_of(world.wallet, block=block),
        vendor_received=_received(world, block),
        gateway_wallet=ledger.posted(f"wallet:{world.wallet.lower()}", world.chain.chain_id),
        captured_on_base=_captured(payments, "vpsagent") + sum(units(p["captured"]) for p in house),
    )
    found = [*sums(figures), *_on_tempo(world, ledger, payments), *_accounts(world, payments)]
    screen.plain(f"\n  Counted three times, at final block {block}:\n")
    wrong = _show_sums(screen, found)
    if wrong:
        raise DemoFailure(
            "the books",
            "; ".join(f"{each.left} = {usd(each.right_base)}" for each in wrong),
            "; ".join(f"{each.left} = {usd(each.left_base)}" for each in wrong),
        )
    expect("what is still held", usd(0), balance["held"])
    _transactions(world, screen, payments, house, block)
    _journal(world, screen)


def _statement(world: World, screen: Screen, payments: list[dict[str, Any]]) -> tuple[int, int]:
    """Print every entry with running totals; return what they come to, (available, held)."""
    bought = {payment["id"]: f"{payment['vendor']}/{payment['route']}" for payment in payments}
    available = held = 0
    holds: dict[str, int] = {}
    rows: list[tuple[str, ...]] = []
    for entry in world.agent.statement():
        amount_base, kind = units(entry["amount"]), entry["kind"]
        if kind == "credit":
            available += amount_base
        elif kind == "hold":
            holds[entry["id"]] = amount_base
            available, held = available - amount_base, held + amount_base
        elif kind in {"capture", "void"}:
            hold_base = holds.pop(entry["hold_id"])
            back_base = hold_base if kind == "void" else hold_base - amount_base
            available, held = available + back_base, held - hold_base
        else:
            raise DemoFailure("an entry of the statement", "credit, hold, capture or void", kind)
        time_of_day = entry["at"].partition("T")[2].partition(".")[0].rstrip("Z")
        what = bought.get(entry["payment_id"] or "", "")
        rows.append((time_of_day, kind, what, usd(amount_base), usd(available), usd(held)))
    screen.table(("time", "entry", "for", "amount", "available", "held"), rows, frozenset({3, 4, 5}))
    return available, held


def _show_sums(screen: Screen, found: list[Sum]) -> list[Sum]:
    rows = [(s.left, usd(s.left_base), "=" if s.agrees else "IS NOT", usd(s.right_base), s.right) for s in found]
    screen.table(None, rows, frozenset({1, 3}))
    return [each for each in found if not each.agrees]


def _received(world: World, block: int) -> int:
    """What VpsAgent got; a new chain: it had nothing before."""
    return world.chain.balance_of(world.payee, block=block) if world.payee else 0


def _settled(payments: list[dict[str, Any]], vendor: str) -> int:
    return sum(units(p["authorization"]["settled"]) for p in payments if p["vendor"] == vendor)


def _captured(payments: list[dict[str, Any]], vendor: str) -> int:
    return sum(units(p["captured"]) for p in payments if p["vendor"] == vendor)


def _on_tempo(world: World, ledger: _Ledger, payments: list[dict[str, Any]]) -> list[Sum]:
    if world.tempo is None:
        return []
    block = world.tempo.final()["number"]
    return tempo_sums(
        TempoFigures(
            funded=TEMPO_FUNDED_BASE,
            settled=_settled(payments, "dropmpp"),
            fees=ledger.posted("house:fees", world.tempo.chain_id),
            wallet_on_chain=world.tempo.balance_of(world.wallet, block=block),
            vendor_received=world.tempo_received(block),
            gateway_wallet=ledger.posted(f"wallet:{world.wallet.lower()}", world.tempo.chain_id),
        )
    )


def _accounts(world: World, payments: list[dict[str, Any]]) -> list[Sum]:
    """What each account vendor has charged the operator is what its agents were charged."""
    names = [name for name in ACCOUNT_VENDORS if name in world.further]
    return [
        Sum(
            f"{name}: what it charged the operator", world.vendor(name).bill(), "its charges", _captured(payments, name)
        )
        for name in names
    ]


def _house(world: World) -> list[dict[str, Any]]:
    """Return what the house bought for itself: VpsAgent's catalogue, so that reading plans costs an agent nothing."""

    def closed() -> list[dict[str, Any]] | None:
        listed = world.gateway.run("payments", "list", "--limit", "200")["payments"]
        house = [each for each in listed if each["account"] == HOUSE]
        # It reads the catalogue soon after the start, and on a busy machine that may be when the books are closed already.
        begun = bool(house) or not world.payee
        return house if begun and all(each["charge"] != "held" for each in house) else None

    waited = "one is held, or the catalogue was not read yet"
    bought = wait_for("the house's own payments close", closed, within_s=PATIENCE_S, found=lambda: waited)
    return [dict(world.gateway.run("payments", "show", each["id"])["payment"]) for each in bought]


def _transactions(
    world: World, screen: Screen, payments: list[dict[str, Any]], house: list[dict[str, Any]], block: int
) -> None:
    """Each capture has its own transfer on chain, and each transfer its capture."""
    if not world.payee:
        return
    topics = [TRANSFER, _word(world.wallet), _word(world.payee)]
    asked = {"fromBlock": "0x0", "toBlock": hex(block), "address": world.chain.token_address, "topics": topics}
    on_chain = sorted((log["transactionHash"], int(log["data"], 16)) for log in world.chain.rpc("eth_getLogs", asked))
    charged = [world.agent.payment(p["id"]) for p in payments if (p["vendor"], p["charge"]) == ("vpsagent", "captured")]
    in_books = sorted(
        [(p["tx_hash"], units(p["captured"])) for p in charged]
        + [(p["tx_hash"], units(p["captured"])) for p in house if p["charge"] == "captured"]
    )
    expect("transfers on chain from the wallet to the vendor", in_books, on_chain)
    screen.plain()
    screen.good(f"{len(in_books)} charges and {len(on_chain)} transfers on Base, the same hashes and amounts")


def _journal(world: World, screen: Screen) -> None:
    tasks = world.gateway.run("tasks", "list")["tasks"]
    expect("tasks that wait for a human", [], [task["kind"] for task in tasks])
    journal = world.gateway.run("journal", "verify")
    expect("the journal's hash chain", (True, None), (journal["verified"], journal["error"]))
    screen.good(f"the journal's hash chain holds: {journal['rows']} rows, head {journal['head']}")


def _word(address: str) -> str:
    return "0x" + address.removeprefix("0x").lower().rjust(64, "0")
