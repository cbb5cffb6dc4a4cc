"""Every statement that has a name is asked by the product, and every index answers one of them."""

import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import gateway.store
from gateway.store import queries
from gateway.store.core import connect, migrate

PRODUCT = Path(gateway.store.__file__).parents[1]


def statements() -> Iterator[str]:
    """Yield the statements that the store's modules name; not the pieces that are still to be filled in."""
    for module in pkgutil.walk_packages(gateway.store.__path__, "gateway.store."):
        for value in vars(import_module(module.name)).values():
            for text in value if isinstance(value, tuple | list) else (value,):
                if isinstance(text, str) and re.match(r"(SELECT|WITH|UPDATE|DELETE)\b", text) and "{" not in text:
                    yield text


def plan_of(db: sqlite3.Connection, statement: str) -> str:
    """Return how a statement finds its rows."""
    names = set(re.findall(r":([a-z_]+)", statement))
    numbers = [int(number or 0) for number in re.findall(r"\?(\d*)", statement)]
    values = dict.fromkeys(names) if names else [None] * max([len(numbers) * (0 in numbers), *numbers])
    return " ".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values))


def test_every_index_is_asked() -> None:
    """An index for a question that nobody asks is a page more in every commit; one that is unique is a promise."""
    db = connect(":memory:")
    migrate(db)
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    indexes = {name for name, sql in rows if not sql.startswith("CREATE UNIQUE")}
    plans = " ".join(plan_of(db, statement) for statement in statements())
    assert len(indexes) > 40
    assert indexes - set(re.findall(r"INDEX (\w+)", plans)) == set()


def test_every_question_is_asked() -> None:
    """A statement that only tests ask would keep its index alive."""
    source = " ".join(path.read_text(encoding="utf-8") for path in PRODUCT.rglob("*.py"))
    named = [name for name, value in vars(queries).items() if name.isupper() and isinstance(value, str)]
    assert len(named) > 30
    assert [name for name in named if len(re.findall(rf"\b{name}\b", source)) < 2] == []
