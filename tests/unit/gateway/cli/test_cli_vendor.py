"""The vendors' verbs: credentials go into the keystore and do not come out again, and nothing reads them but a server."""

import io
import json
import os
import stat
from pathlib import Path

import pytest

from gateway.cli import verbs_vendor
from gateway.cli.exits import Exit
from gateway.config import load_config
from gateway.vendor_credentials import VendorSecrets, load
from tests.unit.gateway.cli.cli_shell import Run, answer
from wallets.keystore import Keystore
from wallets.passphrase import read_passphrase
from wallets.sealing import Sealer

PASSWORD, LOGIN = "correct horse battery", "ops@example.com"
VENDORS = """
[vendors.crypto]
kind = "cryptovps"
base_url = "https://crypto.example"
ceiling = "1"

[vendors.lite]
kind = "litevps"
base_url = "https://lite.example"
ceiling = "1"

[vendors.labs]
kind = "vrtx"
base_url = "https://labs.example"
ceiling = "1"
"""


@pytest.fixture
def shop(ready: Run, tmp_path: Path) -> Run:
    """Return a function that runs one command where three vendor accounts are configured."""
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(VENDORS)
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    return ready


def sealed(tmp_path: Path, name: str) -> VendorSecrets:
    """Return what a server would find for a vendor."""
    config = load_config(tmp_path / "gateway.toml", os.environ)
    passphrase = read_passphrase(config.keystore.passphrase, os.environ)
    sealer = Sealer(Keystore(config.keystore.directory).unlock(passphrase).data_key)
    found = load(config.keystore.directory, name, sealer)
    assert found is not None
    return found


def type_in(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    """Let a text wait on standard input, which is a pipe or a terminal."""
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", stdin)


def test_credentials_are_sealed_and_told_by_nobody(shop: Run, tmp_path: Path) -> None:
    """The file is for us alone, no output and no file of the gateway's holds the password, the list shows a masked login."""
    words = ("vendor", "credentials", "crypto", "--login", LOGIN, "--secret-file", "secret")
    code, out, err = shop(*words)
    assert (code, err) == (Exit.OK, "")
    (tmp_path / "secret").unlink()
    told = out + "".join(shop("vendor", "list")[1:]) + "".join(shop("vendor", "list", "--json")[1:])
    assert PASSWORD not in told
    assert LOGIN not in told
    assert all(PASSWORD.encode() not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    file = tmp_path / "data/keystore/vendors/crypto.sealed"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    found = sealed(tmp_path, "crypto").credentials
    assert (found.login, found.secret.reveal()) == (LOGIN, PASSWORD)
    rows = {row["name"]: row for row in answer(shop("vendor", "list", "--json"))["vendors"]}
    assert (rows["crypto"]["credentials"], rows["crypto"]["login"]) == ("sealed", "o…@example.com")
    assert (rows["lite"]["credentials"], rows["lite"]["login"]) == ("missing", None)
    assert rows["crypto"]["origin"] == "https://crypto.example"
    assert rows["lite"]["capabilities"]["webhooks"] == "no"


def test_the_list_is_read_without_a_passphrase_until_something_is_sealed(shop: Run) -> None:
    """People see a table; what each vendor can do only when they ask for it."""
    code, out, _ = shop("vendor", "list")
    assert (code, "cryptovps" in out, "cloud init" in out) == (Exit.OK, True, False)
    assert "cloud init" in shop("vendor", "list", "--capabilities")[1]


def test_a_secret_comes_from_a_pipe_or_from_a_terminal_that_does_not_echo(
    shop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal is asked for the login too, on standard error: standard output is the answer's."""
    type_in(monkeypatch, PASSWORD + "\r\n")
    assert answer(shop("vendor", "credentials", "lite", "--login", LOGIN, "--json")) == {
        "vendor": "lite",
        "login": "o…@example.com",
        "replaced": False,
    }
    assert sealed(tmp_path, "lite").credentials.secret.reveal() == PASSWORD
    type_in(monkeypatch, LOGIN + "\n", terminal=True)
    prompts: list[str] = []

    def asked(prompt: str) -> str:
        prompts.append(prompt)
        return "another password"

    monkeypatch.setattr("getpass.getpass", asked)
    code, out, err = shop("vendor", "credentials", "lite", "--json")
    assert (code, json.loads(out)["replaced"], err) == (Exit.OK, True, "Login: ")
    assert prompts == ["Password, or token: "]
    assert sealed(tmp_path, "lite").credentials.secret.reveal() == "another password"


def test_a_token_needs_no_login(shop: Run, tmp_path: Path) -> None:
    """VRTX has tokens alone; at LiteVPS one is told by its beginning."""
    (tmp_path / "token").write_text("vtk_0123456789abcdef")
    for name in ("lite", "labs"):
        assert answer(shop("vendor", "credentials", name, "--secret-file", "token", "--json"))["login"] is None
        assert sealed(tmp_path, name).credentials.login == ""
        refused = shop("vendor", "credentials", name, "--login", LOGIN, "--secret-file", "token")
        assert refused[:2] == (Exit.USAGE, "")
    assert shop("vendor", "credentials", "crypto", "--secret-file", "token")[0] == Exit.USAGE
    (tmp_path / "password").write_text("hunter2")
    code, _, err = shop("vendor", "credentials", "lite", "--secret-file", "password")
    assert (code, "write --login EMAIL" in err, "unless with a token (vtk_" in err) == (Exit.USAGE, True, True)


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        (("credentials", "nobody", "--login", LOGIN), "hunter2", Exit.NOT_FOUND),
        (("credentials", "shop", "--login", LOGIN), "hunter2", Exit.USAGE),
        (("credentials", "crypto", "--login", " " + LOGIN), "hunter2", Exit.USAGE),
        (("credentials", "crypto", "--login", LOGIN), "", Exit.USAGE),
        (("credentials", "crypto", "--login", LOGIN), "hunter2\nhunter3", Exit.USAGE),
        (("credentials", "crypto", "--login", LOGIN), " hunter2", Exit.USAGE),
        (("credentials", "crypto", "--login", LOGIN), "hunter2" * 1000, Exit.USAGE),
        (("credentials", "labs"), "hunter 2", Exit.USAGE),
        (("webhook-secret", "labs"), "hunter2hunter2hunter2", Exit.FAILED),
        (("webhook-secret", "lite"), "hunter2hunter2hunter2", Exit.USAGE),
    ],
)
def test_what_cannot_be_sealed_changes_nothing_and_is_not_repeated(
    shop: Run, tmp_path: Path, words: tuple[str, ...], content: str, code: Exit
) -> None:
    """A vendor that is not there or has no account, no login, and what is no secret of one line."""
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write(
            '[chains.base]\nchain_id = 8453\nrpc = ["https://a.example", "https://b.example"]\n[tokens.base-usdc]\n'
            '[wallets.main]\naddress = "0x1111111111111111111111111111111111111111"\ntokens = ["base-usdc"]\n'
            'max_value = "9"\n[vendors.shop]\nkind = "x402"\nbase_url = "https://s.example"\nwallet = "main"\n'
            'tokens = ["base-usdc"]\nceiling = "9"\n'
        )
    (tmp_path / "secret").write_text(content)
    found, out, err = shop("vendor", *words, "--secret-file", "secret")
    assert (found, out, "hunter" in err) == (code, "", False)
    assert not (tmp_path / "data/keystore/vendors").exists()


def test_a_secret_that_was_written_for_a_file_is_not_repeated(shop: Run) -> None:
    """Whoever writes the password where a path belongs does not find it in a log of errors."""
    for source in ("hunter2hunter2", "hunter2" * 100):
        code, out, err = shop("vendor", "credentials", "crypto", "--login", LOGIN, "--secret-file", source)
        assert (code, out, "hunter2" in err) == (Exit.USAGE, "", False)


def test_webhook_secrets_rotate_newest_first(shop: Run, tmp_path: Path) -> None:
    """Three at most, the oldest goes; the same again only comes to the front; new credentials leave them alone."""
    shop("vendor", "credentials", "labs", "--secret-file", "secret")
    (tmp_path / "secret").write_text("vrtx-token")
    assert shop("vendor", "credentials", "labs", "--secret-file", "secret")[0] == Exit.OK
    secrets = [f"whsec_{letter * 20}" for letter in "abcd"]
    for number, secret in enumerate([*secrets, secrets[2]], 1):
        (tmp_path / "hook").write_text(secret)
        told = answer(shop("vendor", "webhook-secret", "labs", "--secret-file", "hook", "--json"))
        assert told == {"vendor": "labs", "webhook_secrets": min(number, 3)}
    expected = [secrets[2], secrets[3], secrets[1]]
    assert [each.reveal() for each in sealed(tmp_path, "labs").webhook_secrets] == expected
    (tmp_path / "secret").write_text("vrtx-token-2")
    shop("vendor", "credentials", "labs", "--secret-file", "secret")
    found = sealed(tmp_path, "labs")
    assert [each.reveal() for each in found.webhook_secrets] == expected
    assert found.credentials.secret.reveal() == "vrtx-token-2"
    assert (tmp_path / "hook").write_text("short")
    assert shop("vendor", "webhook-secret", "labs", "--secret-file", "hook")[0] == Exit.USAGE
    rows = answer(shop("vendor", "list", "--json"))["vendors"]
    assert [row["webhook_secrets"] for row in rows] == [0, 3, 0]


def test_another_login_is_refused_while_things_run(shop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other account does not show them: they would be taken for gone. The same login may get a new password."""
    words = ("vendor", "credentials", "crypto", "--secret-file", "secret", "--login")
    assert shop(*words, LOGIN)[0] == Exit.OK
    running = [{"id": "met_1"}]
    monkeypatch.setattr(verbs_vendor, "call", lambda *_: {"meters": running})
    code, _, err = shop(*words, "other@example.com")
    assert (code, "things run at crypto" in err) == (Exit.FAILED, True)
    assert sealed(tmp_path, "crypto").credentials.login == LOGIN
    assert shop(*words, LOGIN)[0] == Exit.OK
    assert shop(*words, "renamed@example.com", "--same-account")[0] == Exit.OK
    running.clear()
    assert shop(*words, "other@example.com")[0] == Exit.OK
    assert sealed(tmp_path, "crypto").credentials.login == "other@example.com"


def test_config_check_and_the_list_name_what_is_missing_or_does_not_open(shop: Run, tmp_path: Path) -> None:
    """Each vendor account without credentials is a line; a file of another keystore's is unreadable, and can be replaced."""
    code, _, err = shop("config", "check")
    assert code == Exit.CONFIG
    for name in ("crypto", "lite", "labs"):
        assert f"vendors.{name}: no credentials are saved for it; save them with `gateway vendor credentials" in err
    for name, login in (("crypto", LOGIN), ("lite", LOGIN)):
        assert shop("vendor", "credentials", name, "--login", login, "--secret-file", "secret")[0] == Exit.OK
    (tmp_path / "secret").write_text("a-token")
    assert shop("vendor", "credentials", "labs", "--secret-file", "secret")[0] == Exit.OK
    assert shop("config", "check")[0] == Exit.OK
    folder = tmp_path / "data/keystore/vendors"
    (folder / "labs.sealed").write_bytes((folder / "lite.sealed").read_bytes())  # bound to its vendor's name
    rows = {row["name"]: row for row in answer(shop("vendor", "list", "--json"))["vendors"]}
    assert rows["labs"]["credentials"] == "unreadable"
    code, _, err = shop("config", "check")
    assert (code, "vendors.labs: the credentials of labs do not open with this keystore" in err) == (Exit.CONFIG, True)
    assert shop("vendor", "credentials", "labs", "--secret-file", "secret")[0] == Exit.OK


def test_a_route_that_an_account_vendor_does_not_charge_is_a_fault_of_the_file(shop: Run, tmp_path: Path) -> None:
    """As for the others: with the line of its table."""
    with (tmp_path / "gateway.toml").open("a") as file:
        file.write('[vendors.lite.routes.pricing]\nceiling = "1"\n')
    line = (tmp_path / "gateway.toml").read_text().split("\n").index("[vendors.lite.routes.pricing]") + 1
    code, _, err = shop("config", "check")
    assert code == Exit.CONFIG
    assert f"gateway.toml:{line}: vendors.lite.routes.pricing: pricing: not a metered route" in err


def test_balances_and_meters_are_shown_where_nothing_ran_yet(shop: Run) -> None:
    """Every configured account has its line, and the vendor has said nothing yet."""
    balances = answer(shop("vendor", "balance", "--json"))["vendors"]
    assert [row["vendor"] for row in balances] == ["crypto", "labs", "lite"]
    assert {row["vendor_says"] for row in balances} == {None}
    assert answer(shop("vendor", "balance", "lite", "--json"))["vendors"][0]["books"] == "0.000000"
    assert shop("meters")[1] == "(none)\n"
