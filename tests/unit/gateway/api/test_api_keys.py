"""Keys that agents make for themselves: narrower, once, and gone when revoked."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.api import keys
from gateway.api.deps import ApiSettings
from gateway.api.keys import NEW_KEY
from gateway.core.apikeys import key_id_of
from gateway.core.records import Budget
from tests.unit.gateway.api.bed import Bed, opened
from tests.unit.gateway.api.shape import check

BODY = {"name": "worker", "scopes": ["proxy:shop"]}


async def _post(bed: Bed, body: Any, key: str | None = None, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await bed.ask(
        "POST", "/v1/keys", key, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


async def test_new_key_works_and_is_shown_once(bed: Bed) -> None:
    """The answer holds the key; no later one does."""
    got = await _post(bed, {**BODY, "budgets": [{"limit": "0.50", "window_s": 3600, "vendor": "shop"}]})
    assert got.status == 201
    check(got.json, NEW_KEY)
    assert key_id_of(got.json["key"]) == got.json["id"]
    assert (await bed.ask("GET", "/proxy/shop/free/x", got.json["key"])).status == 200
    assert (await bed.ask("GET", "/proxy/other/free/x", got.json["key"])).code == "scope_missing"
    listed = await bed.ask("GET", "/v1/keys")
    assert got.json["key"].encode() not in listed.body
    assert [k["name"] for k in listed.json["entries"]] == ["test", "worker"]


async def test_budget_of_a_new_key_is_enforced_and_told(bed: Bed) -> None:
    """A key spends no more than its budget, and the list says how much of it is used."""
    made = (await _post(bed, {**BODY, "budgets": [{"limit": "0.50", "window_s": 3600}]})).json
    codes = [(await bed.ask("POST", "/proxy/shop/priced", made["key"], data=b"%d" % n)).status for n in range(3)]
    assert codes == [200, 200, 403]
    budget = (await bed.ask("GET", "/v1/keys")).json["entries"][1]["budgets"][0]
    assert (budget["limit"], budget["used"]) == ("0.500000", "0.500000")
    assert budget["window_ends_at"] is not None


@pytest.mark.parametrize(
    ("scopes", "asked", "status"),
    [
        (("keys", "proxy:shop"), ["proxy:shop"], 201),
        (("keys", "proxy:shop"), ["keys"], 201),
        (("keys", "proxy:shop"), ["proxy"], 403),
        (("keys", "proxy:shop"), ["proxy:other"], 403),
        (("keys",), ["read"], 403),
        (("read", "proxy"), ["read"], 403),
    ],
)
async def test_no_key_grants_more_than_it_has(bed: Bed, scopes: tuple[str, ...], asked: list[str], status: int) -> None:
    """A new key's scopes are within those of the key that makes it."""
    got = await _post(bed, {"name": "x", "scopes": asked}, await bed.new_key(*scopes))
    assert got.status == status


async def test_key_with_a_budget_makes_no_keys(bed: Bed) -> None:
    """A budget cannot be escaped by making another key, nor by revoking others."""
    key = await bed.new_key("keys", "proxy", budgets=(Budget("bud_1", 100, 60),))
    assert (await _post(bed, BODY, key)).code == "scope_missing"
    mine = key_id_of(bed.key)
    assert (await bed.ask("DELETE", f"/v1/keys/{mine}", key)).code == "scope_missing"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"name":"a","name":"b","scopes":["read"]}',
        b'{"name":"a","scopes":["read"],"budgets":[{"limit":"1","window_s":NaN}]}',
        b"[" * 5_000,
        b"\xff\xfe",
        {"name": "a"},
        {"scopes": ["read"]},
        {"name": "", "scopes": ["read"]},
        {"name": "a\n", "scopes": ["read"]},
        {"name": "x" * 65, "scopes": ["read"]},
        {"name": 1, "scopes": ["read"]},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": "read"},
        {"name": "a", "scopes": ["root"]},
        {"name": "a", "scopes": ["proxy:nobody"]},
        {"name": "a", "scopes": [["read"]]},
        {"name": "a", "scopes": ["read"], "admin": True},
        {"name": "a", "scopes": ["read"], "budgets": {}},
        {"name": "a", "scopes": ["read"], "budgets": ["1"]},
        *(
            {"name": "a", "scopes": ["read"], "budgets": [{"limit": "1", "window_s": 60, **wrong}]}
            for wrong in (
                {"limit": 1},
                {"limit": "0"},
                {"limit": "-1"},
                {"limit": "1e3"},
                {"window_s": 59},
                {"window_s": True},
                {"window_s": 60.0},
                {"window_s": "60"},
                {"vendor": "nobody"},
                {"vendor": ["shop"]},
                {"route": "priced"},
                {"vendor": "shop", "route": "none"},
                {"vendor": "shop", "route": ["priced"]},
                {"extra": 1},
            )
        ),
        {"name": "a", "scopes": ["read"], "budgets": [{"limit": "1", "window_s": 60}] * 9},
    ],
)
async def test_malformed_bodies_make_no_key(bed: Bed, body: Any) -> None:
    """Whatever is not exactly a key's description is refused, and nothing is made."""
    got = await _post(bed, body)
    assert (got.status, got.code) == (400, "bad_request")
    assert len(bed.store.view.keys_by_id) == 1


async def test_big_body_is_refused(bed: Bed) -> None:
    """A body above the limit is not read."""
    assert (await _post(bed, b" " * 16_385)).code == "body_oversized"


async def test_repeat_under_an_idempotency_key_makes_one_key(bed: Bed) -> None:
    """Asked again, or twice at once, the same request gets the same key; another body conflicts."""
    twice = await asyncio.gather(*(_post(bed, BODY, Idempotency_Key="k") for _ in range(4)))
    again = await _post(bed, BODY, Idempotency_Key="k")
    assert {got.json["key"] for got in (*twice, again)} == {again.json["key"]}
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(bed.store.view.keys_by_id) == 2
    other = await _post(bed, {**BODY, "name": "other"}, Idempotency_Key="k")
    assert (other.status, other.code) == (409, "idempotency_conflict")


async def test_kept_answer_is_for_who_might_make_the_key(bed: Bed) -> None:
    """A narrower key does not get a wider one out of a repeated request."""
    await _post(bed, {"name": "wide", "scopes": ["proxy"]}, Idempotency_Key="k")
    narrow = await bed.new_key("keys", "proxy:shop")
    got = await _post(bed, {"name": "wide", "scopes": ["proxy"]}, narrow, Idempotency_Key="k")
    assert got.code == "scope_missing"


async def test_kept_answers_key_exists_even_after_a_crash(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: where only the sealed answer was committed, the repeat makes the key that the answer holds."""
    body = {**BODY, "budgets": [{"limit": "1", "window_s": 60}]}

    async def killed(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(keys, "_add", killed)
        assert (await _post(bed, body, Idempotency_Key="k")).code == "internal"
    assert len(bed.store.view.keys_by_id) == 1
    made = (await _post(bed, body, Idempotency_Key="k")).json
    assert (await bed.ask("GET", "/proxy/shop/free/x", made["key"])).status == 200
    assert bed.store.view.keys_by_id[made["id"]].budgets[0].limit_base == 1_000_000


def _files(directory: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in directory.iterdir() if path.is_file())


async def test_keys_answer_is_sealed_at_rest(bed: Bed, tmp_path: Path) -> None:
    """P10: neither the key nor its secret part is anywhere on disk."""
    made = (await _post(bed, BODY, Idempotency_Key="k")).json
    secret = made["key"][-43:].encode()
    written = b"".join(_files(tmp_path))
    assert made["id"].encode() in written
    assert secret not in written


async def test_revoked_key_stops_and_stays_listed(bed: Bed) -> None:
    """DELETE revokes at once; doing it twice is the same as once."""
    made = (await _post(bed, BODY)).json
    for _ in range(2):
        got = await bed.ask("DELETE", f"/v1/keys/{made['id']}")
        assert (got.status, got.json["id"]) == (200, made["id"])
        assert got.json["revoked_at"] is not None
    assert (await bed.ask("GET", "/proxy/shop/free/x", made["key"])).code == "key_revoked"


async def test_only_own_and_narrower_keys_are_revoked(bed: Bed) -> None:
    """Another account's key is not there, a wider one is not touched, one's own may go."""
    other = await bed.new_key("read", account_id="acc_2")
    assert (await bed.ask("DELETE", f"/v1/keys/{key_id_of(other)}")).code == "not_found"
    narrow = await bed.new_key("keys")
    assert (await bed.ask("DELETE", f"/v1/keys/{key_id_of(bed.key)}", narrow)).code == "scope_missing"
    assert (await bed.ask("DELETE", f"/v1/keys/{key_id_of(narrow)}", narrow)).status == 200


async def test_accounts_keys_are_bounded(tmp_path: Path) -> None:
    """An account cannot fill the memory with keys; a repeat of an earlier request still works."""
    async with opened(tmp_path, ApiSettings(keys_per_account=2)) as bed:
        first = await _post(bed, BODY, Idempotency_Key="k")
        assert (await _post(bed, BODY)).code == "bad_request"
        assert (await _post(bed, BODY, Idempotency_Key="k")).json == first.json


async def test_keys_page_in_order(bed: Bed) -> None:
    """Pages by id, without gap or repeat."""
    for n in range(3):
        await _post(bed, {**BODY, "name": f"n{n}"})
    first = (await bed.ask("GET", "/v1/keys?limit=2")).json
    second = (await bed.ask("GET", f"/v1/keys?limit=2&after={first['next']}")).json
    assert len({k["id"] for k in first["entries"] + second["entries"]}) == 4
    assert second["next"] is None
