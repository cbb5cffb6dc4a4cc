"""Inside a LiteVPS machine: files, commands, background jobs, the denylist; and the faults that LiteVPS can be told."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "vtk_guest"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "accounts": [{"email": "a@example.com", "password": "long-enough", "balance": "10", "tokens": [TOKEN]}],
    "commands": {"apt-get update -y": {"stdout": "Done\n", "stderr": "", "exit_code": 0, "duration_s": 40}},
}


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.litevps", CONFIG) as started:
        yield started


@pytest.fixture
def vendor(process: SandboxProcess) -> Driver:
    """The vendor as after its start."""
    driver = Driver(process, TOKEN)
    driver.admin("POST", "/reset")
    return driver


def order(vendor: Driver) -> dict[str, Any]:
    """The smallest order."""
    return {"name": "web-01", "plan_id": vendor.get("/api/pricing").json()[0]["id"]}


@pytest.fixture
def machine(vendor: Driver) -> str:
    """The path of a running machine."""
    machine_id = vendor.post("/api/vps", order(vendor)).json()["id"]
    vendor.advance(20)
    return f"/api/vps/{machine_id}"


def run(vendor: Driver, machine: str, command: str) -> Any:
    """The outcome of a command."""
    answer = vendor.post(f"{machine}/exec", {"command": command})
    assert answer.status == 200, answer.raw
    return answer.json()


def test_files_go_in_and_come_out_as_bytes(vendor: Driver, machine: str) -> None:
    """Any bytes, any depth, seen by commands; what is not there is 404, a path that is none is 400."""
    content = bytes(range(256))
    stored = vendor.put(f"{machine}/files?path=/root/a/b.bin", raw=content)
    assert (stored.status, stored.json()) == (200, {"path": "/root/a/b.bin", "size": 256})
    answer = vendor.get(f"{machine}/files?path=/root/a/b.bin")
    assert (answer.raw, answer.headers["content-type"]) == (content, "application/octet-stream")
    assert vendor.get(f"{machine}/files?path=/etc/hostname").raw == b"web-01\n"
    assert run(vendor, machine, "ls /root/a")["stdout"] == "b.bin\n"
    assert vendor.get(f"{machine}/files?path=/nowhere").status == 404
    for path in ("", "?path=", "?path=relative", "?path=/etc/hostname/x"):
        assert vendor.put(f"{machine}/files{path}", raw=b"x").status == 400


def test_no_path_leads_out_of_the_machine(vendor: Driver, machine: str) -> None:
    """`..` ends at the machine's own root."""
    vendor.put(f"{machine}/files?path=/../../../../tmp/litevps-escape", raw=b"x")
    assert vendor.get(f"{machine}/files?path=/tmp/litevps-escape").raw == b"x"
    assert vendor.get(f"{machine}/files?path=/../../../../etc/passwd").status == 404


@pytest.mark.parametrize(
    ("command", "stdout", "exit_code"),
    [
        ("echo 'a b'", "a b\n", 0),
        ("echo one; echo two", "one\ntwo\n", 0),
        ("false && echo no", "", 1),
        ("false || echo yes", "yes\n", 0),
        ("echo x > /root/f && cat f", "x\n", 0),
        ("echo x > f; echo y >> f; cat /root/f", "x\ny\n", 0),
        ("exit 3", "", 3),
        ("df -h /", None, 0),
        ("cat /nothing", "", 1),
        ("curl http://127.0.0.1/", "", 127),
        ("echo 'open", "", 2),
    ],
)
def test_commands(vendor: Driver, machine: str, command: str, stdout: str | None, exit_code: int) -> None:
    """The scripted shell knows a few commands; nothing is really run."""
    done = run(vendor, machine, command)
    assert done["exit_code"] == exit_code
    assert stdout is None or done["stdout"] == stdout
    assert bool(done["stderr"]) == (exit_code in (2, 127) or "nothing" in command)


@pytest.mark.parametrize(
    "command",
    ["rm -rf /", "rm -rf /tmp/mine", "mkfs.ext4 /dev/vda", "dd if=/dev/zero", ":(){ :|:& };:", "echo reboot", "halt"],
)
def test_the_denylist_is_a_search_for_text(vendor: Driver, machine: str, command: str) -> None:
    """Also harmless commands are blocked; the attempt is audited."""
    answer = vendor.post(f"{machine}/exec", {"command": command})
    assert answer.status == 403
    assert answer.json()["error"].startswith("command blocked: ")
    assert vendor.state()["audit"][-1]["command"] == command


def test_commands_need_a_running_machine_and_a_good_body(vendor: Driver, machine: str) -> None:
    """409 when it is stopped, 400 when the body is wrong."""
    for body in ({}, {"command": ""}, {"command": "id", "timeout_seconds": 601}, {"command": "id", "background": 1}):
        assert vendor.post(f"{machine}/exec", body).status == 400
    vendor.post(f"{machine}/stop")
    vendor.advance(3)
    assert vendor.post(f"{machine}/exec", {"command": "id"}).status == 409
    assert vendor.put(f"{machine}/files?path=/root/x", raw=b"").status == 409


def test_a_command_that_is_too_slow(vendor: Driver, machine: str) -> None:
    """It keeps the caller until its timeout, and no longer."""
    began = time.monotonic()
    answer = vendor.post(f"{machine}/exec", {"command": "sleep 30", "timeout_seconds": 1})
    assert (answer.status, answer.json()) == (504, {"error": "command timed out after 1s"})
    assert 1 <= time.monotonic() - began < 25
    done = run(vendor, machine, "sleep 0.2")
    assert done["duration_ms"] >= 200


def test_background_jobs_run_on_the_clock(vendor: Driver, machine: str) -> None:
    """pending, running, done, with the output then and not before."""
    begun = vendor.post(
        f"{machine}/exec", {"command": "apt-get update -y", "timeout_seconds": 300, "background": True}
    ).json()
    assert begun == {"job_id": begun["job_id"], "status": "pending", "timeout_seconds": 300}

    def job() -> Any:
        return vendor.get(f"{machine}/jobs/{begun['job_id']}").json()

    assert job()["status"] == "pending"
    vendor.advance(1)
    assert (job()["status"], job()["stdout"]) == ("running", "")
    vendor.advance(40)
    done = job()
    assert (done["status"], done["stdout"], done["exit_code"], done["duration_ms"]) == ("done", "Done\n", 0, 40_000)
    assert vendor.delete(f"{machine}/jobs/{begun['job_id']}").status == 409
    assert vendor.get(f"{machine}/jobs/nothing").status == 404


def test_jobs_time_out_are_cancelled_and_forgotten(vendor: Driver, machine: str) -> None:
    """timeout, cancelled while pending and while running, and only the last fifty are known."""

    def begin(command: str) -> str:
        sent = {"command": command, "timeout_seconds": 10, "background": True}
        return str(vendor.post(f"{machine}/exec", sent).json()["job_id"])

    slow, pending = begin("sleep 60"), begin("sleep 5")
    assert vendor.delete(f"{machine}/jobs/{pending}").json()["status"] == "cancelled"
    vendor.advance(1)
    running = begin("sleep 5")
    vendor.advance(1)
    assert vendor.delete(f"{machine}/jobs/{running}").json()["status"] == "cancelled"
    vendor.advance(10)
    assert vendor.get(f"{machine}/jobs/{slow}").json()["status"] == "timeout"
    newest = [begin("true") for _ in range(50)][-1]
    listed = [job["job_id"] for job in vendor.get(f"{machine}/jobs").json()]
    assert (len(listed), listed[0]) == (50, newest)
    assert vendor.get(f"{machine}/jobs/{slow}").status == 404


def test_a_command_over_several_machines(vendor: Driver, machine: str) -> None:
    """207: each machine's own result, an unknown one's error, jobs where asked in the background."""
    machine_id = machine.rsplit("/", 1)[1]
    answer = vendor.post("/api/vps/batch/exec", {"ids": [machine_id, "unknown"], "command": "hostname"})
    assert answer.status == 207
    first, second = answer.json()["results"]
    assert (first["vps_id"], first["stdout"], first["exit_code"]) == (machine_id, "web-01\n", 0)
    assert second == {"vps_id": "unknown", "error": "vps not found"}
    sent = {"ids": [machine_id], "command": "hostname", "background": True}
    (result,) = vendor.post("/api/vps/batch/exec", sent).json()["results"]
    assert result["status"] == "pending"


def test_commands_are_lost_or_hang_or_scripted(vendor: Driver, machine: str) -> None:
    """A lost reply hides a command that ran; a script answers for any text."""
    vendor.fault("exec", mode="lost")
    assert vendor.post(f"{machine}/exec", {"command": "echo x > /root/ran"}).status == 502
    assert vendor.get(f"{machine}/files?path=/root/ran").raw == b"x\n"
    vendor.fault("exec", mode="hangs")
    assert vendor.post(f"{machine}/exec", {"command": "true", "timeout_seconds": 1}).status == 504
    vendor.admin("POST", "/commands", {"make all": {"stdout": "ok\n", "exit_code": 0}})
    assert run(vendor, machine, "make all")["stdout"] == "ok\n"


def test_batches_with_mixed_results(vendor: Driver) -> None:
    """One item fails by a fault, the others are done all the same."""
    vendor.fault("batch_item", index=1, error="no capacity")
    sent = {"vms": [{**order(vendor), "name": f"w{number}"} for number in range(3)]}
    results = vendor.post("/api/vps/batch", sent).json()["results"]
    assert [result.get("error") for result in results] == [None, "no capacity", None]
    ids = [result["vps"]["id"] for result in results if "vps" in result]
    vendor.fault("batch_item", index=0, error="libvirt is busy")
    gone = vendor.delete("/api/vps/batch", {"ids": ids}).json()["results"]
    assert [result["deleted"] for result in gone] == [False, True]
    assert [entry["id"] for entry in vendor.get("/api/vps").json()] == [ids[0]]


def test_money_with_float_noise(vendor: Driver) -> None:
    """What floats make of amounts, in two ways; the books stay exact."""
    vendor.fault("noise", mode="last_digits")
    assert b"10.000000000000002" in vendor.get("/api/me").raw
    assert vendor.get("/api/me").headers["x-balance-remaining"] == "10.000000000000002"
    vendor.lift()
    vendor.fault("noise", mode="exponent")
    answer = vendor.get("/api/pricing")
    assert b"4.2E-3" in answer.raw
    assert answer.json()[0]["price_hourly"] == 0.0042
    account = next(iter(vendor.state()["accounts"].values()))
    assert Decimal(account["balance"]) == 10


def test_machines_that_fail_lag_cost_more_or_never_go(vendor: Driver) -> None:
    """error, a list that denies, a dearer price, a stop that does not, a destruction that is never done."""
    vendor.fault("provision", mode="error")
    vendor.fault("lag", by_s=15)
    vendor.fault("price", factor="2", plan="Nano", shown=True)
    made = vendor.post("/api/vps", order(vendor)).json()
    assert made["price_hourly"] == 0.0084
    assert vendor.get("/api/pricing").json()[0]["price_hourly"] == 0.0084
    assert vendor.get("/api/vps").json() == []
    vendor.advance(20)
    assert vendor.get("/api/vps").json()[0]["state"] == "error"
    vendor.lift()
    other = vendor.post("/api/vps", order(vendor)).json()["id"]
    vendor.advance(20)
    vendor.fault("stop_fails")
    vendor.post(f"/api/vps/{other}/stop")
    vendor.advance(60)
    vendor.fault("state", "get", value="paused")
    assert [vendor.get(f"/api/vps/{other}").json()["state"] for _ in range(2)] == ["paused", "running"]
    vendor.fault("destroy", mode="never")
    assert vendor.delete(f"/api/vps/{other}").status == 204
    minutes = vendor.state()["machines"][other]["minutes"]
    vendor.advance(3600)
    assert vendor.get(f"/api/vps/{other}").json()["state"] == "running"
    assert vendor.state()["machines"][other]["minutes"] == minutes


def test_replies_are_lost_and_tokens_refused(vendor: Driver) -> None:
    """A dropped reply after create, a 401 once, a burst of 429."""
    vendor.fault("cut", "create", when="after")
    with pytest.raises(ConnectionError):
        vendor.post("/api/vps", order(vendor))
    assert len(vendor.get("/api/vps").json()) == 1
    vendor.fault("unauthorized", "me")
    vendor.fault("limited", "list", times=2)
    assert [vendor.get("/api/me").status for _ in range(2)] == [401, 200]
    assert [vendor.get("/api/vps").status for _ in range(3)] == [429, 429, 200]


def test_a_jwt_ends_when_told(vendor: Driver) -> None:
    """Before its time by a fault, and all of them by the admin API; vtk_ tokens live on."""
    sent = {"email": "a@example.com", "password": "long-enough"}
    vendor.fault("token", after_s=30)
    short, long = (Driver(vendor.process, vendor.post("/api/auth/login", sent).json()["token"]) for _ in range(2))
    vendor.advance(30)
    assert [driver.get("/api/me").status for driver in (short, long)] == [401, 200]
    vendor.admin("POST", "/tokens", {"expire": True})
    assert [driver.get("/api/me").status for driver in (long, vendor)] == [401, 200]
