"""The vendor as a process: its config, its restart, its end, and a stock SDK client that pays it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sandbox_harness import VendorClient, eventually, vendor_config

from sandbox.process import ROOT, SandboxError, SandboxProcess, sandbox_python

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.chain import LocalBase


def test_restarted_vendor_still_knows_its_rentals(funded_base: LocalBase, tmp_path: Path) -> None:
    """Killed between verification and settlement, it comes back at the same address, brings the box up and collects."""
    state = {"state_file": str(tmp_path / "state.json"), "provision_s": 2}
    with SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base, **state)) as process:
        client = VendorClient(process, funded_base, 1)
        client.admin("POST", "/admin/clock", {"advance_s": 600})
        answer, payment = client.rent()
        rental = answer.json()
        process.stop(terminate=False)
    port = int(process.base_url.rsplit(":", 1)[1])
    with SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base, port=port, **state)) as process:
        client = VendorClient(process, funded_base, 1)
        again = client.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
        assert again.json() == rental
        client.wait_status(rental["rental_id"], "active")
        told = client.state()
        assert told["business_ms"] - told["real_ms"] == 600_000
        assert told["ssh_port"] == process.info["ssh_port"]


def test_configured_prices_windows_and_hidden_address(funded_base: LocalBase) -> None:
    """Prices, windows per route, unroutable SKUs, starting faults and the null ipv4 come from the config."""
    overrides: dict[str, Any] = {
        "prices": {"sandbox_1h": "0.01"},
        "unavailable": ["sandbox_24h"],
        "max_timeout_by_route_s": {"renew": 120},
        "ipv4_after_s": 1.0,
        "manual_step_s": 0.2,
        "faults": [{"kind": "status", "route": "healthz", "status": 500}],
    }
    with SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base, **overrides)) as process:
        client = VendorClient(process, funded_base, 2)
        assert client.get("/healthz").status_code == 500
        assert client.post("/rent", {"sku": "sandbox_24h"}).status_code == 503
        assert client.quote()["maxAmountRequired"] == "10000"
        rental = client.active_rental("server_small_1mo")
        assert rental["ipv4"] is None
        instance = f"/instance/{rental['rental_id']}?token={rental['root_token']}"
        eventually(lambda: client.get(instance).json()["ipv4"], what="the address")
        renew = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
        requirement = client.post(renew, {"periods": 1}).json()["accepts"][0]
        assert requirement["maxTimeoutSeconds"] == 120
        client.post(renew, {"periods": 1}, headers=client.sign(requirement).headers)
        eventually(lambda: client.rental(rental["rental_id"])["renewal_count"] == 1, what="the renewal")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "unknown config keys: colour"),
        ({"prices": {"server_huge": "1"}}, "unknown sku: server_huge"),
        ({"represent": {"rent": "maybe"}}, "unknown values: maybe"),
        ({"faults": [{"kind": "gremlin"}]}, "unknown kind"),
    ],
)
def test_bad_config_stops_the_start(funded_base: LocalBase, change: dict[str, Any], says: str) -> None:
    """A wrong config ends the process with a message that names what is wrong."""
    with pytest.raises(SandboxError, match=says):
        SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base, **change))


def test_sigterm_ends_it_cleanly(funded_base: LocalBase) -> None:
    """SIGTERM is an orderly end with status 0."""
    process = SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base))
    assert process.stop() == 0
    assert not process.running()


@pytest.mark.parametrize("through_stdin", [True, False])
def test_dies_with_its_parent(funded_base: LocalBase, tmp_path: Path, through_stdin: bool) -> None:  # noqa: FBT001 -- a case
    """However the parent ends, the vendor does not outlive it."""
    config = json.dumps(vendor_config(funded_base))
    path = tmp_path / "config.json"
    path.write_text(config)
    start = (
        f"SandboxProcess.start('sandbox.vpsagent', json.loads({config!r}))"
        if through_stdin
        else "subprocess.Popen([sandbox_python(), '-m', 'sandbox.vpsagent', '--config', "
        f"{str(path)!r}], stdout=subprocess.PIPE)"
    )
    parent_code = (
        "import json, subprocess, time\n"
        "from sandbox.process import SandboxProcess, sandbox_python\n"
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
    eventually(lambda: not _listens(info["base_url"]), what="the vendor's end")


def test_stock_sdk_client_rents_a_box(vendor: VendorClient) -> None:
    """PyPI x402's own httpx client understands the challenge, pays, and gets the rental."""
    config = {
        "private_key": vendor.key,
        "method": "POST",
        "url": vendor.process.base_url + "/rent",
        "json": {"sku": "server_small_1mo"},
    }
    done = subprocess.run(
        [sandbox_python(), "-m", "sandbox.sellers.client", "--config", json.dumps(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (answer,) = json.loads(done.stdout)["answers"]
    assert answer["status"] == 200, answer
    vendor.wait_status(json.loads(answer["body"])["rental_id"], "active")


def _listens(base_url: str) -> bool:
    host, port = base_url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
