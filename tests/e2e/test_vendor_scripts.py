"""Scripts from the vendors' own documents, run by bash with curl and jq against a real gateway: base URL and key are changed.

What stands in DOCUMENTED is copied from the documents. Replaced in it are the vendor's origin, the key (a password where
the script logs in), and the ids that the documents leave open (`<plan-id>`, `SERVER_UUID`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from e2e_agent import Agent
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import Gateway, GatewayHome

from gateway.core.login import Credentials
from gateway.vendor_credentials import VendorSecrets, save
from sandbox.process import SandboxProcess
from wallets.keystore import Keystore
from wallets.sealing import Sealer
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMAIL, PASSWORD, TOKEN = "ops@example.com", "operator-pass-1", "vrtx-operator-token"
_OURS = {"email": EMAIL, "password": PASSWORD, "balance": "100"}
VENDORS: dict[str, dict[str, Any]] = {
    "cryptovps": {"accounts": [_OURS], "server_limit": 20, "provision_s": 1.0, "destroy_s": 0.2, "backup_s": 0.5},
    "litevps": {"accounts": [_OURS], "create_s": 0.2, "stop_s": 0.2, "start_s": 0.2},
    "vrtx": {"accounts": [{"name": "ours", "tokens": [TOKEN]}], "boot_s": 0.2, "install_s": 0.4},
}
CREDENTIALS = {
    "cryptovps": Credentials(EMAIL, Secret(PASSWORD)),
    "litevps": Credentials(EMAIL, Secret(PASSWORD)),
    "vrtx": Credentials("", Secret(TOKEN)),
}
SCRIPT_TIMEOUT_S = 300
STRICT = "set -euo pipefail\n"

# CryptoVPS's document writes calls as "METHOD path body", its happy path in this order.
CRYPTOVPS = """\
POST /auth/register {"email":"agent@example.com","password":"KEY"}
POST /auth/login {"email":"agent@example.com","password":"KEY"}
GET /auth/me
GET /billing
POST /servers {"label":"my-bot","planId":"vc2-1c-1gb","regionId":"ams"}
POST /servers/bulk {"label":"fleet","count":10,"planId":"vc2-1c-1gb","regionId":"ams"}
GET /servers
"""

LITEVPS_LOGIN = """\
curl -s -X POST https://api.litevps.dev/api/auth/login \\
  -H 'Content-Type: application/json' \\
  -d '{"email":"agent@example.com","password":"s3cr3t"}' \\
  | jq -r .token
"""
LITEVPS_CREATE = """\
TOKEN="eyJ..."
curl -s -X POST /api/vps \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"name":"my-vm","plan_id":"<plan-id>"}' \\
  | jq '{id:.id, state:.state}'
"""
LITEVPS_POLL_AND_EXEC = """\
TOKEN="eyJ..."
VPS_ID="<id from step 2>"
while true; do
  STATE=$(curl -s /api/vps/$VPS_ID \\
    -H "Authorization: Bearer $TOKEN" | jq -r .state)
  echo "state: $STATE"
  [ "$STATE" = "running" ] && break
  sleep 5
done
curl -s -X POST /api/vps/$VPS_ID/exec \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"command":"uname -a"}' \\
  | jq '{stdout,stderr,exit_code,duration_ms}'
"""
LITEVPS_REFERENCE = """\
TOKEN="eyJ..."
VPS_ID="<id from step 2>"
curl -s /api/me -H "Authorization: Bearer $TOKEN"; echo
curl -s /api/pricing; echo
curl -s -X PUT "/api/vps/$VPS_ID/files?path=/root/hello.txt" \\
  -H "Authorization: Bearer $TOKEN" \\
  --data-binary @hello.txt; echo
curl -s "/api/vps/$VPS_ID/files?path=/root/hello.txt" \\
  -H "Authorization: Bearer $TOKEN"; echo
curl -s -X POST /api/vps/$VPS_ID/exec \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"command":"df -h /","timeout_seconds":30}'; echo
curl -s -X POST /api/vps/$VPS_ID/exec \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"command":"apt-get update -y","timeout_seconds":300,"background":true}'; echo
curl -s -X POST /api/vps \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"name":"agent-vm","template":"ubuntu-22-small"}'; echo
curl -s -X POST /api/vps/batch \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"vms":[{"name":"w1","template":"ubuntu-22-small"},{"name":"w2","template":"ubuntu-22-small"}]}'; echo
curl -s -X POST /api/vps/batch/exec \\
  -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"ids":["uuid1","uuid2"],"command":"uptime","timeout_seconds":10}'; echo
"""

VRTX_DISCOVER = """\
curl -H "Authorization: Bearer YOUR_API_TOKEN" \\
  https://console.vrtxlabs.tech/api/v2/plans
echo
curl -H "Authorization: Bearer YOUR_API_TOKEN" \\
  https://console.vrtxlabs.tech/api/v2/locations
echo
curl -H "Authorization: Bearer YOUR_API_TOKEN" \\
  https://console.vrtxlabs.tech/api/v2/locations/1/templates
echo
"""
VRTX_CREATE = """\
curl -X POST https://console.vrtxlabs.tech/api/v2/servers \\
  -H "Authorization: Bearer YOUR_API_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "plan_id": 1,
    "location_id": 6,
    "template_slug": "ubuntu-24.04",
    "hostname": "app-01.example.com"
  }'
"""
VRTX_STATUS = """\
curl -H "Authorization: Bearer YOUR_API_TOKEN" \\
  https://console.vrtxlabs.tech/api/v2/servers/SERVER_UUID/status
"""

# Stands in for jq where there is none: the four filters that the documents use.
JQ = """\
import json, sys
document, query = json.load(sys.stdin), sys.argv[-1]
if query.startswith("{"):
    names = [part.split(":")[0].strip() for part in query.strip("{}").split(",")]
    print(json.dumps({name: document.get(name) for name in names}, indent=2))
else:
    value = document.get(query[1:])
    print(value if "-r" in sys.argv and isinstance(value, str) else json.dumps(value))
"""


class Desk:
    """A gateway process before three vendors, and an agent's shell."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway, self.folder = gateway, folder
        (folder / "hello.txt").write_text("hello from the document\n")
        if shutil.which("jq") is None:
            path = folder / "jq"
            path.write_text(f"#!{sys.executable}\n{JQ}")
            path.chmod(0o700)

    def agent(self) -> Agent:
        """A new account with USD 50."""
        return Agent.open(self.gateway, "50")

    def base(self, kind: str, key: str = "") -> str:
        """What stands for the vendor's origin; with a key also for calls that the document makes without one."""
        scheme, _, host = self.gateway.base_url.partition("://")
        return f"{scheme}://agent:{key}@{host}/proxy/{kind}" if key else f"{scheme}://{host}/proxy/{kind}"

    def run(self, script: str) -> str:
        """Run a script; it must succeed. Returns what it printed."""
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", STRICT + script],
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=SCRIPT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Start the vendors and the gateway."""
    home = GatewayHome(tmp_path_factory.mktemp("scripts") / "gw")
    with contextlib.ExitStack() as stack:
        processes = {
            kind: stack.enter_context(SandboxProcess.start(f"sandbox.{kind}", config))
            for kind, config in VENDORS.items()
        }
        home.config.write_text(_config(home, processes))
        keystore = home.directory / "keystore"
        sealer = Sealer(Keystore(keystore).unlock(Secret(PASSPHRASE)).data_key)
        for kind, credentials in CREDENTIALS.items():
            save(keystore, kind, VendorSecrets(credentials), sealer)
        gateway = stack.enter_context(home.start(ready=False))
        yield Desk(gateway, tmp_path_factory.mktemp("shell"))


def _config(home: GatewayHome, processes: dict[str, SandboxProcess]) -> str:
    head = (
        f'data_dir = "{home.directory}"\n[server]\nport = 0\nshutdown_timeout_s = 5\n'
        f'[keystore]\npassphrase = "env:{PASSPHRASE_VARIABLE}"\n[limits]\nmetered_per_vendor = 100\n'
    )
    parts = [head]
    for kind, process in processes.items():
        parts.append(
            f'[vendors.{kind}]\nkind = "{kind}"\nbase_url = "{process.base_url}"\nceiling = "1"\n'
            "allow_private = true\nallow_plain_http = true\n"
            f'[vendors.{kind}.account]\nbilling_rule = "started_units"\npoll_s = 0.2\n'
        )
    return "\n".join(parts)


def _curl(base: str, line: str, token: str) -> str:
    """Return a documented call ("METHOD path body") as the curl line that anybody would make of it."""
    method, path, body = (*line.split(" ", 2), "")[:3]
    said = f" -H 'Authorization: Bearer {token}'" if token else ""
    sent = f" -H 'Content-Type: application/json' -d '{body}'" if body else ""
    return f"curl -s -X {method} {base}{path}{said}{sent} -w '\\n%{{http_code}}'"


def test_cryptovps_happy_path(desk: Desk) -> None:
    """Register, log in, look at the balance, deploy one and a fleet, list, destroy: each as documented, on the agent's own."""
    agent, base, token = desk.agent(), desk.base("cryptovps"), ""
    said: dict[str, Any] = {}
    for line in CRYPTOVPS.splitlines():
        printed = desk.run(_curl(base, line.replace("KEY", agent.key), token))
        body, _, status = printed.rpartition("\n")
        said[" ".join(line.split(" ")[:2])] = (int(status), json.loads(body))
        token = json.loads(body).get("accessToken", token)
    statuses = {call: status for call, (status, _) in said.items()}
    assert statuses == {
        "POST /auth/register": 201,
        "POST /auth/login": 200,
        "GET /auth/me": 200,
        "GET /billing": 200,
        "POST /servers": 202,
        "POST /servers/bulk": 202,
        "GET /servers": 200,
    }
    assert said["GET /auth/me"][1]["user"] == {"id": agent.account_id, "email": "agent@example.com", "balance": "50.00"}
    assert said["POST /servers"][1]["server"]["status"] == "PROVISIONING"
    fleet = [server["label"] for server in said["POST /servers/bulk"][1]["servers"]]
    assert fleet == [f"fleet-{number}" for number in range(1, 11)]
    listed = {server["label"]: server["id"] for server in said["GET /servers"][1]["servers"]}
    assert set(listed) == {"my-bot", *fleet}
    poll = f"""
while true; do
  STATUS=$(curl -s {base}/servers/{listed["my-bot"]} -H "Authorization: Bearer {token}" | jq -r .server | grep -o ACTIVE || true)
  [ "$STATUS" = "ACTIVE" ] && break
  sleep 1
done
"""
    desk.run(poll)
    for ref in listed.values():
        printed = desk.run(_curl(base, f"DELETE /servers/{ref}", token))
        assert printed == '{"ok":true}\n202'


def test_litevps_quick_start_and_reference(desk: Desk) -> None:
    """The four steps of the quick start, and the curl lines of the reference below them."""
    agent = desk.agent()
    base = desk.base("litevps", agent.key)

    def of_ours(script: str, token: str = "", ref: str = "", plan: str = "") -> str:
        changed = script.replace("https://api.litevps.dev", base).replace(" /api/", f" {base}/api/")
        changed = changed.replace('"/api/', f'"{base}/api/').replace("s3cr3t", agent.key)
        return changed.replace("eyJ...", token).replace("<id from step 2>", ref).replace("<plan-id>", plan)

    token = desk.run(of_ours(LITEVPS_LOGIN)).strip()
    assert token
    plan = json.loads(desk.run(f"curl -s {base}/api/pricing"))[0]["id"]
    made = json.loads(desk.run(of_ours(LITEVPS_CREATE, token, plan=plan)))
    assert made["state"] == "creating"
    printed = desk.run(of_ours(LITEVPS_POLL_AND_EXEC, token, made["id"]))
    assert "state: running" in printed
    assert json.loads(printed[printed.index("{") :])["exit_code"] == 0
    ids = json.dumps([made["id"], made["id"]])
    reference = of_ours(LITEVPS_REFERENCE, token, made["id"]).replace('["uuid1","uuid2"]', ids)
    me, plans, _, file, *rest = desk.run(reference).splitlines()
    assert json.loads(me)["id"] == agent.account_id
    assert json.loads(plans)
    assert file == "hello from the document"
    documents = [json.loads(line) for line in rest if line]
    df, job, template, batch, uptime = documents
    assert (df["exit_code"], job["status"], template["name"]) == (0, "pending", "agent-vm")
    assert [result["vps"]["name"] for result in batch["results"]] == ["w1", "w2"]
    assert [result["exit_code"] for result in uptime["results"]] == [0, 0]


def test_vrtx_workflow(desk: Desk) -> None:
    """Discover, create, poll: the document's curl lines."""
    agent, base = desk.agent(), desk.base("vrtx")

    def of_ours(script: str, ref: str = "") -> str:
        changed = script.replace("https://console.vrtxlabs.tech", base).replace("YOUR_API_TOKEN", agent.key)
        return changed.replace("SERVER_UUID", ref)

    plans, locations, templates = (json.loads(line) for line in desk.run(of_ours(VRTX_DISCOVER)).splitlines())
    assert plans["data"][0]["hourly_price"] == 0.0053
    assert {location["id"] for location in locations["data"]} == set(range(1, 14))
    assert "ubuntu-24.04" in {template["slug"] for template in templates["data"]}
    made = json.loads(desk.run(of_ours(VRTX_CREATE)))["data"]
    assert (made["name"], made["status"]) == ("app-01.example.com", "installing")
    poll = f'until {of_ours(VRTX_STATUS, made["uuid"]).strip()} | grep -q \'"state":"running","status":null\'; do sleep 0.2; done'
    desk.run(poll)
    assert json.loads(desk.run(of_ours(VRTX_STATUS, made["uuid"])))["data"]["state"] == "running"
    stranger = desk.agent()
    refused = desk.run(of_ours(VRTX_STATUS, made["uuid"]).replace(agent.key, stranger.key))
    assert json.loads(refused)["error"]["code"] == "NOT_FOUND"
