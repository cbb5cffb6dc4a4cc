"""LiteVPS's open routes: health, capability manifest, OpenAPI, prices, registration and login."""

from __future__ import annotations

import re
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.litevps.guest_shell import DENIED
from sandbox.litevps.views import number
from sandbox.shared_vendor.body import EMAIL, Body
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.litevps.vendor import LiteVps

_PARAMETER = re.compile(r"{(\w+)}")


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor

    async def health(self, _request: web.Request) -> web.Response:
        """GET /health."""
        return answer({"status": "ok"})

    async def agent_json(self, _request: web.Request) -> web.Response:
        """GET /.well-known/agent.json."""
        config = self._vendor.config
        return answer(
            {
                "name": "LiteVPS",
                "api_base": f"{self._vendor.origin}/api",
                "auth": ["jwt", "access_token"],
                "features": ["exec", "background_jobs", "files", "templates", "batch", "snapshots", "ssh_keys"],
                "max_batch_size": config.max_batch_size,
                "exec": {
                    "default_timeout_seconds": config.exec_default_s,
                    "max_timeout_seconds": config.exec_max_s,
                    "blocked": list(DENIED),
                },
                "rate_limits": {"auth": f"{config.login_per_min} req/min per IP"},
            }
        )

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /openapi.json: the paths, without schemas."""
        paths: dict[str, dict[str, Any]] = {}
        for route in self._vendor.documented:
            operation: dict[str, Any] = {"operationId": route.name, "responses": {"default": {"description": "JSON"}}}
            if names := _PARAMETER.findall(route.path):
                operation["parameters"] = [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
                ]
            paths.setdefault(route.path, {})[route.method.lower()] = operation
        return answer({"openapi": "3.1.0", "info": {"title": "LiteVPS API", "version": "1"}, "paths": paths})

    async def pricing(self, _request: web.Request) -> web.Response:
        """GET /api/pricing."""
        vendor = self._vendor
        plans = []
        for plan in vendor.plans.values():
            fault = vendor.faults.take("price", plan=plan.name, shown=True)
            hourly = plan.hourly * (Decimal(fault["factor"]) if fault else 1)
            plans.append(
                {
                    "id": plan.id,
                    "name": plan.name,
                    "vcpu": plan.vcpu,
                    "memory_mb": plan.memory_mb,
                    "disk_gb": plan.disk_gb,
                    "price_hourly": number(vendor, hourly),
                }
            )
        return answer(plans)

    async def register(self, request: web.Request) -> web.Response:
        """POST /api/auth/register: nobody without a CAPTCHA token."""
        body = await Body.read(request)
        captcha = body.raw.get("cf-turnstile-response")
        if not isinstance(captcha, str) or captcha not in self._vendor.captchas:
            raise RefusedError(400, "CAPTCHA verification failed")
        email, password = body.text("email", pattern=EMAIL), body.text("password", low=8)
        body.done()
        account = self._vendor.register(email, password)
        self._vendor.captchas.discard(captcha)
        return answer({"token": self._vendor.logins.issue(account.id)}, 201)

    async def login(self, request: web.Request) -> web.Response:
        """POST /api/auth/login."""
        body = await Body.read(request)
        email, password = body.text("email"), body.text("password")
        body.done()
        account = self._vendor.account_by_email(email)
        known = account.password if account else secrets.token_hex(8)
        if account is None or not secrets.compare_digest(known.encode(), password.encode()):
            raise RefusedError(401, "invalid email or password")
        return answer({"token": self._vendor.logins.issue(account.id)})


def public_routes(vendor: LiteVps) -> list[Route]:
    """The open part of the document."""
    on = Handlers(vendor)
    return [
        Route("GET", "/health", "health", on.health, open=True),
        Route("GET", "/.well-known/agent.json", "agent_json", on.agent_json, open=True),
        Route("GET", "/openapi.json", "openapi", on.openapi, open=True),
        Route("GET", "/api/pricing", "pricing", on.pricing, open=True),
        Route("POST", "/api/auth/register", "register", on.register, open=True),
        Route("POST", "/api/auth/login", "login", on.login, open=True),
    ]
