"""The vendor as a process: its config, its restart, its end, and what it does when prepaid time is over."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dropmpp_harness import HOUR_S, SMALL, SMALL_BASE, DropClient, eventually

from sandbox.dropmpp.payer import MppxPayer, PayerError
from sandbox.process import ROOT, SandboxError, SandboxProcess

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.tempo.chain import LocalTempo


def test_restarted_vendor_knows_everything(drop: DropClient, tmp_path: Path) -> None:
    """Killed, it comes back at the same address with its servers, clock, secret and replay markers."""
    config: dict[str, Any] = {"rpc_url": drop.chain.rpc_url, "state_file": str(tmp_path / "state.json")}
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        client = replace(drop, process=process)
        client.advance(600)
        used, _ = client.signed("POST", "/v1/servers", SMALL)
        server_id = client.raw("POST", "/v1/servers", SMALL, headers=used).json()["id"]
        fresh, _ = client.signed("POST", f"/v1/servers/{server_id}/extend", {"minutes": 60})
        process.stop(terminate=False)
    port = int(process.base_url.rsplit(":", 1)[1])
    with SandboxProcess.start("sandbox.dropmpp", config | {"port": port}) as process:
        client = replace(drop, process=process)
        before = client.income()
        assert client.raw("POST", "/v1/servers", SMALL, headers=used).status_code == 402
        assert client.income() == before
        path = f"/v1/servers/{server_id}"
        assert client.raw("POST", f"{path}/extend", {"minutes": 60}, headers=fresh).status_code == 200
        assert client.good("GET", path)["remaining_minutes"] == 119
        told = client.state()
        assert told["business_ms"] - told["real_ms"] == 600_000


@pytest.mark.parametrize(("rule", "servers", "snapshots"), [("snapshot", 0, 1), ("off", 1, 0)])
def test_what_happens_at_expiry_is_configured(drop: DropClient, rule: str, servers: int, snapshots: int) -> None:
    """The document is silent, so the vendor can keep a snapshot, or leave the server switched off, too."""
    config = {"rpc_url": drop.chain.rpc_url, "at_expiry": rule, "provision_s": 0}
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        client = replace(drop, process=process)
        client.good("POST", "/v1/servers", SMALL)
        client.advance(HOUR_S)
        left = client.good("GET", "/v1/servers")["servers"]
        assert [server["status"] for server in left] == ["off"] * servers
        assert len(client.good("GET", "/v1/snapshots")["snapshots"]) == snapshots


def test_configured_prices_and_rounding(drop: DropClient) -> None:
    """Rates, fees and the rounding that the document leaves open come from the config; so do starting faults."""
    config: dict[str, Any] = {
        "rpc_url": drop.chain.rpc_url,
        "sizes": {"small": {"hourly": "0.01", "create_fee": "0"}},
        "rounding": "down",
        "faults": [{"kind": "status", "route": "images", "status": 500}],
    }
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        client = replace(drop, process=process)
        assert client.raw("GET", "/v1/catalog/images").status_code == 500
        assert client.price("POST", "/v1/servers", SMALL | {"minutes": 1}) == 166
        assert client.price("POST", "/v1/servers", SMALL) == 10_000


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "missing config keys: rpc_url"),
        ({"rpc_url": "http://127.0.0.1:9", "colour": "red"}, "unknown config keys: colour"),
        ({"rpc_url": "http://127.0.0.1:9", "catalog": "shut"}, "catalog: must be one of open, proof"),
        ({"rpc_url": "http://127.0.0.1:9", "sizes": {"huge": {}}}, "unknown size: huge"),
        ({"rpc_url": "http://127.0.0.1:9", "sizes": {"small": {"hourly": "1e3"}}}, "not an amount of USD"),
        ({"rpc_url": "http://127.0.0.1:9", "faults": [{"kind": "gremlin"}]}, "unknown kind"),
    ],
)
def test_bad_config_stops_the_start(config: dict[str, Any], says: str) -> None:
    """A wrong config ends the process with a message that names what is wrong."""
    with pytest.raises(SandboxError, match=says):
        SandboxProcess.start("sandbox.dropmpp", config)


def test_sigterm_ends_it_cleanly() -> None:
    """SIGTERM is an orderly end with status 0, and needs no chain."""
    process = SandboxProcess.start("sandbox.dropmpp", {"rpc_url": "http://127.0.0.1:9"})
    assert process.stop() == 0
    assert not process.running()


@pytest.mark.parametrize("through_stdin", [True, False])
def test_dies_with_its_parent(through_stdin: bool) -> None:  # noqa: FBT001 -- a case
    """However the parent ends, the vendor does not outlive it."""
    config = json.dumps({"rpc_url": "http://127.0.0.1:9"})
    start = (
        f"SandboxProcess.start('sandbox.dropmpp', json.loads({config!r}))"
        if through_stdin
        else f"subprocess.Popen([sys.executable, '-m', 'sandbox.dropmpp', '--config', {config!r}], "
        "stdout=subprocess.PIPE)"
    )
    parent_code = (
        "import json, subprocess, sys, time\n"
        "from sandbox.process import SandboxProcess\n"
        f"kept = {start}\n"
        "info = json.loads(kept.stdout.readline()) if isinstance(kept, subprocess.Popen) else kept.info\n"
        "print(json.dumps(info), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        info = json.loads(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    eventually(lambda: not _listens(info["base_url"]), within_s=10, what="the vendor's end")


def test_payer_process_tells_its_own_end(tempo: LocalTempo) -> None:
    """A call that is under way when the client process goes is an error, not a wait."""
    with MppxPayer(tempo.rpc_url, tempo.chain_id) as payer:
        with pytest.raises(PayerError):
            payer.credential(tempo.dev_account(0)[1], ["Payment nonsense"])
        payer.kill()
        with pytest.raises(PayerError, match="ended"):
            payer.credential(tempo.dev_account(0)[1], ["Payment nonsense"])


def test_money_is_counted_from_the_first_call(drop: DropClient) -> None:
    """After a reset the book is empty, and a first purchase is all there is in it."""
    assert drop.payments() == []
    assert drop.good("POST", "/v1/servers", SMALL)["total_charged"] == "0.0234"
    assert [int(payment["amount_base"]) for payment in drop.payments()] == [SMALL_BASE]
    drop.admin("POST", "/admin/reset")
    assert drop.state()["servers"] == {}


def _listens(base_url: str) -> bool:
    host, port = base_url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
