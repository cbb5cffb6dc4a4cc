"""One sentence about a used Idempotency-Key, wherever it is found out."""

import ast
from pathlib import Path

from gateway.core.commands import KEY_USED, key_used

ROOT = Path(__file__).parents[4]


def test_the_problem_names_the_header_and_what_to_do() -> None:
    """409, the header's name as the field, and the words that the book itself refuses with."""
    problem = key_used()
    assert (problem.code, problem.status, problem.detail) == ("idempotency_conflict", 409, KEY_USED)
    assert problem.field == "Idempotency-Key"


def test_nobody_words_it_anew() -> None:
    """A scan of the sources finds the problem made in one place."""
    made = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem" and node.args
        if isinstance(node.args[0], ast.Constant) and node.args[0].value == "idempotency_conflict"
    ]
    assert made == ["gateway/core/commands.py"]
