"""A stock facilitator over HTTP: POST /verify, POST /settle, GET /supported, GET /health, on the SDK's facilitator.

`python -m sandbox.sellers.facilitator --config FILE|JSON|-`; prints `{base_url, relayer}` when ready. Both x402 versions.
"""

from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from x402.schemas import parse_payment_payload, parse_payment_requirements

from sandbox.sellers.local import LocalFacilitator
from sandbox.sellers.serving import serve
from sandbox.sellers.settings import settings_from_command_line


class PaymentRequest(BaseModel):
    """The body of /verify and /settle."""

    model_config = ConfigDict(populate_by_name=True)

    version: int = Field(alias="x402Version")
    payload: dict[str, Any] = Field(alias="paymentPayload")
    requirements: dict[str, Any] = Field(alias="paymentRequirements")

    def parsed(self) -> tuple[Any, Any]:
        """Payload and requirements as the SDK's models; raises HTTPException 400 when they are not."""
        try:
            return parse_payment_payload(self.payload), parse_payment_requirements(self.version, self.requirements)
        except (ValidationError, ValueError) as error:
            raise HTTPException(400, f"malformed payment: {type(error).__name__}") from error


def application(local: LocalFacilitator) -> FastAPI:
    """The facilitator."""
    app = FastAPI()

    @app.post("/verify")
    async def verify(request: PaymentRequest) -> dict[str, Any]:
        return (await local.verify(*request.parsed())).model_dump(by_alias=True, exclude_none=True)

    @app.post("/settle")
    async def settle(request: PaymentRequest) -> dict[str, Any]:
        return (await local.settle(*request.parsed())).model_dump(by_alias=True, exclude_none=True)

    @app.get("/supported")
    async def supported() -> dict[str, Any]:
        return local.get_supported().model_dump(by_alias=True, exclude_none=True)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    """Read the config and serve."""
    settings = settings_from_command_line()
    local = LocalFacilitator(settings.rpc_url, settings.relayer_key)
    serve(
        application(local),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        relayer=local.relayer,
    )


if __name__ == "__main__":
    main()
