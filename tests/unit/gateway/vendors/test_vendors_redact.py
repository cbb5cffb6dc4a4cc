"""Answers made fit for agents: the vendor's token is gone in every spelling, and the rest is untouched."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.strict_json import parse_json
from gateway.vendors.redact import is_token, redact_document, redact_unreadable
from gateway.vendors.surrogate import make_surrogate
from wallets.secret import Secret

KEY = Secret(b"k" * 32)
TOKEN = "aB3dE6gH9_-xYz01/+=q"
SHOWN = make_surrogate(KEY, "vpsagent", TOKEN)


def surrogate(real: str) -> str:
    """What the flow hands in."""
    return make_surrogate(KEY, "vpsagent", real)


def redact(text: str) -> str:
    """The document's text as the agent gets it."""
    return redact_document(text, parse_json(text.encode()), "root_token", surrogate)


def test_the_token_is_replaced_everywhere() -> None:
    """In its member, in notes, in lists, in names of members, and percent-encoded in URLs."""
    document = {
        "root_token": TOKEN,
        "note": f"GET /instance/x?token={quote(TOKEN, safe='')} or ?token={TOKEN}. Keep {TOKEN}",
        "links": [f"<{TOKEN}>", {TOKEN: 1}],
        "root_password": "pa ss",
    }
    shown = json.loads(redact(json.dumps(document)))
    assert shown == {
        "root_token": SHOWN,
        "note": f"GET /instance/x?token={quote(SHOWN, safe='')} or ?token={SHOWN}. Keep {SHOWN}",
        "links": [f"<{SHOWN}>", {SHOWN: 1}],
        "root_password": "pa ss",
    }


@given(st.lists(st.booleans(), min_size=len(TOKEN), max_size=len(TOKEN)), st.booleans())
def test_no_json_escape_hides_the_token(escaped: list[bool], slash: bool) -> None:  # noqa: FBT001 - generated
    """Any character of it may be written as an escape, in the member and in the note alike."""
    written = "".join(
        f"\\u{ord(c):04X}" if hide else "\\/" if c == "/" and slash else c
        for c, hide in zip(TOKEN, escaped, strict=True)
    )
    text = f'{{"note":"use {written}!","root\\u005ftoken":"{written}"}}'
    shown = json.loads(redact(text))
    assert shown == {"note": f"use {SHOWN}!", "root_token": SHOWN}


def test_what_holds_no_token_stays_byte_for_byte() -> None:
    """Spaces, escapes, number spellings: nothing is written anew without need."""
    text = '{ "expires_at" : 1790000000000, "price":1.50, "ipv4":null,"x":"\\u00e9\\/" }'
    assert redact(text) == text


def test_several_tokens_and_one_inside_another() -> None:
    """Nested objects may carry tokens; the longer goes first, so no half of it is left."""
    tokens = [TOKEN + "TAIL99" * length for length in range(6)]
    document = {"list": [{"root_token": token} for token in tokens], "notes": [f"use {token}!" for token in tokens]}
    assert json.loads(redact(json.dumps(document))) == {
        "list": [{"root_token": surrogate(token)} for token in tokens],
        "notes": [f"use {surrogate(token)}!" for token in tokens],
    }


@pytest.mark.parametrize("value", ["short", "a b c d e f g h i j", "\u00e9" * 20, "-" * 40, "a" * 1025, "\ud800" * 20])
def test_a_value_that_is_no_token_is_hidden(value: str) -> None:
    """What has no surrogate is not shown either, and does not make the reading fail."""
    assert not is_token(value)
    assert json.loads(redact(json.dumps({"root_token": value, "note": "a b"}))) == {"root_token": "***", "note": "a b"}


@pytest.mark.parametrize("value", [None, 7, True, ["x"], {"a": 1}, ""])
def test_a_member_that_holds_no_text_is_left(value: object) -> None:
    """There is nothing to replace."""
    assert json.loads(redact(json.dumps({"root_token": value}))) == {"root_token": value}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("see /instance/x?token=Unknown123 now", "see /instance/x?token=*** now"),
        ("/x?TOKEN=Unknown123&a=1", "/x?TOKEN=***&a=1"),
        ("next=%2Fx%3Ftoken%3DUnknown123", "next=%2Fx%3Ftoken%3D***"),
        ("/x?root_token=Unknown123", "/x?root_token=***"),
        ("/x?token=<root_token>", "/x?token=<root_token>"),
    ],
)
def test_a_token_in_a_url_is_hidden_though_unknown(said: str, shown: str) -> None:
    """Error pages quote the URL that was sent, with the vendor's own token in it."""
    assert json.loads(redact(json.dumps([said]))) == [shown]
    assert redact_unreadable(said.encode()) == shown.encode()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"root_token":"abc","x":1', b'{"root_token":"***","x":1'),
        (b'{"root_token" :\n"abcdef', b'{"root_token" :\n"***'),
        (b'{"root_token":"a\\"b\\\\', b'{"root_token":"***'),
        (b'{"root_token":"a","root_token":"b"}', b'{"root_token":"***","root_token":"***"}'),
        (b"\xff<a href='/i?token=abc'>\xfe", b"\xff<a href='/i?token=***'>\xfe"),
        (b"plain", b"plain"),
        (b"", b""),
    ],
)
def test_what_cannot_be_read_loses_its_tokens(raw: bytes, shown: bytes) -> None:
    """A body cut off in the middle of the token, members twice, bytes that are no text."""
    assert redact_unreadable(raw) == shown
