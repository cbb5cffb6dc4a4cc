"""Drop-in for vendors' own scripts: their login takes an API key as password and hands out a token for that vendor alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.account_ports import AccountTerms
from gateway.api import vendor_login
from gateway.api.attempts import MAX_FAILURES
from gateway.api.deps import Accounts, ApiSettings
from gateway.api.proxy import Proxy
from gateway.core.apikeys import new_key
from gateway.core.commands import Done, RevokeKey
from gateway.core.routes import Pricing, Route
from gateway.core.tariff import Rule
from gateway.core.vendor_tokens import PREFIX, VendorTokens
from gateway.flow.call import AccountCall, Reply
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from gateway.vendors.cryptovps.vendor import CryptoVps
from gateway.vendors.litevps.vendor import LiteVps
from tests.fakes.broker import EchoBroker
from tests.unit.gateway.api.bed import Bed, Got, opened
from wallets.secret import Secret

EMAIL = "agent@example.com"
TERMS = AccountTerms(3_600, 10_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=0)
TOKENS = VendorTokens(Secret(b"\x31" * 32))
LOGIN, LITE_LOGIN = "/proxy/crypto/auth/login", "/proxy/lite/api/auth/login"
JSON = {"Content-Type": "application/json"}


@dataclass
class Desk:
    """The running gateway and what its broker saw."""

    bed: Bed
    broker: EchoBroker

    async def log_in(self, password: str, path: str = LOGIN, email: str = EMAIL, **headers: str) -> Got:
        """Log in as a vendor's script does."""
        body = json.dumps({"email": email, "password": password}).encode()
        return await self.bed.bare("POST", path, data=body, headers={**JSON, **headers})

    async def token(self, key: str | None = None, path: str = LOGIN) -> str:
        """Log in and return the token."""
        document = (await self.log_in(key or self.bed.key, path)).json
        return str(document["accessToken" if path == LOGIN else "token"])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """The agents' side with two vendors that have logins, `crypto` and `lite`."""
    brokers: list[EchoBroker] = []

    def accounts(store: SqliteStore) -> Accounts:
        brokers.append(EchoBroker(store))
        vendors = (CryptoVps("crypto", "https://c.example", TERMS), LiteVps("lite", "https://l.example", TERMS))
        return Accounts({vendor.name: vendor for vendor in vendors}, brokers[0], TOKENS)

    async with opened(tmp_path, accounts=accounts) as bed:
        yield Desk(bed, brokers[0])


async def test_login_takes_a_key_and_answers_as_the_vendor_does(desk: Desk) -> None:
    """CryptoVPS's document: login gives accessToken and user, registration the same with 201; the token then is Bearer."""
    for path, status in ((LOGIN, 200), ("/proxy/crypto/auth/register", 201)):
        got = await desk.log_in(desk.bed.key, path)
        assert got.status == status
        assert got.json["user"] == {"id": "acc_1", "email": EMAIL, "balance": "10.00"}
        assert got.headers["X-Request-Id"]
        assert got.headers["X-Balance-Available"] == "10.000000"
        assert got.headers.getall("Cache-Control") == ["no-store"]
        me = await desk.bed.bare("GET", "/proxy/crypto/auth/me", headers=desk.bed.auth(got.json["accessToken"]))
        assert me.json == {"user": {"id": "acc_1", "email": EMAIL, "balance": "10.00"}}
        assert me.headers["Cache-Control"] == "private"


async def test_each_vendor_has_its_own_shape_and_span(desk: Desk) -> None:
    """LiteVPS answers {"token"}; a token lives as long as its vendor's document says: 24 hours there, 15 minutes here."""
    lite, crypto = await desk.log_in(desk.bed.key, LITE_LOGIN), await desk.token()
    assert list(lite.json) == ["token"]
    now_ms = SystemClock().now_ms()
    for text, vendor, lives_s in ((lite.json["token"], "lite", 86_400), (crypto, "crypto", 900)):
        claims = TOKENS.read(text, vendor, now_ms)
        assert claims is not None
        assert 0 <= now_ms + lives_s * 1000 - claims.expires_at_ms < 60_000


def test_span_is_the_documents_also_where_the_operator_needs_no_login() -> None:
    """A standing token is the operator's affair: agents' scripts expect what the document says of a login."""
    standing = LiteVps("lite", "https://l.example", TERMS, standing_token=True)
    assert standing.login is None
    assert vendor_login.token_lives_s(standing) == 86_400
    assert vendor_login.token_lives_s(CryptoVps("crypto", "https://c.example", TERMS)) == 900


async def test_key_as_bearer_needs_no_login(desk: Desk) -> None:
    """The API key itself is Bearer as ever; the broker is told of no address then."""
    got = await desk.bed.ask("GET", "/proxy/crypto/servers")
    assert (got.status, got.json["account"]) == (200, "acc_1")
    assert (desk.broker.seen[-1].email, desk.broker.seen[-1].token) == ("", None)


async def test_token_is_the_key_below_its_vendor(desk: Desk) -> None:
    """A call with a token is the account's, under the address of the login."""
    got = await desk.bed.ask("GET", "/proxy/crypto/servers", await desk.token())
    assert (got.status, got.json["account"]) == (200, "acc_1")
    assert desk.broker.seen[-1].email == EMAIL
    assert desk.broker.seen[-1].key.account_id == "acc_1"


@pytest.mark.parametrize(
    "path",
    ["/proxy/lite/api/vps", "/proxy/shop/free/x", "/proxy/nobody/x", "/v1/balance", "/v1/keys", "/v1/payments"],
)
async def test_token_is_nothing_anywhere_else(desk: Desk, path: str) -> None:
    """Neither another vendor nor our own API knows it."""
    got = await desk.bed.ask("GET", path, await desk.token())
    assert (got.status, got.code) == (401, "key_unknown")
    assert "X-Balance-Available" not in got.headers


async def test_token_stands_as_bearer_only(desk: Desk) -> None:
    """No vendor's script puts it anywhere else."""
    got = await desk.bed.bare("GET", "/proxy/crypto/servers", headers={"X-Api-Key": await desk.token()})
    assert (got.status, got.code) == (401, "key_unknown")


async def test_expired_and_forged_tokens_are_401(desk: Desk) -> None:
    """The vendor's document tells scripts to log in again on any 401."""
    now_ms, key_id = SystemClock().now_ms(), desk.bed.key[3:-44]
    good = TOKENS.make(key_id, "crypto", EMAIL, now_ms, 900)
    assert (await desk.bed.ask("GET", "/proxy/crypto/servers", good)).status == 200
    for text in (
        TOKENS.make(key_id, "crypto", EMAIL, now_ms - 900_001, 900),
        VendorTokens(Secret(b"\x32" * 32)).make(key_id, "crypto", EMAIL, now_ms, 900),
        TOKENS.make("key_gone", "crypto", EMAIL, now_ms, 900),
        good[:-1],
    ):
        got = await desk.bed.ask("GET", "/proxy/crypto/servers", text)
        assert (got.status, got.code) == (401, "key_unknown")


async def test_revoked_key_ends_its_tokens_at_once(desk: Desk) -> None:
    """A token is worth what its key is worth now; and the key opens no login any more."""
    key = await desk.bed.new_key("proxy")
    token = await desk.token(key)
    assert (await desk.bed.ask("GET", "/proxy/crypto/servers", token)).status == 200
    assert isinstance(await desk.bed.store.post(RevokeKey(key[3:-44], "acc_1", 1)), Done)
    got = await desk.bed.ask("GET", "/proxy/crypto/servers", token)
    assert (got.status, got.code) == (401, "key_revoked")
    assert (await desk.log_in(key)).status == 401


async def test_what_opens_nothing_as_a_key_opens_nothing_as_a_token(desk: Desk) -> None:
    """An older version let an account be called `house`: a token that was made for its key lets nobody in as the house."""
    made = new_key("house", "old", ("proxy",), (), 1, SystemEntropy().bytes)
    desk.bed.store.view._key(made.key)  # as at the start, from the database: no command keeps such a key any more
    token = TOKENS.make(made.key.id, "crypto", EMAIL, SystemClock().now_ms(), 900)
    for text in (made.text.reveal(), token):
        got = await desk.bed.ask("GET", "/proxy/crypto/servers", text)
        assert (got.status, got.code) == (401, "key_unknown")
    assert desk.broker.seen == []


async def test_scope_of_the_key_is_the_scope_of_the_token(desk: Desk) -> None:
    """A key for another vendor opens no login here, and its token elsewhere gains nothing."""
    key = await desk.bed.new_key("proxy:lite")
    assert (await desk.bed.ask("GET", "/proxy/lite/api/vps", await desk.token(key, LITE_LOGIN))).status == 200
    got = await desk.log_in(key)
    assert (got.status, got.json) == (403, {"error": 'this needs a key with the scope "proxy:crypto"'})
    made = TOKENS.make(key[3:-44], "crypto", "", SystemClock().now_ms(), 900)
    assert (await desk.bed.ask("GET", "/proxy/crypto/servers", made)).code == "scope_missing"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"nonsense",
        b"[]",
        b'{"email":"agent@example.com"}',
        b'{"email":"agent@example.com","password":""}',
        b'{"email":"agent@example.com","password":7}',
        b'{"email":"agent@example.com","password":"min-8-chars"}',
        b'{"email":"agent@example.com","password":"\\u00e9\\ud800"}',
        b'{"email":"agent@example.com","password":"gk_key_01_' + b"A" * 43 + b'"}',
    ],
)
async def test_wrong_or_missing_password_is_refused_in_the_vendors_shape(desk: Desk, body: bytes) -> None:
    """A 401 as the vendor would word it, with our request id, about nobody; and no call is made."""
    for path in (LOGIN, LITE_LOGIN):
        got = await desk.bed.bare("POST", path, data=body, headers=JSON)
        assert got.status == 401
        assert list(got.json) == ["error"]
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["X-Request-Id"]
        assert "X-Balance-Available" not in got.headers
    assert desk.broker.seen == []


async def test_address_that_is_none_is_refused(desk: Desk) -> None:
    """What would be carried in every token, and shown again, is an e-mail address."""
    for email in ("nobody", "a@b\r\nX: 1", "é@example.com", "a@" + "x" * 300):
        got = await desk.log_in(desk.bed.key, email=email)
        assert (got.status, got.json["error"]) == (400, "validation failed")
    assert desk.broker.seen == []


async def test_key_in_a_header_opens_the_login_as_well(desk: Desk) -> None:
    """A base URL that holds the key, or a Bearer key, lets in a script that still has its old password, or none."""
    for headers in (desk.bed.auth(), {"X-Api-Key": desk.bed.key}):
        got = await desk.log_in("min-8-chars", **headers)
        assert (got.status, got.json["user"]["email"]) == (200, EMAIL)
        bare = await desk.bed.bare("POST", LOGIN, headers=headers)
        assert bare.status == 200
        assert bare.json["user"]["email"].startswith("acc_1@")


async def test_password_wins_over_the_header(desk: Desk) -> None:
    """Who logs in anew, with an old session's header still on, is whom the password says."""
    other = await desk.bed.new_key("proxy", account_id="acc_2")
    for headers in (desk.bed.auth(), desk.bed.auth(await desk.token()), desk.bed.auth("gwv_expired")):
        got = await desk.log_in(other, **headers)
        assert (got.status, got.json["user"]["id"]) == (200, "acc_2")


async def test_token_never_renews_itself(desk: Desk) -> None:
    """A token opens no login: it would outlive the time that it was given."""
    got = await desk.log_in("min-8-chars", **desk.bed.auth(await desk.token()))
    assert got.status == 401


async def test_failed_logins_are_bounded_by_address(desk: Desk) -> None:
    """The eleventh failure in a minute is 429 with Retry-After in the vendor's shape; a live key still comes in."""
    for _ in range(MAX_FAILURES):
        assert (await desk.log_in("wrong-password")).status == 401
    for path in (LOGIN, LITE_LOGIN, "/proxy/crypto/auth/register"):
        got = await desk.log_in("wrong-password", path)
        assert got.status == 429
        assert list(got.json) == ["error"]
        assert 1 <= int(got.headers["Retry-After"]) <= 60
    assert (await desk.log_in(desk.bed.key)).status == 200


async def test_login_body_is_small_and_comes_soon(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not known yet sends a few KiB, in a few seconds."""
    got = await desk.log_in("x" * 5_000)
    assert (got.status, got.code) == (413, "body_oversized")
    monkeypatch.setattr(vendor_login, "MAX_BODY_S", 0.2)
    host, _, port = desk.bed.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {LOGIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
    async with asyncio.timeout(40):
        assert b"HTTP/1.1 400" in await reader.readuntil(b'"code":"bad_request"')
    writer.close()


async def test_login_is_never_kept_under_an_idempotency_key(desk: Desk) -> None:
    """The same key under two logins gives each its own token, and leaves nothing in the store."""
    for _ in range(2):
        got = await desk.log_in(desk.bed.key, **{"Idempotency-Key": "once", "Prefer": "quote"})
        assert got.status == 200
        assert "Idempotent-Replayed" not in got.headers
    me = await desk.bed.ask("GET", "/proxy/crypto/auth/me", headers={"Idempotency-Key": "once"})
    assert me.status == 200
    assert [call.idempotency_key for call in desk.broker.seen] == [None, None, None]
    assert await desk.bed.store.claimed("acc_1", "once") is None


async def test_other_routes_keep_their_idempotency_key(desk: Desk) -> None:
    """Only what the gateway answers itself goes without."""
    await desk.bed.ask("POST", "/proxy/crypto/servers", data=b"{}", headers={"Idempotency-Key": "once"})
    assert desk.broker.seen[-1].idempotency_key == "once"


async def test_only_declared_logins_open_without_a_key(desk: Desk) -> None:
    """Other methods, spellings and routes below the same vendor tell nobody anything."""
    for method, path in (
        ("GET", LOGIN),
        ("POST", "/proxy/crypto/auth/me"),
        ("POST", "/proxy/crypto/auth/login/"),
        ("POST", "/proxy/crypto/auth/%2e%2e/auth/login"),
        ("POST", "/proxy/crypto/servers"),
        ("POST", "/proxy/shop/auth/login"),
        ("POST", "/proxy/nobody/auth/login"),
    ):
        got = await desk.bed.bare(method, path)
        assert (got.status, got.code) == (401, "key_missing")
    assert desk.broker.seen == []


async def test_key_and_token_are_in_no_log_line_and_not_in_the_call(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """P10: the key goes no further than the door, and neither it nor the token nor the address is ever written."""
    wrong = "gk_key_01_" + "B" * 43
    token = await desk.token()
    answers = [
        await desk.log_in(wrong),
        await desk.log_in("x" * 5_000 + desk.bed.key),
        await desk.bed.ask("GET", "/proxy/crypto/servers", token),
        await desk.bed.ask("GET", "/proxy/lite/api/vps", token),
    ]
    written = capsys.readouterr()
    for secret in (desk.bed.key, wrong, token):
        assert secret not in written.out + written.err
        assert all(secret not in got.body.decode() for got in answers)
        assert all(secret not in repr(call) for call in desk.broker.seen)
    assert EMAIL not in written.out + written.err
    assert all(call.body == b"" for call in desk.broker.seen if call.token is not None)
    assert "path=/proxy/crypto/auth/login" in written.out


async def test_token_is_told_apart_by_its_beginning(desk: Desk) -> None:
    """Secret scanners, and we, know a token where it leaked."""
    assert (await desk.token()).startswith(PREFIX)


async def test_nothing_unread_passes_to_a_shared_account(tmp_path: Path) -> None:
    """P9: a body too long to be read whole is refused, for it could name another agent's thing."""

    def accounts(store: SqliteStore) -> Accounts:
        return Accounts({"crypto": CryptoVps("crypto", "https://c.example", TERMS)}, EchoBroker(store), TOKENS)

    async with opened(tmp_path, ApiSettings(buffer_bytes=64), accounts=accounts) as bed:
        for path, code in (("backups", "body_oversized"), ("servers", "body_not_replayable")):
            got = await bed.ask("POST", f"/proxy/crypto/{path}", data=b"x" * 65)
            assert (got.status, got.code) == (413, code)


class _Reader(EchoBroker):
    """A broker that reads what is streamed to it."""

    got: bytes = b""

    async def run(self, call: AccountCall) -> Reply:
        """Keep the stream's bytes, then answer."""
        assert call.stream is not None
        self.got = b"".join([chunk async for chunk in call.stream])
        return await super().run(call)


async def test_a_file_passes_as_it_comes(tmp_path: Path) -> None:
    """Where a body is no document it names nobody's thing, so a long one is streamed; but not under an Idempotency-Key."""
    brokers: list[_Reader] = []

    def accounts(store: SqliteStore) -> Accounts:
        brokers.append(_Reader(store))
        return Accounts({"lite": LiteVps("lite", "https://l.example", TERMS)}, brokers[0], TOKENS)

    path, body = "/proxy/lite/api/vps/v1/files?path=/root/a", b"x" * 65
    async with opened(tmp_path, ApiSettings(buffer_bytes=64, stream_bytes=100), accounts=accounts) as bed:
        assert (await bed.ask("PUT", path, data=body)).status == 200
        assert (brokers[0].got, brokers[0].seen[0].body) == (body, b"")
        keyed = await bed.ask("PUT", path, data=body, headers={"Idempotency-Key": "k"})
        assert (keyed.status, keyed.code) == (413, "body_not_replayable")
        assert (await bed.ask("PUT", path, data=b"x" * 101)).code == "body_oversized"
        renamed = await bed.ask("PUT", "/proxy/lite/api/vps/v1", data=body)
        assert (renamed.status, renamed.code) == (413, "body_oversized")
        assert len(brokers[0].seen) == 1


class _Leaky(CryptoVps):
    """A module that declares a login which would go upstream."""

    def __init__(self) -> None:
        super().__init__("leaky", "https://c.example", TERMS)
        self.routes = (*self.routes, Route("sso", ("POST",), ("sso",), Pricing.FREE, opens=True))


async def test_login_that_would_reach_the_vendor_is_refused_at_the_start(desk: Desk) -> None:
    """P10: the password is an API key of ours, so whoever takes it is us."""
    deps: Any = desk.bed.server.api.deps
    leaky = Accounts({"leaky": _Leaky()}, desk.broker, TOKENS)
    with pytest.raises(ValueError, match="answered by the gateway itself"):
        Proxy(
            type(deps)(**{name: getattr(deps, name) for name in deps.__slots__} | {"accounts": leaky}), asyncio.Event()
        )
