"""The counter: what happens between a priced request and its answer. Challenge, presented again, verify, accept.

It knows payments and faults but not what is sold: the route hands it a price and what to do with an accepted payment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.vpsagent import challenge
from sandbox.vpsagent.payments import PaymentRefusedError, Presented, acceptable, read_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.vpsagent.challenge import Priced
    from sandbox.vpsagent.vendor import Vendor

    Accept = Callable[[Presented, dict[str, Any]], Awaitable[web.Response]]

HEADER = "X-Payment"
_ALTERED_KEPT = 16


class FrontDesk:
    """Takes payments for all priced routes of one vendor."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._altered: dict[str, list[dict[str, Any]]] = {}

    async def serve(self, request: web.Request, priced: Priced, accept: Accept) -> web.Response:
        """Answer a priced request: 402 without a payment or with a bad one, else what `accept` makes of the payment."""
        vendor = self._vendor
        base = challenge.requirements(vendor.config, vendor.origin, priced)
        header = request.headers.get(HEADER)
        if header is None:
            return self._challenge(priced, base)
        try:
            payment = read_header(header)
        except PaymentRefusedError as refused:
            return self._refused(base, refused)
        vendor.note_seen(payment.nonce, header, priced.route)
        async with vendor.lock_for(payment.nonce):
            again = await self._again(payment, priced, base)
            if again is not None:
                return again
            try:
                agreed = await vendor.payments.verify(payment, [base, *self._altered.get(priced.path, [])])
            except PaymentRefusedError as refused:
                vendor.save()
                return self._refused(base, refused)
            answer = self._misbehave(payment, priced, agreed) or await accept(payment, agreed)
        vendor.save()
        return answer

    def _challenge(self, priced: Priced, base: dict[str, Any]) -> web.Response:
        fault = self._vendor.faults.take("challenge", priced.route, paid=False)
        if fault is None:
            return challenge.payment_required(base, None)
        asked = challenge.altered(base, fault)
        if acceptable(asked):
            kept = self._altered.setdefault(priced.path, [])
            kept.append(asked)
            del kept[:-_ALTERED_KEPT]
        return challenge.payment_required(asked, None, fault)

    async def _again(self, payment: Presented, priced: Priced, base: dict[str, Any]) -> web.Response | None:
        """The answer to an authorization that was accepted before, or None where it is new (or gets a second box)."""
        vendor = self._vendor
        earlier = vendor.book.with_nonce(payment.nonce)
        if not earlier:
            return None
        fault = vendor.faults.take("represent", priced.route, paid=True)
        mode = fault["mode"] if fault else vendor.config.represents(priced.route)
        first = earlier[0]
        if mode == "second_box" and priced.route == "rent":
            return None
        if mode == "same" and first.route == priced.route and first.reply is not None:
            if first.payload != payment.payload:  # the same nonce under other bytes is not the same payment
                return self._refused(base, PaymentRefusedError("payment_mismatch"))
            return web.json_response(first.reply["body"], headers=first.reply["headers"])
        return self._refused(
            base, PaymentRefusedError("payment_already_used", "this authorization was presented before")
        )

    def _misbehave(self, payment: Presented, priced: Priced, agreed: dict[str, Any]) -> web.Response | None:
        """The answer of a vendor that has verified the payment and still says no, when a fault says so."""
        faults = self._vendor.faults
        fault = faults.take("refuse", priced.route, paid=True) or faults.take("fail", priced.route, paid=True)
        if fault is None:
            return None
        if fault["settle_after_s"] is not None:
            plan = {"mode": "without_box", "margin_s": 0, "after_s": fault["settle_after_s"]}
            purchase = self._vendor.open_purchase(priced.route, payment, agreed, plan=plan)
            if priced.route == "renew":
                purchase.manual_at_ms = purchase.accepted_at_ms
        if fault["kind"] == "refuse":
            return self._refused(agreed, PaymentRefusedError("payment_invalid"))
        return web.json_response({"detail": "upstream provider unavailable"}, status=fault["status"])

    @staticmethod
    def _refused(base: dict[str, Any], refused: PaymentRefusedError) -> web.Response:
        return challenge.payment_required(base, {"reason": refused.reason, "message": refused.message})
