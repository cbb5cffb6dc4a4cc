"""Who may ask: where the key may stand, and what each scope opens."""

import base64

import pytest

from gateway.core.commands import RevokeKey
from tests.unit.gateway.api.bed import Bed


def _basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "shape",
    [
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"Authorization": f"bearer  {key}"},
        lambda key: {"X-Api-Key": key},
        lambda key: {"Authorization": _basic(key)},
        lambda key: {"Authorization": _basic(key, "x")},
        lambda key: {"Authorization": _basic("agent", key)},
        lambda key: {"X-Api-Key": key, "Authorization": "Payment abc"},
    ],
)
async def test_key_is_found_in_each_place(bed: Bed, shape: object) -> None:
    """Bearer, X-Api-Key, and Basic as user name or password all work."""
    got = await bed.bare("GET", "/v1/balance", headers=shape(bed.key))  # type: ignore[operator]
    assert got.status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "key_missing"),
        ({"Authorization": "Payment abc"}, "key_missing"),
        ({"Authorization": "Basic !!!"}, "key_missing"),
        ({"Authorization": "Basic " + "A" * 2_000}, "key_missing"),
        ({"Authorization": "Bearer nonsense"}, "key_unknown"),
        ({"Authorization": "Bearer gk_key_01_" + "A" * 43}, "key_unknown"),
        ({"X-Api-Key": "é"}, "key_unknown"),
        ({"Authorization": _basic("somebody", "secret")}, "key_unknown"),
    ],
)
async def test_anything_else_is_401_and_says_how(bed: Bed, headers: dict[str, str], code: str) -> None:
    """Without a good key nothing is told but which header to send, on our routes and on the proxy."""
    for path in ("/v1/balance", "/proxy/shop/free/x", "/proxy/nobody/x"):
        got = await bed.bare("GET", path, headers=headers)
        assert (got.status, got.code) == (401, code)
        assert got.headers["WWW-Authenticate"].startswith("Bearer")
        assert "X-Balance-Available" not in got.headers
        assert got.headers["X-Request-Id"]
    assert bed.shop.seen == []


async def test_two_different_keys_in_one_header_are_refused(bed: Bed) -> None:
    """Nobody guesses which of two keys was meant."""
    headers = [("X-Api-Key", bed.key), ("X-Api-Key", "gk_other")]
    got = await bed.bare("GET", "/v1/balance", headers=headers)
    assert got.code == "bad_request"


async def test_revoked_key_stops_at_once(bed: Bed) -> None:
    """From the commit of its revocation on a key opens nothing."""
    key = await bed.new_key("proxy")
    assert (await bed.ask("GET", "/proxy/shop/free/x", key)).status == 200
    key_id = key[3:-44]
    await bed.store.post(RevokeKey(key_id, "acc_1", 1))
    got = await bed.ask("GET", "/proxy/shop/free/x", key)
    assert (got.status, got.code) == (401, "key_revoked")


@pytest.mark.parametrize(
    ("scopes", "path", "status"),
    [
        (("proxy",), "/proxy/shop/free/x", 200),
        (("proxy:shop",), "/proxy/shop/free/x", 200),
        (("proxy:other",), "/proxy/shop/free/x", 403),
        (("read", "keys"), "/proxy/shop/free/x", 403),
        (("proxy",), "/v1/balance", 403),
        (("read",), "/v1/balance", 200),
        (("read",), "/v1/keys", 403),
        (("keys",), "/v1/keys", 200),
    ],
)
async def test_each_scope_opens_its_own_routes(bed: Bed, scopes: tuple[str, ...], path: str, status: int) -> None:
    """A scope opens what it names and nothing else."""
    got = await bed.ask("GET", path, await bed.new_key(*scopes))
    assert got.status == status
    if status == 403:
        assert got.code == "scope_missing"
        assert got.json["scope"]


async def test_key_is_in_no_answer_and_no_log_line(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """P10: neither a good key nor a bad one comes back, or goes into the log."""
    bad = "gk_key_01_" + "B" * 43
    answers = [
        await bed.ask("GET", "/v1/balance"),
        await bed.ask("GET", "/v1/balance", bad),
        await bed.ask("GET", f"/proxy/{bed.key}/x"),
        await bed.ask("GET", f"/{bed.key}"),
        await bed.ask("GET", f"/v1/payments/{bed.key}"),
        await bed.ask("GET", f"/proxy/shop/free/x?api_key={bed.key}"),
        await bed.ask("GET", f"/v1/balance?key={bed.key}"),
    ]
    written = capsys.readouterr()
    for secret in (bed.key, bad):
        assert all(secret not in got.body.decode() for got in answers)
        assert secret not in written.out + written.err
    assert "request_id" in written.out
