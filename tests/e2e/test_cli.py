"""The installed command as a process of its own: with a server's socket, without one, and beside another owner."""

import asyncio
import json
import os
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.config import load_config
from gateway.operator.services import Services
from gateway.operator.socket import operator_socket
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs `python -m gateway` in a folder, with nothing of this process's own settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    async def run(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run one command to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "gateway", *words),
            cwd=self.folder,
            env=self.environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return process.returncode, out, err

    async def json(self, *words: str, stdin: bytes = b"") -> Any:
        """Run one command that must succeed and print one JSON document and nothing else."""
        code, out, err = await self.run("--json", *words, stdin=stdin)
        assert (code, err) == (0, b"")
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A folder with a fresh installation."""
    assert main(["--config", str(tmp_path / "gateway.toml"), "init"]) == 0
    capsys.readouterr()
    return Shell(tmp_path)


async def test_an_operator_sets_up_and_hands_out_a_key_without_a_server(shell: Shell) -> None:
    """From an empty folder to a funded account with a key, each step a process, each answer readable by a program."""
    assert len((await shell.json("--config", "new/gateway.toml", "init"))["made"]) == 5
    shell.environ["GATEWAY_CONFIG"] = "new/gateway.toml"
    wallet = await shell.json("wallet", "import", "-", stdin=b"0x" + b"22" * 32 + b"\n")
    assert wallet["address"].startswith("0x")
    await shell.json("account", "open", "Agent", "--id", "agent")
    await shell.json("account", "credit", "agent", "25", "--reference", "wire 1")
    key = await shell.json("key", "new", "agent", "--budget", "10/day")
    assert key["secret"].startswith("gk_key_")
    found = await shell.json("trace", key["key"]["id"])
    assert found["key"]["account"] == "agent"
    assert (await shell.json("journal", "verify"))["rows"] == 3
    code, out, err = await shell.run("journal", "export")
    assert (code, len(out.splitlines()), err) == (0, 3, b"")


async def test_a_running_server_answers_through_its_socket(shell: Shell) -> None:
    """While another process owns the database, the same commands work, and what they change is in that process at once."""
    config = load_config(shell.folder / "gateway.toml", {})
    store = await SqliteStore.open(config.store.path)
    try:
        services = Services(store, SystemClock(), SystemEntropy(), {"shop": frozenset({"any"})}, frozenset())
        async with operator_socket(services, config.server.operator_socket):
            await shell.json("account", "open", "Agent", "--id", "agent")
            assert "agent" in store.view.agent_accounts
            await shell.json("freeze", "set", "vendor:shop", "--reason", "drill")
            assert "vendor:shop" in store.view.freezes
            code, out, err = await shell.run("freeze", "set", "vendor:nobody", "--reason", "drill", "--json")
            assert (code, out) == (5, b"")
            assert json.loads(err)["type"] == "urn:gateway:problem:vendor_unknown"
            assert b"AGENT" not in (await shell.run("account", "list"))[1]
            shell.environ["PYTHONPROFILEIMPORTTIME"] = "1"
            code, _, err = await shell.run("account", "list")
            assert (code, b"gateway.cli.operate" in err, b"gateway.store.sqlite" in err) == (0, True, False)
            del shell.environ["PYTHONPROFILEIMPORTTIME"]
        code, _, err = await shell.run("account", "list")
        assert (code, b"is in use" in err) == (4, True)
    finally:
        await store.close()
    assert [a["id"] for a in (await shell.json("account", "list"))["accounts"]] == ["agent"]


async def test_a_dead_servers_socket_is_passed_by(shell: Shell) -> None:
    """A socket that nobody listens on is no server: the command answers itself."""
    config = load_config(shell.folder / "gateway.toml", {})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(config.server.operator_socket))
    code, _, err = await shell.run("account", "list")
    assert (code, err) == (0, b"")


@pytest.mark.parametrize("start", [0, 3 * 4096], ids=["no page is one", "the first pages are"])
async def test_a_database_that_cannot_be_read_is_one_line(shell: Shell, start: int) -> None:
    """What is wrong is said, and nothing of how the command was cut short."""
    database = shell.folder / "data/gateway.db"
    raw = database.read_bytes()
    database.write_bytes(raw[: start or 16] + b"\xaa" * (len(raw) - (start or 16)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (shell.folder / "gateway.toml").open("a") as file:
        file.write(f"[server]\nport = {port}\n")
    for words in (("account", "list"), ("serve",)):
        code, out, err = await shell.run(*words)
        assert (code, out) == (1, b"")
        assert len(err.splitlines()) == 1, err
        assert err.startswith(b"gateway: ")


async def test_name_and_version_are_told_without_a_configuration(shell: Shell) -> None:
    """As pyproject.toml has them, wherever --json stands, and by a process that has loaded nothing of the service."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shell.environ["GATEWAY_CONFIG"] = "nowhere.toml"
    told = f"{project['name']} {project['version']}\n".encode()
    assert await shell.run("--version") == (0, told, b"")
    assert await shell.json("--version") == {"name": project["name"], "version": project["version"]}
    assert (await shell.run("--version", "--json"))[1].startswith(b"{")


LIGHT = {
    "--help": ("--help",),
    "a verb's usage": ("key", "new", "--help"),
    "the version": ("--version",),
    "an export's proof": ("journal", "verify", "--file", "no.jsonl"),
    "the wallets": ("wallet", "list"),
    "the configuration": ("config", "check"),
    "the server's health": ("health",),
}


@pytest.mark.parametrize("words", LIGHT.values(), ids=LIGHT)
async def test_what_asks_little_loads_little(shell: Shell, words: tuple[str, ...]) -> None:
    """Neither the store, the use cases of servers, an event loop's HTTP server nor the chain's libraries are imported."""
    shell.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    _, _, err = await shell.run(*words)
    loaded = {
        line.rpartition(b"|")[2].strip().decode() for line in err.splitlines() if line.startswith(b"import time:")
    }
    assert "gateway.cli.main" in loaded
    heavy = {
        "gateway.store.sqlite",
        "gateway.operator.registry",
        "gateway.serve",
        "aiohttp",
        "aiosqlite",
        "web3",
        "uvloop",
    }
    assert loaded & heavy == set()


async def test_errors_have_their_exit_codes_and_leave_standard_output_empty(shell: Shell) -> None:
    """Usage, configuration and absence are told apart by a script, and no traceback is shown."""
    for words, expected in (
        (("account", "credit", "a"), 2),
        (("--config", "elsewhere.toml", "account", "list"), 3),
        (("payments", "show", "pay_1"), 5),
    ):
        code, out, err = await shell.run(*words)
        assert (code, out) == (expected, b""), words
        assert err
        assert b"Traceback" not in err


async def test_a_reader_that_goes_away_is_no_traceback(shell: Shell) -> None:
    """`gateway … | head` ends quietly."""
    process = await asyncio.create_subprocess_shell(
        f'"{sys.executable}" -m gateway balances | true; exit "${{PIPESTATUS[0]}}"',
        cwd=shell.folder,
        env=shell.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        executable="/bin/bash",
    )
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")
