"""Vendors that know us by an account, as agents meet them: catalogue, OpenAPI page, scopes, a balance that runs out."""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.account_ports import AccountTerms
from gateway.api.catalogue import VENDOR
from gateway.api.deps import Accounts
from gateway.api.money import BALANCE
from gateway.core.commands import Done, WarnMeter
from gateway.core.tariff import Rule
from gateway.core.times import utc_text
from gateway.core.vendor_tokens import VendorTokens
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock
from gateway.vendors.capabilities import CAPABILITY_NAMES
from gateway.vendors.cryptovps.vendor import CryptoVps
from gateway.vendors.litevps.vendor import LiteVps
from gateway.vendors.vrtx import Vrtx
from tests.factories import HOUR_MS, make_created, make_meter, make_order, make_resource, make_start
from tests.fakes.broker import EchoBroker
from tests.unit.gateway.api.bed import Bed, opened
from tests.unit.gateway.api.shape import check
from wallets.secret import Secret

TERMS = AccountTerms(3_600, 2_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=60)
LEAD_MS = 600_000


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Bed]:
    """The agents' side with three vendor accounts beside the shop."""

    def accounts(store: SqliteStore) -> Accounts:
        vendors = (
            CryptoVps("crypto", "https://c.example", TERMS),
            LiteVps("lite", "https://l.example", replace(TERMS, suspend_first=True)),
            Vrtx("labs", "https://v.example", replace(TERMS, rule=None)),
        )
        tokens = VendorTokens(Secret(b"\x31" * 32))
        return Accounts({vendor.name: vendor for vendor in vendors}, EchoBroker(store), tokens)

    async with opened(tmp_path, accounts=accounts) as bed:
        yield bed


def key_id(bed: Bed) -> str:
    """Return the id of the bed's own key."""
    return next(key.id for key in bed.store.view.keys_by_id.values() if key.account_id == "acc_1")


async def run_thing(bed: Bed, n: int = 1, hourly: str = "0.5") -> int:
    """Let a thing of acc_1 run at `lite`, its first hour held; return (ms) until when that is."""
    now_ms = SystemClock().now_ms()
    meter = make_meter(n, vendor="lite", key_id=key_id(bed), created_at_ms=now_ms, hourly=hourly)
    assert isinstance(await bed.store.post(make_order(n, meter=meter, hours=1)), Done)
    made = make_created(
        n,
        resource=make_resource(n, vendor="lite"),
        metered=make_start(hourly=hourly, since_ms=now_ms),
        at_ms=now_ms,
    )
    assert isinstance(await bed.store.post(made), Done)
    return now_ms + HOUR_MS


async def vendors(bed: Bed) -> dict[str, Any]:
    """Return the catalogue by name."""
    return {vendor["name"]: vendor for vendor in (await bed.ask("GET", "/v1/vendors")).json["vendors"]}


async def test_the_catalogue_holds_both_kinds_of_vendors(desk: Bed) -> None:
    """How each is paid, what it can do, what its routes cost; assets where there are any, terms where time is charged."""
    told = await vendors(desk)
    assert list(told) == ["crypto", "labs", "lite", "other", "shop"]
    for vendor in told.values():
        check(vendor, VENDOR)
        assert list(vendor["capabilities"]) == list(CAPABILITY_NAMES)
    assert {name: vendor["payment"] for name, vendor in told.items()}["crypto"] == ["account"]
    assert told["shop"]["payment"] == ["x402"]
    assert set(told["shop"]["capabilities"].values()) == {"unknown"}
    assert told["lite"]["capabilities"]["ssh_keys"] == "yes"
    assert "assets" not in told["lite"]
    assert "account" not in told["shop"]
    assert told["lite"]["account"] == {
        "period_s": 3_600,
        "rule": "started_units",
        "unit_s": 60,
        "while_running": True,
        "warn_periods": 24,
        "when_unfunded": "suspend",
        "grace_s": 60,
    }
    assert (told["labs"]["account"]["rule"], told["crypto"]["account"]["when_unfunded"]) == (None, "destroy")


async def test_the_catalogue_says_which_routes_cost_are_ours_or_closed(desk: Bed) -> None:
    """Free, metered with the most a period may cost, local, and closed with its reason."""
    routes = {route["name"]: route for route in (await vendors(desk))["lite"]["routes"]}
    assert (routes["create"]["pricing"], routes["create"]["ceiling"], routes["create"]["retry"]) == (
        "metered",
        "2.000000",
        "find",
    )
    crypto = {route["name"]: route for route in (await vendors(desk))["crypto"]["routes"]}
    assert (crypto["create"]["ceiling"], crypto["servers"]["ceiling"]) == ("2.000000", "0.000000")
    assert (routes["list"]["pricing"], routes["login"]["pricing"]) == ("free", "local")
    assert routes["add_funds"]["pricing"] == "closed"
    assert "balance is kept by this gateway" in routes["add_funds"]["reason"]
    assert "reason" not in routes["create"]
    assert "window" not in routes["create"]


async def test_openapi_describes_the_routes_of_account_vendors(desk: Bed) -> None:
    """Path and query parameters, who takes which body, what stands in the answer's headers, what needs no key, what is closed."""
    document = (await desk.bare("GET", "/openapi.json")).json
    paths = document["paths"]
    create = paths["/proxy/lite/api/vps"]["post"]
    names = {parameter["name"] for parameter in create["parameters"]}
    assert names == {"X-Max-Charge", "Prefer", "Idempotency-Key"}
    assert (create["x-pricing"], create["x-ceiling"], create["x-scope"]) == ("metered", "2.000000", "proxy:lite")
    assert create["requestBody"] == {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    headers = create["responses"]["default"]["headers"]
    assert {"X-Payment-Id", "X-Charge", "X-Balance-Available", "X-Balance-Low", "X-Request-Id"} == set(headers)
    assert all(h["$ref"].rpartition("/")[2] in document["components"]["headers"] for h in headers.values())
    upload = paths["/proxy/lite/api/vps/{id}/files"]["put"]
    assert list(upload["requestBody"]["content"]) == ["application/octet-stream"]
    assert {(p["in"], p["name"]) for p in upload["parameters"]} >= {("path", "id"), ("query", "path")}
    shown = paths["/proxy/labs/api/v2/servers"]["get"]
    assert {p["name"] for p in shown["parameters"] if p["in"] == "query"} == {"page", "per_page", "status"}
    assert "requestBody" not in shown
    login = paths["/proxy/crypto/auth/login"]["post"]
    assert ({} in login["security"], "x-scope" in login, login["parameters"]) == (True, False, [])
    closed = paths["/proxy/lite/api/tokens"]["post"]
    assert (closed["deprecated"], closed["x-pricing"], "requestBody" in closed) == (True, "closed", False)
    assert "requestBody" in paths["/proxy/lite/api/vps/batch"]["delete"]
    operations = [
        operation["operationId"] for path in paths.values() for operation in path.values() if "x-pricing" in operation
    ]
    assert len(operations) == len(set(operations))


async def test_llms_text_tells_of_what_is_charged_by_time(desk: Bed) -> None:
    """A model learns that what it made costs until it is destroyed, and where it is warned."""
    text = (await desk.bare("GET", "/llms.txt")).body.decode()
    assert "/proxy/lite: 43 routes, charged by time" in text
    assert "X-Balance-Low" in text
    assert "/proxy/shop: 5 routes\n" in text


async def test_keys_may_be_limited_to_an_account_vendor(desk: Bed) -> None:
    """Scopes and budgets know all vendors behind the proxy, by name and route."""
    body = {
        "name": "k",
        "scopes": ["proxy:lite"],
        "budgets": [{"limit": "5", "window_s": 60, "vendor": "lite", "route": "create"}],
    }
    assert (await desk.ask("POST", "/v1/keys", json=body)).status == 201
    body["budgets"] = [{"limit": "5", "window_s": 60, "vendor": "lite", "route": "rent"}]
    assert (await desk.ask("POST", "/v1/keys", json=body)).status == 400


async def test_the_balance_says_what_runs_and_when_it_runs_out(desk: Bed) -> None:
    """19 more hours at 0.5 follow the one that is held, less the time by which the next is held ahead."""
    nothing = (await desk.ask("GET", "/v1/balance")).json
    assert nothing["running"] == {"hourly": "0.000000", "things": [], "runs_out_at": None}
    held_until_ms = await run_thing(desk)
    told = (await desk.ask("GET", "/v1/balance")).json
    check(told, BALANCE)
    assert (told["available"], told["held"]) == ("9.500000", "0.500000")
    assert told["running"]["hourly"] == "0.500000"
    assert told["running"]["things"] == [
        {
            "vendor": "lite",
            "ref": "srv_0001",
            "name": "web",
            "kind": "server",
            "state": "running",
            "hourly": "0.5",
            "held_until": utc_text(held_until_ms),
            "warned": False,
            "unfunded": False,
        }
    ]
    assert told["running"]["runs_out_at"] == utc_text(held_until_ms + 19 * HOUR_MS - LEAD_MS)
    other = await desk.new_key("read", account_id="acc_2")
    assert (await desk.ask("GET", "/v1/balance", other)).json["running"]["things"] == []


async def test_every_answer_warns_while_the_balance_runs_low(desk: Bed) -> None:
    """Once the book has warned, our own routes, vendors' answers and problems carry the time; another account's do not."""
    held_until_ms = await run_thing(desk)
    assert "X-Balance-Low" not in (await desk.ask("GET", "/v1/balance")).headers
    await desk.store.post(WarnMeter("met_0001", unfunded=False, at_ms=SystemClock().now_ms()))
    expected = utc_text(held_until_ms + 19 * HOUR_MS - LEAD_MS)
    assert dt.datetime.fromisoformat(expected).utcoffset() == dt.timedelta(0)
    for path in ("/v1/balance", "/proxy/lite/api/vps", "/proxy/shop/free/x", "/v1/payments/none"):
        assert (await desk.ask("GET", path)).headers["X-Balance-Low"] == expected
    other = await desk.new_key("read", "proxy", account_id="acc_2")
    for path in ("/v1/balance", "/proxy/lite/api/vps"):
        assert "X-Balance-Low" not in (await desk.ask("GET", path, other)).headers
    assert "X-Balance-Low" not in (await desk.bare("GET", "/v1/balance")).headers


async def test_what_could_not_be_held_ends_with_what_is_held(desk: Bed) -> None:
    """Whatever the balance is by now: the next period was refused, so the thing ends before it."""
    held_until_ms = await run_thing(desk)
    await desk.store.post(WarnMeter("met_0001", unfunded=True, at_ms=SystemClock().now_ms()))
    got = await desk.ask("GET", "/v1/balance")
    assert got.headers["X-Balance-Low"] == got.json["running"]["runs_out_at"] == utc_text(held_until_ms)
    assert got.json["running"]["things"][0]["unfunded"] is True
