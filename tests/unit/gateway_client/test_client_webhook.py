"""verify_webhook against the signatures that the gateway makes."""

from typing import Any

import pytest

from gateway.core.webhook import SECRET_BYTES, make_secret, sign
from gateway_client import WebhookRefused, verify_webhook
from gateway_client.webhook import TOLERANCE_S

SECRET, OTHER = make_secret(b"\x01" * SECRET_BYTES), make_secret(b"\x02" * SECRET_BYTES)
BODY = b'{"type":"server.running","timestamp":"2026-01-01T00:00:00.000Z","data":{"id":"evt_1"}}'
AT_S = 1_800_000_000


def _headers(*secrets: Any, at_s: int = AT_S) -> dict[str, str]:
    signature = sign(secrets or (SECRET,), "evt_1", at_s, BODY)
    return {"webhook-id": "evt_1", "webhook-timestamp": str(at_s), "webhook-signature": signature}


def _verify(headers: dict[str, str], body: bytes = BODY, secret: str = "", now_s: float = AT_S) -> str:
    return verify_webhook(secret or SECRET.reveal(), headers, body, now_s)


def test_a_delivery_of_the_gateway_is_accepted() -> None:
    """It returns the id by which repeats are known; header names have no case."""
    assert _verify(_headers()) == "evt_1"
    assert _verify({name.title(): value for name, value in _headers().items()}) == "evt_1"


def test_while_a_secret_is_rotated_both_are_accepted() -> None:
    """The gateway signs with the new and the old one: a receiver that has either takes it."""
    headers = _headers(OTHER, SECRET)
    assert _verify(headers) == _verify(headers, secret=OTHER.reveal()) == "evt_1"


@pytest.mark.parametrize("off_s", [-TOLERANCE_S, TOLERANCE_S])
def test_a_delivery_within_the_tolerance_is_accepted(off_s: int) -> None:
    """Clocks differ a little."""
    assert _verify(_headers(), now_s=AT_S + off_s) == "evt_1"


@pytest.mark.parametrize("off_s", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_what_is_too_old_or_from_the_future_is_refused(off_s: int) -> None:
    """A recorded delivery is worth nothing later."""
    with pytest.raises(WebhookRefused, match="more than"):
        _verify(_headers(), now_s=AT_S + off_s)


def test_what_was_changed_is_refused() -> None:
    """Body, id, time and signature: each is covered."""
    good = _headers()
    with pytest.raises(WebhookRefused, match="no signature fits"):
        _verify(good, BODY + b" ")
    for name, value in {
        "webhook-id": "evt_2",
        "webhook-timestamp": str(AT_S + 1),
        "webhook-signature": "v1,AAAA",
    }.items():
        with pytest.raises(WebhookRefused, match="no signature fits"):
            _verify({**good, name: value})


def test_another_secret_is_refused() -> None:
    """Only who has the secret could have signed."""
    with pytest.raises(WebhookRefused, match="no signature fits"):
        _verify(_headers(), secret=OTHER.reveal())


@pytest.mark.parametrize("version", ["v0", "v2", "", "v1a"])
def test_a_signature_of_another_version_is_refused(version: str) -> None:
    """Right bytes under another name are no signature."""
    headers = _headers()
    headers["webhook-signature"] = version + "," + headers["webhook-signature"].partition(",")[2]
    with pytest.raises(WebhookRefused, match="no signature fits"):
        _verify(headers)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    """All three are needed."""
    with pytest.raises(WebhookRefused, match="are needed"):
        _verify({key: value for key, value in _headers().items() if key != name})


@pytest.mark.parametrize("sent", ["", "-1", "1e9", "\u0661", " 1800000000"])
def test_a_time_that_is_no_number_is_refused(sent: str) -> None:
    """And not read in some lenient way."""
    with pytest.raises(WebhookRefused, match="are needed"):
        _verify({**_headers(), "webhook-timestamp": sent})


def test_a_secret_that_is_none_is_said_to_be_none() -> None:
    """The caller's mistake has a message of its own."""
    with pytest.raises(WebhookRefused, match="secret"):
        _verify(_headers(), secret="whsec_not base64!")
