"""The command line in this process, on an installation of its own for each test."""

import shutil
from pathlib import Path

import pytest

from gateway.cli.exits import Exit
from gateway.cli.main import main
from tests.unit.gateway.cli.cli_shell import Run


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs one command on a configuration in the test's own folder."""
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def run_one(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["--config", str(tmp_path / "gateway.toml"), *words])
        except SystemExit as ended:  # argparse
            code = int(str(ended.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run_one


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `gateway init`, to be copied: sealing costs a derivation of the passphrase each time."""
    folder = tmp_path_factory.mktemp("installed")
    assert main(["--config", str(folder / "gateway.toml"), "init"]) == Exit.OK
    return folder


@pytest.fixture
def ready(run: Run, installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs one command on a fresh installation."""
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    return run
