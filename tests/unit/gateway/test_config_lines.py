"""Keys and the lines that they stand on."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.lines import KeyPath, key_lines

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"

TRICKY = '''\
top = 1 # [not.a.table]

[a."b.c".'d']   # = 2
x.y = """
[fake]
z = 1 \\""" still inside
"""
list = [ # one
  "]", 'a = "b"', # comment ]
  { k = 1, "q\\"" = [2, 3] },
]
at = 2024-01-01 10:00:00
[[many]]
n = 1
[[many]]
n = 2
[many.sub]
m = \'\'\'
[fake]
\'\'\'
[end]
last = true'''


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Return every key path of a parsed document."""
    found: set[KeyPath] = set()
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = [(str(i), v) for i, v in enumerate(value)] if isinstance(value, list) else []
    for name, inner in items:
        found |= {(*path, name)} | paths(inner, (*path, name))
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("a", "b.c", "d"), 3),
        (("a", "b.c", "d", "x"), 4),
        (("a", "b.c", "d", "x", "y"), 4),
        (("a", "b.c", "d", "list"), 8),
        (("a", "b.c", "d", "list", "1"), 9),
        (("a", "b.c", "d", "list", "2", "k"), 10),
        (("a", "b.c", "d", "list", "2", 'q"', "1"), 10),
        (("a", "b.c", "d", "at"), 12),
        (("many", "0", "n"), 14),
        (("many", "1", "n"), 16),
        (("many", "1", "sub", "m"), 18),
        (("end", "last"), 22),
    ],
)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    """Quotes, comments, multi-line strings, inline tables and arrays of tables do not lead astray."""
    assert key_lines(TRICKY)[path] == line


@pytest.mark.parametrize("text", [TRICKY, EXAMPLE.read_text()])
def test_every_key_that_the_parser_sees_has_a_line(text: str) -> None:
    """The scanner and tomllib agree on which keys there are."""
    assert paths(tomllib.loads(text)) == set(key_lines(text))


NAMES = st.text("abc-_09", min_size=1, max_size=4) | st.text('a."\\ #]=é', max_size=4).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
VALUES = st.sampled_from(
    ["1", "true", '"a # b"', "'x]'", '"""\n[t]\n"""', "[1, [2, 'q'], {k = 1}]", "{ a = 1, b.c = '}' }", "1e5", "[]"]
)


@given(st.lists(st.tuples(st.sampled_from(["[%s]", "[[%s]]", ""]), NAMES, NAMES, VALUES), max_size=6))
def test_any_valid_document_is_scanned_as_it_is_parsed(blocks: list[tuple[str, str, str, str]]) -> None:
    """Whatever TOML accepts, the scanner finds the same keys, and nothing makes it fail."""
    text = "\n".join(f"{header % table if header else ''}\n{key} = {value} # c" for header, table, key, value in blocks)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert paths(document) == set(key_lines(text))
