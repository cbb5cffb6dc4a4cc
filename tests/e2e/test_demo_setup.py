"""What `make` does on a machine where something is missing: it says what, and what to do; or it does it itself.

The machine is a PATH of scripts that stand in for npm, Node and Python and write down what they were asked. There is no apt
on it, so that nothing is ever installed.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.process import ROOT

ANVIL = "sandbox/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
NODE, VENV = "sandbox/node_modules/.installed", ".venv/.installed"
NEEDED = ("Makefile", "pyproject.toml", "constraints.txt", "sandbox/package.json", "sandbox/package-lock.json")
OWN = ("sandbox/payers/no-wagmi/package.json", "sandbox/node/package.json", "sandbox/node/package-lock.json")
OLD_NODE = "case $1 in --version) echo v18.20.8;; *) exit 1;; esac"
NPM_THAT_HAS_ANVIL = f'case $* in *"--prefix sandbox") mkdir -p "{Path(ANVIL).parent}"; cp "$0" "{ANVIL}";; esac'

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing installed, beside a machine with nothing but the shell's own tools."""
    for name in NEEDED + OWN:
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    machine = tmp_path / "bin"
    machine.mkdir()
    for tool in ("bash", "cp", "id", "mkdir", "touch", "uname"):
        (machine / tool).symlink_to(shutil.which(tool) or "")
    return tmp_path / "checkout"


@pytest.fixture
def make(checkout: Path) -> Make:
    """Run make in the checkout, on a machine with these scripts besides."""

    def run(target: str, *options: str, **scripts: str) -> subprocess.CompletedProcess[str]:
        machine = checkout.parent / "bin"
        for name, script in scripts.items():
            told = f'echo "{name} $*" >> "{checkout.parent}/asked"\n' if name != "node" else ""
            (machine / name).write_text(f"#!/bin/bash\n{told}{script}\n")
            (machine / name).chmod(0o755)
        return subprocess.run(
            [shutil.which("make") or "make", "--no-print-directory", target, *options],
            cwd=checkout,
            env={"PATH": str(machine), "HOME": str(checkout.parent)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def asked(checkout: Path) -> list[str]:
    """Return the commands that the scripts were given."""
    log = checkout.parent / "asked"
    return log.read_text().splitlines() if log.exists() else []


def test_without_npm_it_says_what_to_install(checkout: Path, make: Make) -> None:
    """A machine without npm, and without apt to get it: the reason, the Debian packages, and nothing half done."""
    done = make(NODE)
    assert done.returncode != 0
    assert "npm is missing and the local chain comes from it: install it (Debian: nodejs npm)" in done.stderr
    assert not (checkout / NODE).exists()


def test_an_old_node_gets_a_newer_one_beside_it(checkout: Path, make: Make) -> None:
    """Debian 12's own Node makes npm leave anvil out; so one of ours is installed first, and is what npm then runs on."""
    done = make(NODE, node=OLD_NODE, npm=NPM_THAT_HAS_ANVIL)
    assert done.returncode == 0, done.stderr
    assert "Node v18.20.8 is older than 20" in done.stderr
    assert [line.rpartition("--prefix ")[2] for line in asked(checkout)[1:]] == ["sandbox/node", "sandbox"]
    assert (checkout / NODE).exists()


def test_a_new_node_is_left_alone(checkout: Path, make: Make) -> None:
    """Where Node is new enough nothing is installed beside it."""
    done = make(NODE, node="exit 0", npm=NPM_THAT_HAS_ANVIL)
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("--prefix ")[2] for line in asked(checkout)[1:]] == ["sandbox"]


def test_anvil_that_npm_left_out_is_noticed_at_once(checkout: Path, make: Make) -> None:
    """What is not for this machine is passed over by npm; setting up fails then, and says which variable names another."""
    done = make(NODE, node="exit 0", npm="exit 0")
    assert done.returncode != 0
    assert "npm has no anvil for this machine" in done.stderr
    assert "SANDBOX_ANVIL=" in done.stderr
    assert not (checkout / NODE).exists()
    (checkout / NODE).parent.mkdir(parents=True, exist_ok=True)
    assert make(NODE, "SANDBOX_ANVIL=/opt/anvil").returncode == 0


def test_an_old_python_is_refused_before_anything_is_made(checkout: Path, make: Make) -> None:
    """The version that is needed, and how to name another."""
    done = make(VENV, python3="exit 1")
    assert done.returncode != 0
    assert "Python 3.11 or newer with venv is needed as python3 or as make PYTHON=" in done.stderr
    assert not any("venv" in line for line in asked(checkout))
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("state", ["exit 0", "exit 1", None], ids=["whole", "half made", "missing"])
def test_a_half_made_environment_is_made_anew(checkout: Path, make: Make, state: str | None) -> None:
    """What an interrupt or an older Python left behind is no dead end; a whole one is kept."""
    python = checkout / ".venv/bin/python"
    if state is not None:
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/bash\n{state}\n")
        python.chmod(0o755)
    whole = 'mkdir -p .venv/bin; printf "#!/bin/bash\\nexit 0\\n" > .venv/bin/python; chmod 755 .venv/bin/python'
    (checkout.parent / "bin" / "chmod").symlink_to(shutil.which("chmod") or "")
    done = make(VENV, python3=f'case $* in *"-m venv"*) {whole};; esac')
    assert done.returncode == 0, done.stderr
    made = [line for line in asked(checkout) if "-m venv" in line]
    assert made == ([] if state == "exit 0" else ["python3 -m venv --clear .venv"])
    assert (checkout / VENV).exists()


def test_the_image_is_built_from_what_it_copies_and_nothing_else() -> None:
    """What the Dockerfile copies is sent to the builder; environments, databases and keys of the checkout are not."""
    recipe = (ROOT / "Dockerfile").read_text()
    lines = re.findall(r"^COPY (?!--from)(.*)$", recipe, re.MULTILINE)
    copied = {name for line in lines for name in line.split()[:-1]}
    sent = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert sent[0] == "*"
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == copied
