"""Which vendors have a door: those with webhooks, whose secret was saved."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from gateway.config import Config, parse_config
from gateway.core.login import Credentials
from gateway.core.records import VendorEvent
from gateway.vendor_credentials import MAX_WEBHOOK_SECRETS, VendorSecrets
from gateway.vendor_hooks import Hook, hooks_of
from wallets.secret import Secret

UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
CREATED_AT_MS = 1_778_754_912_000
BODY = json.dumps(
    {
        "id": "evt_01j2k3m4n5p6q7r8",
        "type": "server.deleted",
        "created_at": "2026-05-14T10:35:12+00:00",
        "data": {"uuid": UUID, "uuid_short": "a1b2c3d4", "name": "app-01", "status": None, "state": "running"},
    }
).encode()


def secrets(*texts: str) -> VendorSecrets:
    """Return what is saved for a vendor, with these webhook secrets."""
    return VendorSecrets(Credentials("", Secret("token")), tuple(map(Secret, texts)))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two vendors of kind vrtx, and one that sends no webhooks."""
    tables = [
        f'[vendors.{name}]\nkind = "{kind}"\nbase_url = "https://{name}.example"\nceiling = "9"\n'
        for name, kind in (("one", "vrtx"), ("two", "vrtx"), ("lite", "litevps"))
    ]
    text = '[keystore]\npassphrase = "env:PASSPHRASE"\n' + "".join(tables)
    return parse_config(text, {"PASSPHRASE": "x"}, directory=tmp_path)


def test_a_door_needs_webhooks_and_a_secret(config: Config) -> None:
    """Neither a vendor without a secret has one, nor a kind whose document has no webhooks, whatever was saved."""
    saved = {"one": secrets("a" * 16), "two": secrets(), "lite": secrets("b" * 16)}
    hooks = hooks_of(config, saved)
    assert hooks == {"one": Hook("one", saved["one"].webhook_secrets)}
    assert (hooks["one"].kind, hooks["one"].signature_header) == ("vrtx", "X-Vrtx-Signature")
    assert hooks_of(config, {}) == {}


def test_the_newest_three_secrets_count(config: Config) -> None:
    """An older one opens nothing."""
    texts = [str(n) * 16 for n in range(MAX_WEBHOOK_SECRETS + 1)]
    hook = hooks_of(config, {"one": secrets(*texts)})["one"]
    genuine = [hook.is_genuine(BODY, hmac.new(text.encode(), BODY, hashlib.sha256).hexdigest()) for text in texts]
    assert genuine == [True, True, True, False]
    assert not hook.is_genuine(BODY, None)
    assert "0000000000" not in repr(hook)


def test_an_event_is_read_with_both_times(config: Config) -> None:
    """The vendor's time is the event's, ours is when it came; a strange type is no event, and an old one is refused."""
    hook = hooks_of(config, {"one": secrets("a" * 16)})["one"]
    event = VendorEvent(
        "one", "evt_01j2k3m4n5p6q7r8", "server.deleted", UUID, "destroyed", CREATED_AT_MS, CREATED_AT_MS + 10**9
    )
    assert hook.read(BODY, CREATED_AT_MS, CREATED_AT_MS + 10**9) == event
    assert hook.read(BODY.replace(b"server.deleted", b"server.else"), CREATED_AT_MS, CREATED_AT_MS) is None
    with pytest.raises(ValueError, match="outside the window"):
        hook.read(BODY, CREATED_AT_MS + 74 * 3_600_000, CREATED_AT_MS)
