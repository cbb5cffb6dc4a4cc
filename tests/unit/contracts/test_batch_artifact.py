"""What would be deployed is what the committed source compiles to, and it ships with the product."""

import hashlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from contracts import batch
from contracts.codec import to_hex

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "contracts" / "src"
ARTIFACT = json.loads((SOURCES / "build" / "SettlementBatch.json").read_text())


def check(sources: Path) -> subprocess.CompletedProcess[str]:
    """Really compile the sources in a directory and compare."""
    command = ["node", str(ROOT / "sandbox" / "contracts" / "compile.mjs"), "--check", str(sources)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the sources, and of the module with the code beside them."""
    (tmp_path / "settlement_batch_code.py").write_text((ROOT / "contracts" / "settlement_batch_code.py").read_text())
    return Path(shutil.copytree(SOURCES, tmp_path / "src"))


def test_source_artifact_and_code_belong_together() -> None:
    """Compiling now gives the committed artifact and the committed Python constants, byte for byte."""
    result = check(SOURCES)
    assert (result.returncode, result.stderr) == (0, "")
    assert ARTIFACT["sourceSha256"] == hashlib.sha256((SOURCES / "SettlementBatch.sol").read_bytes()).hexdigest()
    assert ARTIFACT["runtimeBytecode"] == to_hex(batch.runtime_code())
    assert ARTIFACT["creationBytecode"] == to_hex(batch.init_code())


def test_a_changed_source_artifact_or_constant_is_noticed(copied: Path) -> None:
    """Each of the three alone makes the check fail, by name."""
    code = copied.parent / "settlement_batch_code.py"
    original = code.read_text()
    code.write_text(original.replace("60", "61", 1))
    assert "settlement_batch_code.py does not match" in check(copied).stderr
    code.write_text(original)
    assert check(copied).returncode == 0
    source = copied / "SettlementBatch.sol"
    source.write_text(source.read_text().replace("MAX_REASON = 228", "MAX_REASON = 229"))
    changed = check(copied)
    assert changed.returncode == 1
    assert "SettlementBatch.json does not match" in changed.stderr
    assert "settlement_batch_code.py does not match" in changed.stderr


def test_the_contract_can_call_one_function_and_nothing_else() -> None:
    """No ether, no constructor arguments, no storage, no delegatecall, no creation, no end; the selectors are ours."""
    assert {entry["type"] for entry in ARTIFACT["abi"]} == {"function", "error"}
    assert {entry.get("stateMutability") for entry in ARTIFACT["abi"]} == {"nonpayable", None}
    selectors = {bytes.fromhex(value) for value in ARTIFACT["selectors"].values()}
    assert {batch.SETTLE, batch.SIMULATE} < selectors
    assert len(selectors) == 3
    found = opcodes(batch.runtime_code())
    forbidden = {"SLOAD": 0x54, "SSTORE": 0x55, "CREATE": 0xF0, "CALLCODE": 0xF2, "DELEGATECALL": 0xF4, "CREATE2": 0xF5}
    assert not found & {*forbidden.values(), 0xFF, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4}
    assert 0xF1 in found


def opcodes(code: bytes) -> set[int]:
    """Return the instructions of a contract's code, the data of PUSHes left out."""
    found, place = set(), 0
    while place < len(code):
        found.add(code[place])
        place += 1 + (code[place] - 0x5F if 0x60 <= code[place] <= 0x7F else 0)
    return found


def test_source_and_artifact_are_packaged() -> None:
    """Whoever runs a wheel can verify the contract on a block explorer from what came with it."""
    manifest = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = manifest["tool"]["setuptools"]["package-data"]["contracts"]
    shipped = {
        path.relative_to(ROOT / "contracts").as_posix() for glob in globs for path in (ROOT / "contracts").glob(glob)
    }
    assert {"src/SettlementBatch.sol", "src/build/SettlementBatch.json"} <= shipped
