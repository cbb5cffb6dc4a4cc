"""The command line in this process: words in, exit code, standard output and standard error out."""

import argparse
import http.server
import io
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.exits import Exit, problem_error
from gateway.cli.main import build_parser, load
from gateway.cli.output import fields, table
from gateway.cli.verbs_operator import VERBS
from gateway.core.problems import TYPES, Problem
from gateway.operator.registry import OPERATIONS
from tests.unit.gateway.cli.cli_shell import Run, answer

ROOT = Path(__file__).parents[4]
KEY = "0x" + "11" * 32
KEY_ADDRESS = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"


def leaves(parser: argparse.ArgumentParser, words: str = "") -> Iterator[str]:
    """Yield every verb of a parser."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield words.strip()
    for group in groups:
        for name, inner in group.choices.items():
            yield from leaves(inner, f"{words} {name}")


def test_init_makes_what_is_missing_and_overwrites_nothing(run: Run, tmp_path: Path) -> None:
    """A second run changes no byte; files with secrets are private."""
    made = answer(run("init", "--json"))["made"]
    assert len(made) == 5
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data/passphrase").stat().st_mode) == 0o600
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert answer(run("init", "--json"))["made"] == []
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert run("config", "check")[0] == Exit.OK


def test_init_quotes_what_it_is_given(run: Run, tmp_path: Path) -> None:
    """A path with quotes, blanks and dollars is that path, not TOML and not a variable."""
    name = 'a "b" \\ ${HOME}'
    assert run("init", "--data-dir", name)[0] == Exit.OK
    assert (tmp_path / name / "gateway.db").is_file()


def test_init_takes_a_passphrase_from_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then none is written, and an unset one is a configuration error."""
    monkeypatch.delenv("TEST_PASSPHRASE", raising=False)
    code, _, err = run("init", "--passphrase", "env:TEST_PASSPHRASE")
    assert (code, "TEST_PASSPHRASE is not set" in err) == (Exit.CONFIG, True)
    monkeypatch.setenv("TEST_PASSPHRASE", "correct horse")
    assert run("init")[0] == Exit.OK
    assert not (tmp_path / "data/passphrase").exists()
    assert all(b"correct horse" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert run("init", "--passphrase", "hunter2")[0] == Exit.OK  # the file is there: nothing is written


@pytest.mark.parametrize(
    "words", [(), ("account",), ("nothing",), ("account", "credit", "a"), ("payments", "resolve", "p", "voided")]
)
def test_a_wrong_command_line_is_usage(run: Run, words: tuple[str, ...]) -> None:
    """The parser's own exit code is ours for usage."""
    code, out, err = run(*words)
    assert (code, out) == (Exit.USAGE, "")
    assert err.startswith("usage: ")


def test_every_fault_of_the_configuration_is_printed_with_its_line(run: Run, tmp_path: Path) -> None:
    """On standard error, one line each, and as a list in JSON."""
    (tmp_path / "gateway.toml").write_text('colour = 1\n[keystore]\npassphrase = "env:X"\n[log]\nlevel = "loud"\n')
    code, out, err = run("account", "list")
    assert (code, out) == (Exit.CONFIG, "")
    assert f"gateway: {tmp_path}/gateway.toml:1: colour: unknown key" in err
    assert "gateway.toml:5: log.level: must be one of" in err
    code, out, err = run("account", "list", "--json")
    document = json.loads(err)
    assert (code, out, len(document["problems"]), document["exit_code"]) == (Exit.CONFIG, "", 2, Exit.CONFIG)


def test_what_a_vendors_module_would_refuse_is_a_fault_of_the_file(ready: Run, tmp_path: Path) -> None:
    """A route that does not exist is named with the line of its table."""
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(
            '[chains.base]\nchain_id = 8453\nrpc = ["https://a.example", "https://b.example"]\n[tokens.base-usdc]\n'
            f'[wallets.main]\naddress = "{KEY_ADDRESS}"\ntokens = ["base-usdc"]\nmax_value = "9"\n'
            '[vendors.v]\nkind = "vpsagent"\nbase_url = "https://v.example"\nwallet = "main"\ntokens = ["base-usdc"]\n'
            'ceiling = "9"\n[vendors.v.routes.rnet]\nceiling = "1"\n'
        )
    line = (tmp_path / "gateway.toml").read_text().split("\n").index("[vendors.v.routes.rnet]") + 1
    code, _, err = ready("config", "check")
    assert code == Exit.CONFIG
    assert f"gateway.toml:{line}: vendors.v.routes.rnet: rnet: no such route" in err


def test_a_configured_wallet_without_a_key_is_found(ready: Run, tmp_path: Path) -> None:
    """`config check` and `wallet list` both name it, and both are content once it was imported."""
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(
            '[chains.base]\nchain_id = 8453\nrpc = ["https://a.example", "https://b.example"]\n[tokens.base-usdc]\n'
            f'[wallets.main]\naddress = "{KEY_ADDRESS}"\ntokens = ["base-usdc"]\nmax_value = "9"\n'
        )
    code, _, err = ready("config", "check")
    assert (code, f"wallets.main: {KEY_ADDRESS} has no key" in err) == (Exit.CONFIG, True)
    assert answer(ready("wallet", "list", "--json")) == {"wallets": [], "missing": [KEY_ADDRESS]}
    (tmp_path / "key").write_text(KEY + "\n")
    assert answer(ready("wallet", "import", "key", "--json")) == {"address": KEY_ADDRESS, "configured_as": "main"}
    assert answer(ready("config", "check", "--json"))["wallets"] == ["main"]


def test_config_check_asks_for_the_keys_of_tills_and_relayers_too(ready: Run, tmp_path: Path) -> None:
    """The server does not start without them, so all of them are named before it is tried."""
    till, relayer = "0x" + "66" * 20, "0x" + "77" * 20
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(
            '[chains.base]\nchain_id = 8453\nrpc = ["https://a.example", "https://b.example"]\n[tokens.base-usdc]\n'
            f'[tills.main]\naddress = "{till}"\ntokens = ["base-usdc"]\n'
            f'[relayers.one]\naddress = "{relayer}"\nchains = ["base"]\n'
        )
    code, _, err = ready("config", "check")
    assert code == Exit.CONFIG
    assert f"tills.main: {till} has no key" in err
    assert f"relayers.one: {relayer} has no key" in err


def test_config_check_tries_the_passphrase(ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong one and a missing one are faults; systemd's credential, which its unit alone can read, is said to be untried."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    passphrase, config = tmp_path / "data/passphrase", tmp_path / "gateway.toml"
    assert answer(ready("config", "check", "--json"))["keystore_opened"] is True
    passphrase.write_text("another passphrase")
    code, _, err = ready("config", "check")
    assert (code, "does not open" in err, "another passphrase" in err) == (Exit.CONFIG, True, False)
    passphrase.unlink()
    code, _, err = ready("config", "check")
    assert (code, "keystore.passphrase: file:" in err) == (Exit.CONFIG, True)
    config.write_text(config.read_text().replace('"file:passphrase"', '"credential:gateway"'))
    assert answer(ready("config", "check", "--json"))["keystore_opened"] is False
    code, out, _ = ready("config", "check")
    assert (code, "The keystore was not opened" in out) == (Exit.OK, True)


def test_a_key_travels_through_v3_json(ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported under another passphrase, imported into another keystore, never in an argument or an answer."""
    monkeypatch.setenv("V3_PASS", "swordfish")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KEY.encode())))
    assert answer(ready("wallet", "import", "-", "--json"))["address"] == KEY_ADDRESS
    code, out, _ = ready("wallet", "export", KEY_ADDRESS, "--out", "v3.json", "--v3-passphrase", "env:V3_PASS")
    assert code == Exit.OK
    assert KEY[2:] not in out + (tmp_path / "v3.json").read_text()
    assert stat.S_IMODE((tmp_path / "v3.json").stat().st_mode) == 0o600
    again = ready("wallet", "export", KEY_ADDRESS, "--out", "v3.json", "--v3-passphrase", "env:V3_PASS")
    assert again[0] == Exit.FAILED
    other = ("--config", str(tmp_path / "other.toml"))
    assert ready("init", "--data-dir", "other", *other)[0] == Exit.OK
    taken = ready("wallet", "import", "v3.json", "--v3", "--v3-passphrase", "env:V3_PASS", "--json", *other)
    assert answer(taken)["address"] == KEY_ADDRESS
    monkeypatch.setenv("V3_PASS", "wrong")
    code, _, err = ready("wallet", "import", "v3.json", "--v3", "--v3-passphrase", "env:V3_PASS", *other)
    assert (code, "wrong passphrase" in err) == (Exit.FAILED, True)


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        (("wallet", "import", "key"), "11" * 32, Exit.USAGE),
        (("wallet", "import", "key"), "0x" + "00" * 32, Exit.USAGE),
        (("wallet", "import", "key"), "é", Exit.USAGE),
        (("wallet", "import", "key"), "0" * 20_000, Exit.USAGE),
        (("wallet", "import", "nokey"), "", Exit.USAGE),
        (("wallet", "import", "key", "--v3"), "{}", Exit.USAGE),
        (("wallet", "watch", "0x12"), "", Exit.USAGE),
        (("wallet", "export", KEY_ADDRESS, "--out", "o", "--v3-passphrase", "file:pass"), "", Exit.NOT_FOUND),
        (("wallet", "export", KEY_ADDRESS, "--out", "o", "--v3-passphrase", "pass"), "", Exit.USAGE),
        (("wallet", "export", KEY_ADDRESS, "--out", "o", "--v3-passphrase", "env:UNSET_PASS"), "", Exit.CONFIG),
    ],
)
def test_a_wallet_verb_that_cannot_be_done_changes_nothing(
    ready: Run, tmp_path: Path, words: tuple[str, ...], content: str, code: Exit
) -> None:
    """Each refusal has its exit code, repeats nothing of the key, and leaves the keystore as it was."""
    (tmp_path / "key").write_text(content)
    pass_file = tmp_path / "pass"
    pass_file.write_text("swordfish")
    pass_file.chmod(0o600)
    found, out, err = ready(*words)
    assert (found, out) == (code, "")
    assert not content or content not in err
    assert answer(ready("wallet", "list", "--json"))["wallets"] == []


def test_accounts_keys_and_freezes_are_handled_without_a_server(ready: Run) -> None:
    """The command takes the database itself, and both forms of output tell the same."""
    assert answer(ready("--json", "account", "open", "One", "--id", "one"))["account"]["available"] == "0.000000"
    credited = ready("account", "credit", "one", "25", "--reference", "wire 1")
    assert (credited[0], "25.000000" in credited[1]) == (Exit.OK, True)
    assert "nothing was changed" in ready("account", "credit", "one", "25", "--reference", "wire 1")[1]
    made = answer(ready("key", "new", "one", "--scope", "read", "--budget", "10/day", "--budget", "1/5m", "--json"))
    assert (made["key"]["scopes"], len(made["key"]["budgets"])) == (["read"], 2)
    assert answer(ready("freeze", "set", "account:one", "--reason", "drill", "--json"))["freeze"]["by"].startswith(
        "operator "
    )
    assert "account:one" in ready("freeze", "list")[1]
    assert ready("freeze", "lift", "account:one", "--reason", "over")[0] == Exit.OK
    assert answer(ready("trace", made["key"]["id"], "--json"))["key"]["account"] == "one"
    assert "agent:one" in ready("balances")[1]
    assert made["secret"] not in ready("key", "list", "one")[1]
    assert ready("payments", "list")[1] == "(none)\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("account", "credit", "nobody", "1", "--reference", "r"), Exit.NOT_FOUND),
        (("account", "credit", "one", "1e5", "--reference", "r"), Exit.USAGE),
        (("account", "open", "One", "--id", "one"), Exit.FAILED),
        (("payments", "show", "pay_1"), Exit.NOT_FOUND),
        (("payments", "list", "--account", "nobody"), Exit.NOT_FOUND),
        (("payments", "list", "--limit", "0"), Exit.USAGE),
        (("payments", "resolve", "pay_1", "captured"), Exit.NOT_FOUND),
        (("tasks", "show", "task_1"), Exit.NOT_FOUND),
        (("tasks", "approve", "task_1"), Exit.NOT_FOUND),
        (("freeze", "set", "vendor:nobody", "--reason", "r"), Exit.NOT_FOUND),
        (("freeze", "lift", "all", "--reason", "r"), Exit.NOT_FOUND),
        (("meters", "--vendor", "nobody"), Exit.NOT_FOUND),
        (("meters", "--account", "nobody"), Exit.NOT_FOUND),
        (("servers", "list", "--account", "nobody"), Exit.NOT_FOUND),
        (("servers", "resolve", "srv_1", "--nothing", "--resolution", "r"), Exit.NOT_FOUND),
        (("vendor", "balance", "nobody"), Exit.NOT_FOUND),
        (("sellers", "set", "one", "--gas-budget", "0.01", "--window", "0"), Exit.USAGE),
        (("trace", "0x" + "ab" * 32), Exit.NOT_FOUND),
        (("key", "new", "one", "--budget", "10/eon"), Exit.USAGE),
        (("journal", "verify", "--head", "0x12"), Exit.USAGE),
        (("journal", "verify", "--file", "nothing"), Exit.UNREACHABLE),
    ],
)
def test_a_refusal_has_an_exit_code_and_a_problem_document(ready: Run, words: tuple[str, ...], code: Exit) -> None:
    """Scripts branch on the code; standard output stays empty."""
    ready("account", "open", "One", "--id", "one")
    assert ready(*words)[:2] == (code, "")
    found, out, err = ready(*words, "--json")
    assert (found, out, json.loads(err)["exit_code"]) == (code, "", code)


def test_without_a_database_the_operator_is_told_so(ready: Run, tmp_path: Path) -> None:
    """A wrong path must not quietly become an empty database."""
    for file in (tmp_path / "data").glob("gateway.db*"):
        file.unlink()
    code, _, err = ready("account", "list")
    assert (code, "there is no database" in err) == (Exit.UNREACHABLE, True)
    assert not (tmp_path / "data/gateway.db").exists()
    (tmp_path / "data/gateway.db").write_text("no database at all, but long enough to look like a file of its own")
    assert ready("account", "list")[0] == Exit.FAILED


def test_an_export_proves_itself_far_from_the_gateway(ready: Run, tmp_path: Path) -> None:
    """The file verifies alone, a pinned head binds it, and any change in it is found."""
    ready("account", "open", "One", "--id", "one")
    ready("account", "credit", "one", "5", "--reference", "r")
    head = answer(ready("journal", "verify", "--json"))["head"]
    exported = answer(ready("journal", "export", "--out", "j.jsonl", "--json"))
    assert (exported["rows"], exported["head"]) == (2, head)
    assert ready("journal", "export")[1] == (tmp_path / "j.jsonl").read_text()
    assert len(answer(ready("journal", "export", "--json", "--after", "1"))["rows"]) == 1
    (tmp_path / "gateway.toml").unlink()
    assert ready("journal", "verify", "--file", "j.jsonl", "--head", head)[0] == Exit.OK
    assert ready("journal", "verify", "--file", "j.jsonl", "--head", "0x" + "00" * 32)[0] == Exit.FAILED
    lines = (tmp_path / "j.jsonl").read_text().splitlines(keepends=True)
    for damaged in (
        [lines[1]],
        [lines[0], lines[1].replace("5000000", "9000000")],
        ["{}\n"],
        ["not json\n"],
        ['{"seq":1}\n'],
        ["[]\n"],
        ["[" * 100_000 + "\n"],
        [lines[0].replace('"seq":1', '"seq":1e999')],
        [lines[0].replace('"seq":1', '"seq":' + "9" * 5_000)],
        [lines[0].replace('"seq":1', '"seq":true')],
        [lines[0].replace('"seq":1', '"seq":1.0')],
        [lines[0].replace('"body"', '"body":"{}","body"')],  # what one reader shows, and another checks
        [lines[0].replace('"body":"', '"body":"\\ud800')],
        [lines[0].replace("One", "\u00d6ne")],
    ):
        (tmp_path / "d.jsonl").write_text("".join(damaged))
        code, out, _ = ready("journal", "verify", "--file", "d.jsonl")
        assert (code, "DOES NOT HOLD" in out) == (Exit.FAILED, True)
    (tmp_path / "d.jsonl").write_text(lines[0])  # a cut end is only found by the pinned head
    assert ready("journal", "verify", "--file", "d.jsonl")[0] == Exit.OK
    assert ready("journal", "verify", "--file", "d.jsonl", "--head", head)[0] == Exit.FAILED


@pytest.mark.parametrize("in_the_way", ["data", "data/keystore", "data/gateway.db.lock"])
def test_init_says_what_is_in_its_way(run: Run, tmp_path: Path, in_the_way: str) -> None:
    """Where something else stands that is to be made, that is said and nothing is thrown at the operator."""
    blocked = tmp_path / in_the_way
    blocked.parent.mkdir(exist_ok=True)
    if blocked.suffix == ".lock":
        blocked.mkdir()
    else:
        blocked.write_text("somebody's file")
    code, out, err = run("init", "--json")
    assert (code, out) == (Exit.CONFIG, "")
    assert in_the_way.removesuffix(".lock") in json.loads(err)["detail"]


@pytest.mark.parametrize(("status", "code"), [(200, Exit.OK), (503, Exit.FAILED), (None, Exit.UNREACHABLE)])
def test_health_says_whether_the_server_answers(ready: Run, tmp_path: Path, status: int | None, code: Exit) -> None:
    """Alive, alive and unwell, and not there at all are three exit codes."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz"
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        with (tmp_path / "gateway.toml").open("a") as file:
            file.write(f"[server]\nport = {server.server_port}\n")
        thread = threading.Thread(target=server.handle_request)
        if status is None:
            server.server_close()
        else:
            thread.start()
        assert ready("health")[0] == code
        if status is not None:
            thread.join()


def test_every_call_has_a_verb_and_every_argument_a_parameter() -> None:
    """The command line reaches all of the table, and sends nothing that the table does not know."""
    journal = {"journal_verify", "journal_export"}
    assert {verb.operation for verb in VERBS} | journal == set(OPERATIONS)
    for verb in VERBS:
        parser = argparse.ArgumentParser()
        verb.arguments(parser)
        offered = {action.dest for action in parser._actions} - {"help"}
        assert offered == set(OPERATIONS[verb.operation].parameters), verb.words


def works(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what runs each verb of a parser."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser.get_default("work")
    for group in groups:
        for inner in group.choices.values():
            yield from works(inner)


def test_every_verb_names_what_runs_it() -> None:
    """It is loaded only when its verb is asked for: a wrong name would be its user's to find."""
    named = set(works(build_parser()))
    assert len(named) > 10
    assert [work for work in named if not callable(load(work))] == []


def test_the_manual_names_every_verb_and_exit_code() -> None:
    """docs/cli.md is complete."""
    manual = (ROOT / "docs/cli.md").read_text()
    assert [words for words in leaves(build_parser()) if f"`{words}" not in manual] == []
    assert [code for code in Exit if f"| {int(code)} | {code.name.lower().replace('_', ' ')} |" not in manual] == []


@pytest.mark.parametrize("code", TYPES)
def test_every_problem_has_an_exit_code(code: str) -> None:
    """No problem type ends a command with success."""
    assert problem_error(Problem(code, "why").document()).exit_code in set(Exit) - {Exit.OK}


def test_tables_and_fields_show_everything_and_move_no_cursor() -> None:
    """Nothing, yes, lists and records have a form; control characters of strangers do not reach the terminal."""
    assert table([], ("a",)) == ["(none)"]
    assert table([{"a": None, "b_c": True}, {"a": [], "b_c": ["x", "y"]}], ("a", "b_c")) == [
        "A  B C",
        "-  yes",
        "-  x, y",
    ]
    shown = fields({"name": "a\x1b[2Jb\nc", "inner": {"k": 1}, "rows": [{"k": 2}], "none": {}})
    assert shown[0].endswith("a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c")
    assert shown[1:] == ["inner", "  k  1", "rows", "  1.", "    k  2", "none   -"]
