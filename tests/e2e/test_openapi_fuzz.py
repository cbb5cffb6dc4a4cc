"""The running service against its own OpenAPI document: schemathesis makes the requests, well-formed ones and others.

Whatever is asked, nothing ends in a 500, each answer has a status, a type and a shape that the document states, and what
does not fit is refused. Afterwards the money adds up. What a run tries is fixed by the seed in sandbox/fuzz/schemathesis.toml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from all_vendors import Service, all_vendors, furnish
from e2e_agent import TIMEOUT_S, eventually, problem_of
from e2e_books import read_books
from mcp import Client, StdioServerParameters, stdio_client

from sandbox.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FUZZ_TIMEOUT_S = 500
FUZZ = ROOT / "sandbox" / "fuzz"
LINTER = ROOT / "sandbox" / "node_modules" / "@redocly" / "cli" / "bin" / "cli.js"
DISCOVERY = """
import { validate } from "mppx/discovery"
import { readFileSync } from "node:fs"
const found = validate(JSON.parse(readFileSync(process.argv[1])))
if (found.length) { console.error(JSON.stringify(found)); process.exit(1) }
"""
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
ENDS_KEYS = "revoke_key"
PAID_IN = Decimal("200.5")  # by the operator, and by a pack of credit
STOPPING = "/(actions|restore|renewals)$"
ENDED = {"destroyed", "lapsed", "failed", "lost"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway before all five vendors, whose agent has one of everything."""
    with all_vendors(tmp_path_factory.mktemp("fuzz") / "gw") as running:
        furnish(running)
        yield running


@pytest.fixture(scope="module")
def whole(service: Service) -> dict[str, Any]:
    """The document as it is served."""
    found: dict[str, Any] = requests.get(f"{service.gateway.base_url}/openapi.json", timeout=TIMEOUT_S).json()
    return found


@pytest.fixture(scope="module")
def document(whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's own document without the vendors' routes: what they take is the vendors' to say."""
    own = dict(whole)
    own["paths"] = {path: item for path, item in whole["paths"].items() if not path.startswith("/proxy/")}
    assert len(own["paths"]) > 30
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(own))
    return path


def _fuzz(service: Service, document: Path, key: str, ids: dict[str, str], *chosen: str) -> None:
    """Run schemathesis on the chosen operations; `ids` are of the things of each collection that it asks about."""
    folder = document.parent
    (folder / "schemathesis.toml").write_text(
        (FUZZ / "schemathesis.toml").read_text() + "".join(_about(*each) for each in ids.items())
    )
    done = subprocess.run(
        [
            _tool("st"),
            *("--config-file", str(folder / "schemathesis.toml"), "run", str(document), "--no-color"),
            *("--url", service.gateway.base_url, "--header", f"Authorization: Bearer {key}", *chosen),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=FUZZ_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "request.failed" not in service.home.log()


def _tool(name: str) -> str:
    """Return a program of the environment that lints and fuzzes."""
    return str(Path(os.environ.get("FUZZ_VENV", str(ROOT / ".venv-fuzz"))) / "bin" / name)


def _about(collection: str, found: str) -> str:
    """Let requests about one thing of a collection be about that one."""
    parameter = {"jobs": "path.job", "events": "path.event"}.get(collection, "path.id")
    path = {"jobs": "/jobs/", "events": "/deliveries/"}.get(collection, f"^/v1/{collection}/")
    return f'\n[[operations]]\ninclude-path-regex = "{path}"\n[operations.parameters]\n"{parameter}" = "{found}"\n'


def _firsts(service: Service) -> dict[str, str]:
    event = service.ask("GET", "/v1/events?limit=1").json()["entries"][0]["data"]["id"]
    return {collection: ids[0] for collection, ids in service.ids.items()} | {"events": event}


def test_the_document_is_valid_and_lints(whole: dict[str, Any], tmp_path: Path) -> None:
    """By a validator of OpenAPI 3.1 and by a strict linter, the five vendors' routes included; neither finds anything."""
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(whole))
    assert sum(path.startswith("/proxy/") for path in whole["paths"]) > 50
    for command in (
        [_tool("openapi-spec-validator"), str(path)],
        ["node", str(LINTER), "lint", "--config", str(FUZZ / "redocly.yaml"), str(path)],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **QUIET}, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_stock_client_finds_out_what_is_sold(whole: dict[str, Any], tmp_path: Path) -> None:
    """By MPP's own discovery: each way to buy credit says in which tokens, and has its 402."""
    sold = {
        (method, path): operation["x-payment-info"]["offers"]
        for path, item in whole["paths"].items()
        for method, operation in item.items()
        if "x-payment-info" in operation
    }
    packs = "/v1/topups/packs/{name}"
    assert sold.keys() == {("post", "/v1/topups"), ("get", packs), ("post", packs)}
    for offers in sold.values():
        assert {(offer["intent"], offer["method"]) for offer in offers} == {("charge", "evm"), ("charge", "tempo")}
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(whole))
    command = ["node", "--input-type=module", "-e", DISCOVERY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT / "sandbox")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cap_is_kept_on_every_route_that_spends(service: Service) -> None:
    """X-Max-Charge below the price: refused as such, and nothing was bought."""
    prepaid = service.ids["servers"][1]
    before = len(service.agent.payments())
    fleet = {"need": {"min_memory_mib": 512}, "count": 1, "until": "2030-01-01T00:00:00Z", "budget": "1"}
    tried: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/servers", {"need": {"min_memory_mib": 512}, "name": "capped"}),
        ("/v1/fleets", fleet),
        (f"/v1/servers/{prepaid}/renewals", {"units": 30}),
        (f"/v1/servers/{prepaid}/actions", {"action": "reboot"}),
        (f"/v1/servers/{prepaid}/snapshots", {"name": "capped"}),
    )
    for number, (path, body) in enumerate(tried):
        headers = {"X-Max-Charge": "0.000001", "Idempotency-Key": f"capped-{number}"}
        answer = service.agent.ask("POST", path, json=body, headers=headers)
        assert (answer.status_code, problem_of(answer)) == (409, "price_above_max_charge"), (path, answer.text)
    assert len(service.agent.payments()) == before


async def test_an_mcp_client_rents_uses_and_ends_a_server(service: Service) -> None:
    """With the official SDK over stdio: each tool is one call of the API, and the purchase is made once under its key."""
    environment = {**os.environ, "GATEWAY_API_KEY": service.agent.key, "PYTHONPATH": str(ROOT)}
    words = ["-m", "gateway", "mcp", "--url", service.gateway.base_url, "--max-charge", "1"]
    server = StdioServerParameters(command=sys.executable, args=words, env=environment, cwd=ROOT)
    async with Client(stdio_client(server)) as client:

        async def ask(tool: str, **arguments: object) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result
            found: dict[str, Any] = result.structured_content
            return found

        claim = {"idempotency_key": "by-mcp", "max_charge": "1"}
        need = {"vendors": ["litevps"], "features": ["exec", "destroy"]}
        quote = await ask("quote_server", need=need)
        order = {"quote": quote["id"], "name": "by-mcp", "wait": "running", "timeout_s": 20, **claim}
        made = await ask("create_server", **order)
        assert (made["state"], made["quote"]) == ("running", quote["id"])
        assert (await ask("create_server", **order))["id"] == made["id"]
        ran = await ask("run_command", server_id=made["id"], command="uptime", timeout_s=5)
        assert ran["job"]["exit_code"] == 0
        assert (await ask("destroy_server", server_id=made["id"]))["wanted"] == "destroyed"
        ended = await ask("get_server", server_id=made["id"], wait="destroyed", timeout_s=20)
        assert ended["state"] == "destroyed"


def test_any_request_is_answered_as_documented(service: Service, document: Path) -> None:
    """Every operation, about things that are not there or that an answer happened to name."""
    _fuzz(service, document, service.agent.key, {}, "--exclude-operation-id", ENDS_KEYS)


def test_requests_about_own_things_are_answered_as_documented(service: Service, document: Path) -> None:
    """Every operation about one thing, but for those that stop or end it: the thing is the agent's own, and there."""
    chosen = ("--include-path-regex", "{", "--exclude-method", "DELETE", "--exclude-path-regex", STOPPING)
    _fuzz(service, document, service.agent.key, _firsts(service), *chosen)


def test_requests_that_stop_or_pay_are_answered_as_documented(service: Service, document: Path) -> None:
    """Actions, restoring, renewals and snapshots: at a vendor that is paid for each of them on chain."""
    ids = {**_firsts(service), "servers": service.ids["servers"][1]}
    _fuzz(service, document, service.agent.key, ids, "--include-path-regex", f"{STOPPING}|/snapshots$")


def test_endings_are_answered_as_documented(service: Service, document: Path) -> None:
    """What ends a thing, asked again and again; keys come last, and with a key that may end itself."""
    chosen = ("--include-method", "DELETE", "--exclude-operation-id", ENDS_KEYS)
    _fuzz(service, document, service.agent.key, _firsts(service), *chosen)
    mortal = service.agent.another_key(scopes=["proxy", "read", "keys"])
    ids = {"keys": mortal.key.removeprefix("gk_").rpartition("_")[0]}
    _fuzz(service, document, mortal.key, ids, "--include-operation-id", ENDS_KEYS)


def test_money_is_conserved_afterwards(service: Service) -> None:
    """Everything is let go of; then nothing is held, and the ledger and its journal prove themselves (P1, P2)."""
    for fleet in _all(service, "/v1/fleets"):
        assert service.ask("DELETE", f"/v1/fleets/{fleet}").status_code == 202
    for server in _all(service, "/v1/servers", "&open=true"):
        assert service.ask("DELETE", f"/v1/servers/{server}").status_code in {202, 409, 501}
    eventually(lambda: not _still_open(service), within_s=60, what="the end of all servers")
    eventually(lambda: not service.agent.balance()["held"], within_s=60, what="the end of all holds")
    balance = service.agent.balance()
    assert balance["credited"] == PAID_IN
    assert balance["available"] == balance["credited"] - balance["spent"] - balance["refunded"] > 0
    assert service.gateway.stop() == 0
    books = read_books(service.home.database)
    assert all(
        min(posted, pending) >= 0
        for (code, _), (posted, pending) in books.balances.items()
        if code.startswith("agent:")
    )


def _all(service: Service, path: str, more: str = "") -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = service.ask("GET", f"{path}?limit=200{more}{after}").json()
        found += [entry["id"] for entry in page["entries"]]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


def _still_open(service: Service) -> list[str]:
    """The servers that can still change, but for those whose vendor ends them with their term."""
    entries = service.ask("GET", "/v1/servers?open=true&limit=200").json()["entries"]
    return [entry["id"] for entry in entries if entry["wanted"] == "destroyed" and entry["state"] not in ENDED]
