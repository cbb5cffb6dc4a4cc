"""Operations: health, readiness, counts, the log's line, and what happens when things fail inside."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.api import ops
from gateway.api.deps import ApiSettings
from gateway.api.lines import JsonLines, Value
from gateway.api.metrics import loop_lines
from gateway.core.commands import OpenTask
from gateway.core.records import Task
from gateway.jobs.loops import LoopState
from gateway.store.core import StoreBroken
from tests.unit.gateway.api.bed import Bed, opened


async def test_alive_and_ready_are_two_questions(bed: Bed) -> None:
    """A gateway that waits for its chain is alive and not ready, and says why."""
    assert (await bed.bare("GET", "/healthz")).json == {"alive": True}
    assert (await bed.bare("GET", "/readyz")).json == {"ready": True, "limits": []}
    bed.reasons.append("chain 8453 was not read yet")
    got = await bed.bare("GET", "/readyz")
    assert (got.status, got.code, got.json["reasons"]) == (503, "not_ready", ["chain 8453 was not read yet"])
    assert (await bed.bare("GET", "/healthz")).status == 200


async def test_a_freeze_is_a_limit_and_no_reason_to_look_elsewhere(bed: Bed) -> None:
    """Balances and servers can be read while purchases are stopped, so a balancer must not take the process away."""
    deps = replace(bed.server.api.deps, limits=lambda: ["frozen by the operator"])
    told = await ops.readyz(deps, None)  # type: ignore[arg-type]
    assert (told.status, told.body) == (200, {"ready": True, "limits": ["frozen by the operator"]})


def test_metrics_tell_how_the_background_work_is() -> None:
    """M11: a tracker that died shows as unhealthy, one that hangs by its age."""
    states = [LoopState("track chain 8453", False, 61.25), LoopState("recover answers", True, 0.0)]
    assert [line for line in loop_lines(states) if not line.startswith("#")] == [
        'gateway_loop_healthy{loop="recover answers"} 1',
        'gateway_loop_healthy{loop="track chain 8453"} 0',
        'gateway_loop_last_success_age_seconds{loop="recover answers"} 0.000',
        'gateway_loop_last_success_age_seconds{loop="track chain 8453"} 61.250',
    ]


async def test_metrics_count_requests_and_state(bed: Bed) -> None:
    """Requests by route and class of status, open payments by axes, tasks, journal and chain heights."""
    await bed.ask("GET", "/proxy/shop/free/x")
    await bed.ask("GET", "/proxy/shop/free/y")
    await bed.ask("GET", "/proxy/shop/none")
    await bed.ask("POST", "/proxy/shop/priced")
    await bed.store.post(OpenTask(Task("task_9", "payee", "subject", "look", 1)))
    got = await bed.bare("GET", "/metrics")
    lines = got.body.decode().splitlines()
    assert 'gateway_requests_total{route="proxy/shop/free",status="2xx"} 2' in lines
    assert 'gateway_requests_total{route="proxy",status="4xx"} 1' in lines
    assert 'gateway_request_duration_seconds_count{route="proxy/shop/free"} 2' in lines
    assert 'gateway_request_duration_seconds_bucket{route="proxy/shop/free",le="+Inf"} 2' in lines
    assert 'gateway_payments_open{vendor="shop",delivery="delivered",transfer="presented"} 1' in lines
    assert f"gateway_journal_seq {bed.store.view.journal_seq}" in lines
    assert 'gateway_chain_block{chain_id="8453",which="head"} 110' in lines
    assert 'gateway_chain_block{chain_id="8453",which="final"} 100' in lines
    assert any(line.startswith("gateway_tasks_open ") and not line.endswith(" 0") for line in lines)


async def test_metrics_name_no_account_key_or_path(bed: Bed) -> None:
    """P10: labels come from configuration; whatever agents write is none of them."""
    await bed.ask("GET", "/proxy/shop/free/private-name?token=hidden")
    await bed.ask("GET", "/proxy/unknown-vendor/x")
    await bed.ask("GET", "/v1/payments/pay_private")
    await bed.ask("GET", "/no/such/place")
    text = (await bed.bare("GET", "/metrics")).body.decode()
    for private in ("private", "hidden", "unknown-vendor", "acc_1", bed.key, "such"):
        assert private not in text
    names = r"[a-z_]+"
    for line in text.splitlines():
        assert re.fullmatch(rf"# TYPE {names} (counter|gauge|histogram)|{names}(\{{.*\}})? [0-9.e+-]+", line), line


async def test_metrics_can_be_off(tmp_path: Path) -> None:
    """Where the port is public the counts need not be."""
    async with opened(tmp_path, ApiSettings(metrics=False)) as bed:
        assert (await bed.bare("GET", "/metrics")).status == 404
        assert "/metrics" not in (await bed.bare("GET", "/openapi.json")).json["paths"]


async def test_llms_text_names_the_vendors(bed: Bed) -> None:
    """A model finds the base paths on one page."""
    got = await bed.bare("GET", "/llms.txt")
    assert got.headers["Content-Type"].startswith("text/plain")
    assert b"/proxy/shop" in got.body


async def test_one_log_line_a_request(tmp_path: Path) -> None:
    """Each request leaves one line with id, scrubbed path, status, time, account, vendor, payment and charge."""
    lines: list[dict[str, Value]] = []
    async with opened(tmp_path, request_log=lambda line: lines.append(dict(line))) as bed:
        await bed.ask("GET", "/proxy/shop/free/x?token=hidden&a=1")
        paid = await bed.ask("POST", "/proxy/shop/priced")
        await bed.ask("GET", "/v1/payments/none?x=secret")
        await bed.bare("GET", "/nothing/here?key=secret")
    free, bought, missing, unknown = lines
    assert free["path"] == "/proxy/shop/free/x?token=***&a=1"
    assert (free["status"], free["account"], free["vendor"], free["method"]) == (200, "acc_1", "shop", "GET")
    assert isinstance(free["duration_ms"], float)
    assert (bought["payment_id"], bought["charge"]) == (paid.headers["X-Payment-Id"], "0.250000")
    assert (missing["path"], missing["status"]) == ("/v1/payments/{id}", 400)
    assert (unknown["path"], unknown["status"]) == ("none", 404)
    assert "secret" not in str(lines)
    assert "hidden" not in str(lines)


async def test_json_lines_are_whole_and_well_formed() -> None:
    """Whatever a field holds, a line is one JSON object; lines of one turn are written together."""
    written: list[str] = []
    log = JsonLines(written.append)
    odd = 'a"b\\c\n\x00é\u2028'
    log({"path": odd, "status": 200, "duration_ms": 0.125, "cut": True})
    log({"path": "/", "status": 404})
    assert written == []
    await asyncio.sleep(0)
    assert len(written) == 1
    first, second = [json.loads(line) for line in written[0].splitlines()]
    assert {k: first[k] for k in ("event", "level", "path", "status", "duration_ms", "cut")} == {
        "event": "request",
        "level": "info",
        "path": odd,
        "status": 200,
        "duration_ms": 0.125,
        "cut": True,
    }
    assert second["status"] == 404
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"])
    log.flush()
    assert len(written) == 1


async def test_bug_inside_is_500_without_its_text(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed inside stays inside: the agent gets a request id, the log gets the rest."""

    async def fails(*_: Any) -> None:
        raise RuntimeError("inner text with a secret")

    monkeypatch.setattr(bed.store, "query", fails)
    got = await bed.ask("GET", "/v1/balance")
    assert (got.status, got.code) == (500, "internal")
    assert b"inner" not in got.body
    assert got.json["request_id"] == got.headers["X-Request-Id"]
    assert (await bed.bare("GET", "/healthz")).status == 200


async def test_broken_store_is_503_and_ends_the_process(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nothing can be committed, requests are turned away and the owner of the process is told."""

    async def broken(*_: Any) -> None:
        raise StoreBroken("inner")

    monkeypatch.setattr(bed.store, "post", broken)
    got = await bed.ask("POST", "/proxy/shop/priced")
    assert (got.status, got.code) == (503, "shutting_down")
    assert got.headers["Retry-After"] == "1"
    assert bed.broken == ["stop"]
    assert bed.shop.sold == 0
    monkeypatch.setattr(type(bed.store), "broken", True)
    assert (await bed.bare("GET", "/healthz")).code == "not_ready"
    assert (await bed.bare("GET", "/readyz")).code == "not_ready"


async def test_too_many_at_once_are_turned_away(tmp_path: Path) -> None:
    """Beyond the limit a request is 503 with Retry-After, and those under way are not harmed."""
    async with opened(tmp_path, ApiSettings(max_in_flight=1)) as bed:
        slow = asyncio.create_task(bed.ask("POST", "/proxy/shop/maybe/slow"))
        await bed.shop.paid.wait()
        got = await bed.ask("GET", "/v1/balance")
        assert (got.status, got.code, got.headers["Retry-After"]) == (503, "overloaded", "1")
        bed.shop.gate.set()
        assert (await slow).status == 200


async def test_closing_server_turns_new_requests_away(bed: Bed) -> None:
    """After `refuse_new` whoever asks is sent elsewhere, and the connection is closed."""
    bed.server.refuse_new()
    got = await bed.ask("GET", "/v1/balance")
    assert (got.code, got.headers["Connection"]) == ("shutting_down", "close")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: gk_secret\r\nBad Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: gk_secret\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Api-Key: gk_secret\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: gk_secret\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_that_repeats_nothing(
    bed: Bed, request_bytes: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Malformed and smuggling requests get 400 as a problem; neither answer nor log repeats them."""
    answer = await bed.wire(request_bytes)
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"application/problem+json" in answer
    assert b'"code":"bad_request"' in answer
    written = capsys.readouterr()
    assert "gk_secret" not in answer.decode() + written.out + written.err + caplog.text
    assert bed.shop.seen == []


async def test_big_headers_are_taken(bed: Bed) -> None:
    """Payment credentials make large headers: 60 KiB is no error."""
    got = await bed.ask("GET", "/proxy/shop/free/x", headers={"X-Payment": "x" * 60_000})
    assert got.status == 200
