"""The memo of a challenge is mppx's, and says which challenge it is of."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.attribution import ChallengeTextError, attribution_matches, attribution_memo, is_attribution
from contracts.codec import parse_bytes32

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/contracts/tempo.json").read_text())
ID, REALM = VECTORS["challenge"]["id"], VECTORS["challenge"]["realm"]


@pytest.mark.parametrize("vector", VECTORS["memos"])
def test_memo_is_mppxs(vector: dict[str, Any]) -> None:
    """With and without a client id, byte by byte."""
    memo = attribution_memo(REALM, ID, vector["client_id"])
    assert memo == parse_bytes32(vector["memo"])
    assert is_attribution(memo)
    assert attribution_matches(memo, REALM, ID)


def test_matches_its_own_challenge_only() -> None:
    """Another realm, another challenge, another tag, another version and a cut memo are told apart."""
    memo = attribution_memo(REALM, ID, "gateway")
    assert not attribution_matches(memo, "api.example.org", ID)
    assert not attribution_matches(memo, REALM, ID + "x")
    for other in (b"\0" + memo[1:], memo[:4] + b"\2" + memo[5:], memo[:-1], memo + b"\0", b""):
        assert not is_attribution(other)
        assert not attribution_matches(other, REALM, ID)


def test_every_part_has_its_place() -> None:
    """Realm, client and challenge each change their own bytes and no others."""
    plain = attribution_memo(REALM, ID)
    for other, span in (
        (attribution_memo("other", ID), range(5, 15)),
        (attribution_memo(REALM, ID, "me"), range(15, 25)),
        (attribution_memo(REALM, "other"), range(25, 32)),
    ):
        changed = {at for at in range(32) if plain[at] != other[at]}
        assert changed
        assert changed <= set(span)


@pytest.mark.parametrize("text", ["", "x" * 4097, "é" * 2049, "\ud800", 5, None, b"id"])
def test_refuses_what_is_no_text(text: Any) -> None:
    """Nothing, too much, half a surrogate pair and other types name no challenge and no realm."""
    for make in (lambda: attribution_memo(text, ID), lambda: attribution_memo(REALM, text)):
        with pytest.raises(ChallengeTextError):
            make()
    if text is not None:
        with pytest.raises(ChallengeTextError):
            attribution_memo(REALM, ID, text)


def test_unicode_is_hashed_as_utf8() -> None:
    """A realm of other scripts is its UTF-8 bytes, 4096 of them at most."""
    assert attribution_matches(attribution_memo("例え.jp", "é" * 2048), "例え.jp", "é" * 2048)
