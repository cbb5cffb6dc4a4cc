"""docs/audit.md against the code: an auditor who has nothing but the page must be able to rely on it."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core import chart, decide_settlement, decide_topup
from gateway.core.journal import Chain
from gateway.core.kept import KINDS
from gateway.core.paid import ReceiptState
from gateway.core.payment import Charge

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
CORE = ROOT / "gateway" / "core"


def _literal_kinds() -> set[str]:
    """Return every kind that a decision writes by its whole name."""
    found: set[str] = set()
    for path in CORE.glob("*.py"):
        if path.name == "events.py":  # what agents are told has names of its own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    families = (
        "account|dispute|float|freeze|incoming|key|meter|outflow|payee|payment|price|proof|refund|resource|seller"
    )
    families += "|settlement|sign_in|task|topup|vendor|wallet"
    return {kind for kind in found if re.fullmatch(rf"(?:{families})\.[a-z_]+", kind)}


def _journal(*contents: dict[str, object]) -> list[str]:
    chain, lines = Chain(), []
    for at_ms, content in enumerate(contents, 1):
        kind, payment_id = str(content.pop("kind")), content.pop("payment_id", None)
        row = chain.append(at_ms, kind, None if payment_id is None else str(payment_id), content)
        line = {"seq": row.seq, "body": row.body.decode("ascii"), "digest": "0x" + row.digest.hex()}
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    return lines


@pytest.fixture(name="export")
def an_export() -> list[str]:
    """A credit and a purchase, as `gateway journal export` writes them."""
    return _journal(
        {"kind": "account.credited", "account_id": "acct_ü", "amount_base": 10_000_000},
        {"kind": "payment.held", "payment_id": "pay_1", "account_id": "acct_ü", "hold_base": 9_990_000},
        {"kind": "payment.settled", "payment_id": "pay_1", "value_base": 9_990_000},
        {"kind": "payment.captured", "payment_id": "pay_1", "captured_base": 9_990_000, "charge": "captured"},
    )


def _check(folder: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the page's own program on an export, as its reader would."""
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert program is not None
    (folder / "check.py").write_text(program[1], encoding="utf-8")
    (folder / "journal.jsonl").write_text("".join(lines), encoding="ascii")
    command = [sys.executable, "-I", "-X", "utf8", "check.py", "journal.jsonl"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_pages_program_checks_an_export(tmp_path: Path, export: list[str]) -> None:
    """It takes a true export, says its head as the gateway does, and finds what each account has."""
    done = _check(tmp_path, export)
    head = json.loads(export[-1])["digest"]
    assert (done.returncode, done.stdout) == (0, f"4 rows, head {head}\nacct_ü  0.010000\n"), done.stderr


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: [rows[0].replace("10000000", "90000000"), *rows[1:]], "row 1 was altered"),
        (lambda rows: [rows[0], *rows[2:]], "row 2 is missing"),
        (lambda rows: [rows[0], rows[2], rows[1], rows[3]], "row 2 is missing"),
        (lambda rows: [*rows[:3], rows[3].replace(rows[3][-10:-3], "0000000")], "row 4 was altered"),
    ],
    ids=["an amount", "a row taken out", "two rows turned round", "a digest"],
)
def test_the_pages_program_finds_what_was_altered(
    tmp_path: Path, export: list[str], spoil: Callable[[list[str]], list[str]], said: str
) -> None:
    """Whatever was changed in an export is found, at the row where it begins."""
    done = _check(tmp_path, spoil(export))
    assert done.returncode != 0
    assert said in done.stderr


def test_every_kind_of_row_is_on_the_page() -> None:
    """Whatever the core journals is explained there, also where its name is put together."""
    kinds = _literal_kinds() | {f"payment.{charge.value}" for charge in Charge if charge is not Charge.HELD}
    kinds |= {f"settlement.{event}" for event in decide_settlement.EVENTS}
    kinds |= {f"topup.{event}" for event in decide_topup.EVENTS}
    kinds |= {f"incoming.{state.value}" for state in ReceiptState}
    assert len(kinds) > 50
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in PAGE] == []
    assert [word for word in KINDS.values() if f"`{word}.…`" not in PAGE] == []


def test_every_kind_on_the_page_is_written_somewhere() -> None:
    """The page explains no row that cannot be there."""
    table = PAGE[PAGE.index("### Kinds") : PAGE.index("## Checking")]
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table))
    source = "".join(path.read_text() for path in sorted(CORE.glob("*.py")))
    made = {f"payment.{charge.value}" for charge in Charge} | {f"topup.{event}" for event in decide_topup.EVENTS}
    made |= {f"settlement.{event}" for event in decide_settlement.EVENTS}
    made |= {f"incoming.{state.value}" for state in ReceiptState}
    assert [kind for kind in sorted(named) if kind not in made and f'"{kind}"' not in source] == []


def test_every_account_of_the_chart_is_on_the_page() -> None:
    """Each ledger account has its line there, under the code that the books use."""
    codes = [value for name, value in vars(chart).items() if name.startswith("HOUSE_")] + [chart.SUSPENSE]
    codes += [chart.agent("<account>"), chart.wallet("<address>"), chart.relayer("<address>"), chart.vendor("<name>")]
    codes += [chart.fx("<asset>"), chart.suspense("<address>"), chart.vendor_suspense("<name>")]
    assert len(codes) == 14
    assert [code for code in codes if f"`{code}`" not in PAGE] == []
