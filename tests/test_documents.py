"""docs/design.md against everything that cites it, and every cited document against the repository.

What it says of the table of section 4 and of the journal's kinds is held to the code as well: a page that is cited as the law
must not drift from it.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gateway.core.payment import TABLE, Action, Delivery, Transfer

ROOT = Path(__file__).parent.parent
DESIGN = ROOT / "docs" / "design.md"
PLACES = ("contracts", "wallets", "gateway", "gateway_client", "gateway_mcp", "sandbox", "tests", "docs")
KINDS = {".py", ".md", ".toml", ".json", ".sol", ".sql", ".txt", ".js", ".mjs", ".ts"}
NOT_OURS = {"node_modules", "build", "__pycache__"}
PROMISES = tuple(f"P{number}" for number in range(1, 15))

SECTION = re.compile(r"\b[Dd]esign(?:\.md,? section)? ([0-9]+)\b", re.ASCII)
PROMISE = re.compile(r"\bP([0-9]{1,2})\b", re.ASCII)
CITED = re.compile(r"(?<![\w/.*-])((?:[\w.-]+/)*[\w-]+\.md)\b", re.ASCII)
ELSEWHERE = re.compile(r"\b(reference|seeds)/", re.ASCII)


@cache
def _texts() -> tuple[tuple[Path, str], ...]:
    """Return every text file of ours but this one, which spells out what it looks for."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for place in PLACES:
        for folder, below, names in os.walk(ROOT / place):
            below[:] = [name for name in below if name not in NOT_OURS]
            files += [Path(folder, name) for name in names]
    ours = (path for path in files if path.suffix in KINDS and path != Path(__file__))
    return tuple((path, path.read_text(encoding="utf-8")) for path in sorted(ours))


def _citations(pattern: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    for path, text in _texts():
        for match in pattern.finditer(text):
            yield path, match[1]


def _sections() -> set[str]:
    return set(re.findall(r"^## ([0-9]+)\. ", DESIGN.read_text(), re.MULTILINE))


def _section(number: int) -> str:
    """Return a section's text."""
    return re.split(r"^## [0-9]+\. .*$", DESIGN.read_text(), flags=re.MULTILINE)[number]


def test_every_cited_section_of_the_design_is_there() -> None:
    """Whoever follows "design 4" finds section 4."""
    found = list(_citations(SECTION))
    assert {number for _, number in found} >= {"3", "4", "5", "6", "7"}
    assert [f"{path}: design {number}" for path, number in found if number not in _sections()] == []


def test_there_is_one_way_to_cite_the_design() -> None:
    """A page has one name: nobody has to guess that another spelling means docs/design.md."""
    assert [str(path) for path, text in _texts() if re.search(r"\bDESIGN\b", text)] == []


def test_every_promise_is_defined_and_nothing_else_is_cited() -> None:
    """P1 to P14 each have a definition, in section 3, and no line of ours speaks of a fifteenth."""
    defined = re.findall(r"^- \*\*(P[0-9]+) ", _section(3), re.MULTILINE)
    assert tuple(defined) == PROMISES
    cited = {f"P{number}" for path, number in _citations(PROMISE) if path.suffix in {".py", ".md", ".toml"}}
    assert cited == set(PROMISES)


def test_every_promise_is_named_by_a_test() -> None:
    """The page says that tests name each promise, so they do."""
    tests = [text for path, text in _texts() if (ROOT / "tests") in path.parents]
    assert [name for name in PROMISES if not any(re.search(rf"\b{name}\b", text) for text in tests)] == []


def test_every_cited_document_is_in_the_repository() -> None:
    """A citation of a page that only its writer has explains nothing to anybody else."""
    wrong = []
    for path, cited in _citations(CITED):
        near = (path.parent / cited, ROOT / cited, ROOT / "docs" / cited)
        if not any(place.is_file() for place in near):
            wrong.append(f"{path.relative_to(ROOT)}: {cited}")
    wrong += [f"{path.relative_to(ROOT)}: {folder}/" for path, folder in _citations(ELSEWHERE)]
    assert wrong == []


def test_files_that_the_design_names_exist() -> None:
    """Its tables lead from each step to a file."""
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.py)`", DESIGN.read_text()))
    assert len(named) > 40
    assert [n for n in sorted(named) if not any((ROOT / top / n).is_file() for top in ("", "gateway"))] == []


def test_the_designs_table_is_the_codes() -> None:
    """Each cell of section 4's table says what the code does there, and none is left out."""
    rows = re.findall(r"^\| (none|delivered|refused|unknown) \| (.+) \|$", _section(4), re.MULTILINE)
    head = [Transfer(each) for each in ("none", "prepared", "presented", "settled", "dead")]
    said = {
        (Delivery(delivery), transfer): Action(cell.replace(" ", "_"))
        for delivery, cells in rows
        for transfer, cell in zip(head, cells.split(" | "), strict=True)
    }
    assert said == TABLE
