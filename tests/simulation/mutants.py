"""Gateways with one promise taken out each: the simulation must tell every one of them from the real one.

Theory: a checker that was never seen to fail proves nothing. Each mutant is the smallest change that a tired programmer
could make; it is put in with pytest's monkeypatch, which takes it out again.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import gateway.core.decide_purchase as decide_purchase_module
import gateway.graph as graph_module
from gateway.core.commands import MoveCursor
from gateway.core.payment import TABLE, Action, Delivery, Transfer
from gateway.flow.answers import Answers
from gateway.flow.pack import unpack
from gateway.flow.present import Presenter
from gateway.flow.promise import Promiser, seal_context
from gateway.flow.quarantine import Quarantine
from gateway.flow.quote import Quoter
from gateway.flow.recover import Recovery
from gateway.flow.settle import Tracker
from gateway.flow.spend import Spend
from gateway.http.port import UpstreamRequest
from tests.fakes.vendor import read_payment
from wallets.guard import Guard
from wallets.watermark import Standing, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from contracts.eip3009 import Authorization

__all__ = ["MUTANTS"]


class _Latest:
    """A chain whose newest block is called final."""

    def __init__(self, chain: Any) -> None:
        self._chain = chain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, "head" if name == "final" else name)


def voids_before_finality(patch: pytest.MonkeyPatch) -> None:
    """The tracker takes the newest block for a final one."""

    class Hasty(Tracker):
        def __init__(self, *, chain: Any, **others: Any) -> None:
            super().__init__(chain=_Latest(chain), **others)

    patch.setattr(graph_module, "Tracker", Hasty)


def signs_again(patch: pytest.MonkeyPatch) -> None:
    """A lost answer is asked for with a fresh signature instead of the stored one."""
    promisers: list[Promiser] = []

    class Kept(Promiser):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            promisers.append(self)

    async def represent(self: Presenter, vendor: Any, payment: Any) -> Any:
        attempt, match = (
            await self._store.attempt(payment.id),
            vendor.match(payment.method, payment.path.partition("?")[0]),
        )
        assert attempt is not None
        method, target, headers, body = unpack(
            self._sealer.open(attempt.sealed_request, seal_context("attempt", payment.id))
        )
        header = next(value for name, value in headers if name == "X-PAYMENT")
        nonce = promisers[-1]._ids._entropy.bytes(32)
        authorization: Authorization = replace(read_payment(header)[0], nonce=nonce)
        signature = promisers[-1]._signers[payment.terms.wallet].sign_authorization(authorization)
        document = json.loads(base64.b64decode(header))
        document["payload"]["authorization"]["nonce"] = "0x" + nonce.hex()
        document["payload"]["signature"] = "0x" + signature.hex()
        fresh = base64.b64encode(json.dumps(document).encode()).decode()
        others = tuple((name, value) for name, value in headers if name != "X-PAYMENT")
        request = UpstreamRequest(method, target, (*others, ("X-PAYMENT", fresh)), body)
        return await self.present(vendor, match, payment, request)

    patch.setattr(graph_module, "Promiser", Kept)
    patch.setattr(Presenter, "represent", represent)


def sends_before_it_writes(patch: pytest.MonkeyPatch) -> None:
    """The credential leaves, and then the hold is posted."""
    present = Spend._present

    async def late(self: Spend, call: Any, promise: Any) -> Any:
        await self._presenter._send(call.vendor, promise.request)
        return await present(self, call, promise)

    patch.setattr(Spend, "_present", late)


def voids_what_was_refused(patch: pytest.MonkeyPatch) -> None:
    """A vendor's no gives the hold back while the authorization is alive."""
    patch.setitem(TABLE, (Delivery.REFUSED, Transfer.PRESENTED), Action.VOID)


def charges_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """What was collected is charged, delivered or not."""
    patch.setitem(TABLE, (Delivery.UNKNOWN, Transfer.SETTLED), Action.CAPTURE)


def forgets_what_was_asked(patch: pytest.MonkeyPatch) -> None:
    """An identical request buys again."""

    async def none(self: Answers, call: Any) -> None:
        return None

    patch.setattr(Answers, "earlier", none)
    patch.setattr(decide_purchase_module, "_earlier", lambda *_: None)


def shows_twice_at_once(patch: pytest.MonkeyPatch) -> None:
    """Recovery does not look at what is being presented."""

    class Blind(Recovery):
        def __init__(self, *, answers: Any, **others: Any) -> None:
            super().__init__(answers=answers, **others)
            self._answers = cast("Answers", SimpleNamespace(presenting=frozenset()))

    patch.setattr(graph_module, "Recovery", Blind)


def never_asks_again(patch: pytest.MonkeyPatch) -> None:
    """A lost answer stays lost."""

    async def sweep(self: Recovery) -> None:
        return None

    patch.setattr(Recovery, "sweep", sweep)


def pays_anybody(patch: pytest.MonkeyPatch) -> None:
    """The cheapest offer is good enough, for the quote and for the signer."""
    choose = Quoter._choose

    def cheapest(self: Quoter, asked: Any, terms: Any, *others: Any) -> Any:
        known = [offer for offer in asked.offers if (offer.chain_id, offer.asset) in terms.assets]
        return min(known, key=lambda offer: offer.amount_base) if known else choose(self, asked, terms, *others)

    patch.setattr(Quoter, "_choose", cheapest)
    patch.setattr(Guard, "_check_payee", lambda *_: None)


def hands_out_the_vendors_token(patch: pytest.MonkeyPatch) -> None:
    """The agent gets the vendor's own credential."""
    patch.setattr(graph_module, "make_surrogate", lambda _key, _vendor, real: real)


def serves_anybodys_box(patch: pytest.MonkeyPatch) -> None:
    """A resource is found for whoever names it."""

    async def owned(self: Spend, call: Any) -> Any:
        resource = await self._store.resource(call.vendor.name, call.match.ref)
        return resource, call.target

    patch.setattr(Spend, "_owned", owned)


def keeps_secrets_open(patch: pytest.MonkeyPatch) -> None:
    """What should be sealed is written as it is."""

    class Open:
        def __init__(self, _key: object) -> None:
            """It needs none."""

        def seal(self, plaintext: bytes, _context: bytes) -> bytes:
            return plaintext

        open = seal

    patch.setattr(graph_module, "Sealer", Open)


def trusts_an_older_copy(patch: pytest.MonkeyPatch) -> None:
    """The database is taken for the true one, whatever the signer remembers."""

    async def judge(self: Quarantine) -> Standing:
        return Standing.CURRENT

    patch.setattr(Quarantine, "judge", judge)
    patch.setattr(Watermark, "record", lambda *_: None)


def leaves_no_mark(patch: pytest.MonkeyPatch) -> None:
    """The signer's own record is not moved forward before a signature leaves."""
    patch.setattr(Watermark, "record", lambda *_: None)


def books_a_cursor_first(patch: pytest.MonkeyPatch) -> None:
    """The chain's cursor moves before what lies behind it is booked: a crash in between loses it."""
    each = Tracker._each

    async def late(self: Tracker, ask: Any, items: Any) -> None:
        if isinstance(ask, partial) and ask.func.__name__ == "book_log":
            final = await self._chain.final()
            await self._store.post(MoveCursor(self._chain.chain_id, final.number, final.hash, final.time_s))
        await each(self, ask, items)

    patch.setattr(Tracker, "_each", late)


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    voids_before_finality: "p5_p6_evidence",
    signs_again: "p4_one_collection",
    sends_before_it_writes: "P3",
    voids_what_was_refused: "p5_p6_evidence",
    charges_for_nothing: "balances_explained",
    forgets_what_was_asked: "p4_one_collection",
    shows_twice_at_once: "P4",
    never_asks_again: "p12_answers_found",
    pays_anybody: "p8_approved",
    hands_out_the_vendors_token: "p9_tenancy",
    serves_anybodys_box: "p9_tenancy",
    keeps_secrets_open: "p10_secrets",
    trusts_an_older_copy: "p12_quarantine",
    leaves_no_mark: "P12",
    books_a_cursor_first: "quiet",
}
"""Each mutant with the promise that must be seen broken."""
