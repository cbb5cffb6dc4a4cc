"""Signatures and the schedule of Standard Webhooks, against the specification's own words and numbers."""

import base64
import hashlib
import hmac

import pytest

from gateway.core.webhook import ATTEMPTS_MAX, PAUSES_S, make_secret, retry_at_ms, sign
from wallets.secret import Secret

DAY_S = 86_400


def test_signature_is_over_id_time_and_body() -> None:
    """Computed here a second time, from the specification: base64 of HMAC-SHA256 under the decoded secret."""
    key = bytes(range(24))
    secret = Secret("whsec_" + base64.b64encode(key).decode())
    body = '{"type":"server.running","ü":1}'.encode()
    wanted = base64.b64encode(hmac.new(key, b"evt_5.1674087231." + body, hashlib.sha256).digest()).decode()
    assert sign([secret], "evt_5", 1_674_087_231, body) == f"v1,{wanted}"


def test_known_vector_of_the_reference_libraries() -> None:
    """The triple that the reference libraries' own tests pin."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_valid_secrets_sign_both() -> None:
    """Separated by a space, the newest first."""
    first, second = make_secret(b"\x01" * 32), make_secret(b"\x02" * 32)
    both = sign([first, second], "evt_1", 1, b"{}").split(" ")
    assert both == [sign([secret], "evt_1", 1, b"{}") for secret in (first, second)]
    assert len(set(both)) == 2


def test_secret_has_the_specified_spelling_and_no_repr() -> None:
    """whsec_ and base64 of 32 bytes; a log shows nothing of it (P10)."""
    secret = make_secret(b"\x03" * 32)
    assert base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True) == b"\x03" * 32
    assert "whsec_" not in repr(secret)
    with pytest.raises(ValueError, match="32 random bytes"):
        make_secret(b"short")


def test_schedule_spans_about_three_days() -> None:
    """The pauses are the specification's; after the last attempt it is given up."""
    assert sum(PAUSES_S) == 75 * 3600 + 35 * 60 + 5
    due = [retry_at_ms(attempts, 0, 0) for attempts in range(1, ATTEMPTS_MAX + 1)]
    assert due == [*(pause * 1000 for pause in PAUSES_S), None]


def test_jitter_delays_by_at_most_a_tenth() -> None:
    """Receivers that failed together are not asked together again."""
    assert retry_at_ms(2, 1_000, 0) == 301_000
    most = retry_at_ms(2, 1_000, 255)
    assert most is not None
    assert 301_000 < most <= 331_000


def test_retry_after_only_delays() -> None:
    """And by no more than a day."""
    assert retry_at_ms(1, 0, 0, 60) == 60_000
    assert retry_at_ms(2, 0, 0, 60) == 300_000
    assert retry_at_ms(1, 0, 0, 10**6) == DAY_S * 1000
