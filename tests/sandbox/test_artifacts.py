"""The committed artifacts are what the sources compile to, and the toolchain is pinned."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SANDBOX = Path(__file__).parents[2] / "sandbox"
CONTRACTS = SANDBOX / "contracts"
SOURCES = sorted(CONTRACTS.glob("*.sol"))


def check(contracts: Path) -> subprocess.CompletedProcess[str]:
    """Really compile the sources in a directory and compare."""
    command = ["node", str(contracts / "compile.mjs"), "--check"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the contracts beside the same compiler."""
    (tmp_path / "node_modules").symlink_to(SANDBOX / "node_modules")
    return Path(shutil.copytree(CONTRACTS, tmp_path / "contracts"))


def test_the_artifacts_match_their_sources() -> None:
    """Compiling now gives the committed files, byte for byte."""
    result = check(CONTRACTS)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_changed_source_is_noticed(copied: Path) -> None:
    """The check fails, and names the artifact, when code changes that the artifact does not have."""
    source = copied / "DevUSDC.sol"
    source.write_text(source.read_text().replace("block.timestamp < validBefore", "block.timestamp <= validBefore"))
    result = check(copied)
    assert result.returncode == 1
    assert "DevUSDC.json does not match" in result.stderr
    assert "DevContractWallet" not in result.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bool public paused = true;", "the first value of paused would be lost"),
        ("bool public immutable paused = true;", "immutableReferences cannot be placed"),
        ("bool public paused; constructor() { paused = true; }", "the constructor would be lost"),
    ],
)
def test_what_set_code_would_lose_does_not_compile(copied: Path, line: str, says: str) -> None:
    """A contract that is placed by setCode has nothing that only its creation would set."""
    source = copied / "DevHostileToken.sol"
    text = source.read_text()
    source.write_text(text.replace("contract DevHostileToken {", f"contract DevHostileToken {{ {line}", 1))
    assert source.read_text() != text
    result = check(copied)
    assert result.returncode == 1
    assert says in result.stderr


def test_an_altered_or_orphaned_artifact_is_noticed(copied: Path) -> None:
    """The check fails for bytecode that was edited by hand and for an artifact without a source."""
    artifact = copied / "build" / "DevContractWallet.json"
    artifact.write_text(artifact.read_text().replace("0x60", "0x61", 1))
    (copied / "build" / "Ghost.json").write_text("{}")
    result = check(copied)
    assert result.returncode == 1
    assert "DevContractWallet.json does not match" in result.stderr
    assert "Ghost.json has no source" in result.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_artifact_says_where_it_comes_from(source: Path) -> None:
    """It holds the hash of its source, the exact compiler and its settings, and code that fits on chain."""
    artifact = json.loads((CONTRACTS / "build" / f"{source.stem}.json").read_text())
    pinned = json.loads((SANDBOX / "package.json").read_text())["devDependencies"]["solc"]
    assert artifact["sourceSha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert artifact["solc"]["version"].startswith(f"{pinned}+commit.")
    assert artifact["solc"]["settings"]["metadata"] == {"appendCBOR": False, "bytecodeHash": "none"}
    assert 0 < len(bytes.fromhex(artifact["runtimeBytecode"][2:])) <= 24_576
    assert "constructor" not in {entry["type"] for entry in artifact["abi"]}


def test_the_toolchain_is_pinned_and_names_no_host() -> None:
    """Versions are exact, every locked package has its hash, and the lock does not say where it came from.

    A folder of our own that stands in a package's place has neither, and is named by its path.
    """
    manifest = json.loads((SANDBOX / "package.json").read_text())
    lock = json.loads((SANDBOX / "package-lock.json").read_text())
    wanted = manifest["devDependencies"] | manifest["optionalDependencies"]
    own = {version.removeprefix("file:") for version in wanted.values() if version.startswith("file:")}
    assert all((SANDBOX / path / "package.json").is_file() for path in own)
    exact = re.compile(r"\d+\.\d+\.\d+")
    assert all(exact.fullmatch(version) for version in wanted.values() if version.removeprefix("file:") not in own)
    locked = {path: entry for path, entry in lock["packages"].items() if path and path not in own}
    packages = {path: entry for path, entry in locked.items() if not (entry.get("link") and entry["resolved"] in own)}
    assert len(packages) > 100
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())
