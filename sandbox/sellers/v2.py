"""A stock version 2 seller: FastAPI with PyPI `x402`'s own middleware. `python -m sandbox.sellers.v2 --config FILE|JSON|-`.

Nothing is changed in the SDK; only the facilitator may run in this process. Prints `{base_url, pay_to}` when ready.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from fastapi import FastAPI
from x402 import x402ResourceServer
from x402.http import (
    CreateHeadersAuthProvider,
    FacilitatorConfig,
    HTTPFacilitatorClient,
    PaymentOption,
    RouteConfig,
)
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.mechanisms.evm.exact import ExactEvmServerScheme

from sandbox.sellers import goods
from sandbox.sellers.local import LocalFacilitator
from sandbox.sellers.serving import serve
from sandbox.sellers.settings import settings_from_command_line

if TYPE_CHECKING:
    from sandbox.sellers.settings import Settings

NETWORK = "eip155:8453"
BASE_UNITS = 1_000_000


def application(settings: Settings) -> FastAPI:
    """The seller: priced routes behind the SDK's middleware, free ones beside them."""
    if settings.facilitator_url:
        auth = CreateHeadersAuthProvider(lambda: _headers(settings)) if settings.facilitator_key else None
        facilitator = HTTPFacilitatorClient(FacilitatorConfig(url=settings.facilitator_url, auth_provider=auth))
    else:
        facilitator = LocalFacilitator(settings.rpc_url, settings.relayer_key, NETWORK)
    server = x402ResourceServer(facilitator)
    server.register(NETWORK, ExactEvmServerScheme())
    routes = {
        route: RouteConfig(
            accepts=PaymentOption(
                scheme="exact",
                pay_to=settings.pay_to,
                price=f"${Decimal(price_base) / BASE_UNITS:f}",
                network=NETWORK,
                max_timeout_seconds=settings.max_timeout_s,
            ),
            description=route,
            mime_type="application/json",
        )
        for route, price_base in goods.PRICES_BASE.items()
    }
    app = FastAPI()
    app.add_middleware(PaymentMiddlewareASGI, routes=routes, server=server)
    goods.offer(app)
    return app


def _headers(settings: Settings) -> dict[str, dict[str, str]]:
    """The SDK's own form: headers for each of the facilitator's routes."""
    bearer = {"Authorization": f"Bearer {settings.facilitator_key}"}
    return {"verify": bearer, "settle": bearer, "supported": bearer}


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
