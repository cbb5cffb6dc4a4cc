"""A version 1 seller: challenge in the body, payment in X-PAYMENT, receipt in X-PAYMENT-RESPONSE.

`python -m sandbox.sellers.v1 --config FILE|JSON|-`. The SDK has no version 1 server, so the few lines of HTTP are here;
models, verification, settlement and the receipt are the SDK's. Prints `{base_url, pay_to}` when ready.
"""

import binascii
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from x402.http.utils import decode_payment_signature_header, encode_payment_response_header
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequiredV1, PaymentRequirementsV1

from sandbox.sellers import goods
from sandbox.sellers.local import LocalFacilitator
from sandbox.sellers.serving import serve
from sandbox.sellers.settings import Settings, settings_from_command_line

NETWORK = "base"
ASSET = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
DOMAIN = {"name": "USD Coin", "version": "2"}


class Till:
    """Charges for the priced routes: verify, let the route answer, settle, and only then hand the answer over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._facilitator = LocalFacilitator(settings.rpc_url, settings.relayer_key)

    async def charge(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """The middleware."""
        price_base = goods.PRICES_BASE.get(f"{request.method} {request.url.path}")
        if price_base is None:
            return await call_next(request)
        requirements = self._requirements(request, price_base)
        header = request.headers.get("X-PAYMENT")
        if header is None:
            return _refuse(requirements, "X-PAYMENT header is required")
        try:
            payload = decode_payment_signature_header(header)
        except (binascii.Error, UnicodeDecodeError, ValidationError, ValueError, AttributeError):
            return _refuse(requirements, "invalid_payload")
        if not isinstance(payload, PaymentPayloadV1):
            return _refuse(requirements, "invalid_x402_version")
        verdict = await self._facilitator.verify(payload, requirements)
        if not verdict.is_valid:
            return _refuse(requirements, verdict.invalid_reason or "invalid_payment")
        answer = await call_next(request)
        if answer.status_code >= 400:
            return answer
        body = b"".join([chunk async for chunk in answer.body_iterator])
        receipt = await self._facilitator.settle(payload, requirements)
        if not receipt.success:
            return _refuse(requirements, receipt.error_reason or "settlement_failed")
        headers = {**dict(answer.headers), "X-PAYMENT-RESPONSE": encode_payment_response_header(receipt)}
        return Response(body, status_code=answer.status_code, headers=headers)

    def _requirements(self, request: Request, price_base: int) -> PaymentRequirementsV1:
        return PaymentRequirementsV1(
            scheme="exact",
            network=NETWORK,
            max_amount_required=str(price_base),
            resource=str(request.url),
            description=f"{request.method} {request.url.path}",
            mime_type="application/json",
            pay_to=self._settings.pay_to,
            max_timeout_seconds=self._settings.max_timeout_s,
            asset=ASSET,
            extra=DOMAIN,
        )


def _refuse(requirements: PaymentRequirementsV1, error: str) -> JSONResponse:
    challenge = PaymentRequiredV1(error=error, accepts=[requirements])
    return JSONResponse(challenge.model_dump(by_alias=True, exclude_none=True), status_code=402)


def application(settings: Settings) -> FastAPI:
    """The seller."""
    app = FastAPI()
    app.middleware("http")(Till(settings).charge)
    goods.offer(app)
    return app


def main() -> None:
    """Read the config and serve."""
    settings = settings_from_command_line()
    serve(
        application(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        pay_to=settings.pay_to,
        network=NETWORK,
    )


if __name__ == "__main__":
    main()
