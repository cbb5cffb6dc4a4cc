"""Task kinds: one closed list, which docs/operations.md answers and the sources keep to."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.core.task_kinds import TASK_KINDS

ROOT = Path(__file__).parents[4]
LIST = ROOT / "gateway" / "core" / "task_kinds.py"
_SECTION = re.compile(r"^## Tasks\n(.*?)^## ", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ((?:`[a-z_]+`(?:, )?)+) \| ", re.MULTILINE)
_OPENERS = {"Task": 1, "ask": 0, "leave": 1, "Question": 0}
"""What opens a task or hands a kind on to what does, with the place of the kind among its arguments."""


def documented() -> list[str]:
    """Return the kinds that the operator's page has a row for."""
    section = _SECTION.search((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
    assert section is not None
    return [kind for names in _ROW.findall(section[1]) for kind in re.findall(r"`([a-z_]+)`", names)]


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Return every module of the gateway but the list itself."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        if path != LIST:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def opened() -> set[str]:
    """Return the kinds that stand in the sources where tasks are opened. Kinds in variables are for mypy to hold."""
    found = set()
    for _, tree in trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            place = _OPENERS.get(name)
            kind = call.args[place] if place is not None and len(call.args) > max(place, 1) else None
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                found.add(kind.value)
    return found


def test_the_operators_page_has_every_kind_and_no_other() -> None:
    """Whatever a human is asked is answered there, once; what is answered there is really asked."""
    assert sorted(documented()) == sorted(TASK_KINDS)


def test_no_other_kind_is_opened() -> None:
    """A scan of the sources finds only kinds of the list."""
    found = opened()
    assert len(found) > 25, "the scan finds what it looks for"
    assert found - set(TASK_KINDS) == set()


def test_every_kind_is_in_use() -> None:
    """No kind is left in the list that nothing opens any more."""
    texts = {
        node.value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(TASK_KINDS) - texts == set()


def test_tasks_are_opened_in_one_place() -> None:
    """Flows ask through `Tasks`, settling through its desk: nothing else makes the command, so every task is logged."""
    made = {
        str(path.relative_to(ROOT))
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "OpenTask"
    }
    assert made == {"gateway/flow/tasks.py", "gateway/facilitator/desk.py"}
