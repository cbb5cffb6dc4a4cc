"""docs/api.md against the code: every problem documented, every code used declared, every route listed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.core.problems import TYPES
from gateway.rails.codes import Problem as RailProblem
from tests.unit.gateway.api.bed import Bed
from tests.unit.gateway.api.paid_bed import whole_table

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (\d{3}) \| (.+) \| (.+) \|$", re.MULTILINE)


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may be, where they stand in the source."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _codes_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in {"Problem", "Refused"}:
                yield from _texts(node.args[0])
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "code" for t in node.targets):
            yield from _texts(node.value)


def _used() -> dict[str, set[str]]:
    used: dict[str, set[str]] = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for code in _codes_in(path):
            used.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return used


def test_every_problem_is_documented_as_it_is() -> None:
    """The page's table is the table of the code: code, status, title and remedy, none missing and none invented."""
    documented = {code: (int(status), title, remedy) for code, status, title, remedy in _ROW.findall(PAGE)}
    assert documented == {code: (kind.status, kind.title, kind.remedy) for code, kind in TYPES.items()}


def test_every_code_in_the_sources_is_declared() -> None:
    """No handler invents a code: a scan of the sources finds only declared ones."""
    used = _used()
    assert len(used) > 30, "the scan finds what it looks for"
    unknown = {code: where for code, where in used.items() if code not in TYPES}
    assert unknown == {}


def test_every_refusal_of_a_rail_is_declared() -> None:
    """Whatever the rails object to in a challenge has its problem type."""
    assert {problem.value for problem in RailProblem} <= TYPES.keys()


async def test_every_route_of_ours_is_on_the_page(bed: Bed) -> None:
    """The page names each method and path that is served, those of being paid included."""
    for endpoint in whole_table(bed).endpoints:
        assert f"`{endpoint.method} {endpoint.path}`" in PAGE
