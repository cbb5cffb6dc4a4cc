"""Promises about what may be signed, seen and read (P8, P9, P10)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from contracts.tokens import BASE_USDC
from tests.simulation.facts import account_of
from tests.simulation.seller import SELLER_PRICES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.vendor import Shown
    from tests.simulation.facts import Facts
    from tests.simulation.world import World


__all__ = ["p8_approved", "p9_tenancy", "p10_secrets"]

SELLER_CEILING_BASE = 2_000_000
WINDOW_MAX_S = 100


def p8_approved(world: World, facts: Facts) -> Iterator[str]:
    """Only approved payees, tokens and prices, for a short time; and nothing while frozen."""
    for shown in facts.first_shown.values():
        auth, name = shown.authorization, f"{shown.till} {shown.intent}"
        approved_ms = world.operator.payees.get((shown.till, bytes(auth.pay_to)))
        if approved_ms is None or approved_ms > shown.at_ms:
            yield f"{name} pays 0x{auth.pay_to.hex()}, whom nobody approved"
        if auth.token != BASE_USDC:
            yield f"{name} pays in {auth.token.symbol} of another contract"
        if auth.value_base not in _fair_prices(world, facts, shown):
            yield f"{name} pays {auth.value_base}"
        if auth.valid_before - shown.at_ms // 1000 > WINDOW_MAX_S + abs(world.plan.skew_s):
            yield f"{name} can be collected for too long"
    yield from _held_while_frozen(world)


def _fair_prices(world: World, facts: Facts, shown: Shown) -> set[int]:
    if shown.till == "seller":
        return {price * factor for price in SELLER_PRICES.values() for factor in (1, 2)} - {2 * SELLER_CEILING_BASE} | {
            price // 2 for price in SELLER_PRICES.values()
        }
    intent = facts.intents.get(shown.intent)
    if intent is None:
        return set()
    if shown.route == "catalog":
        return world.operator.prices["vpsagent", "catalog"]
    document = json.loads(intent.order.body)
    if shown.route == "rent":
        return world.operator.prices.get(("vpsagent", document["sku"]), set())
    rental = world.vpsagent.rentals[intent.order.target.split("/")[2]]
    return {document["periods"] * price for price in world.operator.prices["vpsagent", rental.sku]}


def _held_while_frozen(world: World) -> Iterator[str]:
    frozen: set[str] = set()
    for row in world.rows("SELECT kind, body FROM journal ORDER BY seq"):
        body = json.loads(row["body"])
        if row["kind"] == "freeze.set":
            frozen.add(body["scope"])
        elif row["kind"] == "freeze.lifted":
            frozen.discard(body["scope"])
        elif row["kind"] == "payment.held":
            covers = {
                "all",
                "database",
                f"vendor:{body['vendor']}",
                f"account:{body['account_id']}",
                f"wallet:{body['wallet']}",
            }
            if covers & frozen:
                yield f"{body['payment_id']} was held while {sorted(covers & frozen)} was frozen"


def p9_tenancy(world: World, facts: Facts) -> Iterator[str]:
    """Nobody hears of, or buys for, what another account owns."""
    for account_id, bodies in world.heard.items():
        heard = b"\n".join(bodies)
        answers = b"\n".join(
            h.body for a in world.agents if a.account_id == account_id for i in a.intents for h in i.heard
        )
        for rental in facts.rentals:
            if rental.root_token.encode() in heard:
                yield f"{account_id} was told the real token of {rental.intent}'s box"
            if account_of(rental.intent) == account_id:
                continue
            if rental.root_password.encode() in heard:
                yield f"{account_id} was told the password of {rental.intent}'s box"
            if rental.rental_id.encode() in answers:
                yield f"{account_id} was told of {rental.intent}'s box"
    for rental in facts.rentals:
        for nonce in rental.renewals:
            if account_of(facts.first_shown[nonce].intent) != account_of(rental.intent):
                yield f"{facts.first_shown[nonce].intent} renewed {rental.intent}'s box"


def p10_secrets(world: World, facts: Facts, logs: list[str]) -> Iterator[str]:
    """No key, signature, real token or password is readable on disk, in a log, or in a problem."""
    needles = {"the wallet's key": world.wallet_key.reveal(), "the data key": world.data_key.reveal()}
    words = {"the wallet's key": world.wallet_key.reveal().hex(), "the data key": world.data_key.reveal().hex()}
    for rental in facts.rentals:
        words[f"the token of {rental.intent}'s box"] = rental.root_token
        words[f"the password of {rental.intent}'s box"] = rental.root_password
    for authorization, signature in world.signatures:
        needles[f"the signature of {authorization.nonce.hex()[:8]}"] = signature
        words[f"the signature of {authorization.nonce.hex()[:8]}"] = signature.hex()
    for shown in facts.first_shown.values():
        words[f"the credential of {shown.intent}"] = shown.header
    disk, log = _everything_on_disk(world), "\n".join(logs)
    told = b"\n".join(body for bodies in world.heard.values() for body in bodies).decode("utf-8", "replace")
    for what, raw in needles.items():
        if raw in disk:
            yield f"{what} is on the disk"
    for what, word in words.items():
        if word.encode() in disk:
            yield f"{what} is on the disk"
        if word in log:
            yield f"{what} is in a log line"
        if word in told and not what.startswith("the password"):
            yield f"{what} was told to an agent"


def _everything_on_disk(world: World) -> bytes:
    names = [row[0] for row in world.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cells = (cell for name in names for row in world.rows(f"SELECT * FROM {name}") for cell in tuple(row))
    return b"\0".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells if cell is not None)
