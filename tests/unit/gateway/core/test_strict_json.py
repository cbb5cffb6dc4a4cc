"""Strict JSON: one reading or none, and digits that stay digits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.strict_json import MAX_DEPTH, Fraction, JsonError, map_strings, parse_json


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1,}',
        b"[1,]",
        b"{} {}",
        b"{}x",
        b"'a'",
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":{"a":1,"a":1}}]',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"0x10",
        b"1" * 41,
        b"1." + b"1" * 40,
        b'"\x01"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"unfinished',
        b'"\\x41"',
        b"// comment\n{}",
        b"\x00",
    ],
)
def test_what_has_no_single_reading_is_refused(raw: bytes) -> None:
    """Broken text, duplicate members (escaped ones too), NaN, endless digits and other encodings are no JSON here."""
    with pytest.raises(JsonError):
        parse_json(raw)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_depth_is_bounded_before_the_parser_meets_it(opening: bytes) -> None:
    """Neither 33 levels nor a hundred thousand reach the recursive parser."""
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(JsonError):
            parse_json(opening * levels)


def test_brackets_in_strings_are_no_depth() -> None:
    """A string of brackets, quotes and backslashes is one level."""
    text = '[\\"' * 40 + "\\\\"
    assert parse_json(f'["{text}"]'.encode()) == [json.loads(f'"{text}"')]


def test_the_deepest_allowed_document_is_read() -> None:
    """Exactly MAX_DEPTH levels pass."""
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


def test_the_error_tells_no_content() -> None:
    """A body that cannot be read may hold a password."""
    with pytest.raises(JsonError) as caught:
        parse_json(b'{"root_password": "hunter2", x}')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_fractions_keep_their_digits() -> None:
    """A price is never a float: 9.990000000000001 and 1e2 come out as they were written."""
    assert parse_json(b"[9.990000000000001, 1e2, 7, -0.1]") == [
        Fraction("9.990000000000001"),
        Fraction("1e2"),
        7,
        Fraction("-0.1"),
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_mapping_strings_to_themselves_changes_no_byte(document: object) -> None:
    """Whatever the document and its escapes, an idle map gives back the same text."""
    for text in (json.dumps(document), json.dumps(document, indent=1, ensure_ascii=True)):
        assert map_strings(text, lambda value: value) == text


@given(st.lists(st.text(), max_size=6), st.booleans())
def test_mapping_reaches_every_string_decoded(values: list[str], escaped: bool) -> None:  # noqa: FBT001 - generated
    """Each string is seen as it means, and the result parses to the changed strings."""
    text = json.dumps({f"k{i}": value for i, value in enumerate(values)}, ensure_ascii=escaped)
    seen: list[str] = []

    def change(value: str) -> str:
        seen.append(value)
        return value + '"\\!'

    changed = json.loads(map_strings(text, change))
    assert seen == [part for i, value in enumerate(values) for part in (f"k{i}", value)]
    assert list(changed.values()) == [value + '"\\!' for value in values]


def test_what_stands_between_strings_stays() -> None:
    """Numbers, spaces and untouched escapes are not written anew."""
    text = '{ "a" : 1.50e+1,\n\t"b":"\\u0041\\/", "c":"x" }'
    assert map_strings(text, lambda value: "y" if value == "x" else value) == text.replace('"x"', '"y"')
