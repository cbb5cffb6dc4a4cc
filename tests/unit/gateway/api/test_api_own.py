"""The prepaid API: balance, statement, payments, resources and vendors, as their owner sees them."""

from typing import Any

import pytest

from gateway.api import (
    events,
    fleets,
    plans,
    quotes,
    renewals,
    server_actions,
    server_guest,
    servers,
    snapshots,
    ssh_keys,
    webhooks,
)
from gateway.api.catalogue import VENDOR
from gateway.api.schemas import AMOUNT
from gateway.core.commands import Done, Put, RecordDead, SetFreeze
from gateway.core.money import parse_amount
from gateway.flow.settle import Sighting
from gateway.system import SystemClock
from tests.factories import make_server
from tests.unit.gateway.api.bed import Bed, evidence
from tests.unit.gateway.api.shape import check, followed

NEUTRAL = frozenset(
    endpoint.path
    for module in (
        events,
        fleets,
        plans,
        quotes,
        renewals,
        server_actions,
        server_guest,
        servers,
        snapshots,
        ssh_keys,
        webhooks,
    )
    for endpoint in module.ENDPOINTS
)


async def _buy(bed: Bed, body: bytes = b"x", key: str | None = None) -> str:
    got = await bed.ask("POST", "/proxy/shop/priced", key, data=body)
    assert got.status == 200
    return str(got.headers["X-Payment-Id"])


async def _void(bed: Bed, payment_id: str) -> None:
    payment = await bed.store.payment(payment_id)
    assert payment is not None
    unused = evidence(payment)
    result = await bed.store.post(
        RecordDead(
            payment_id,
            type(unused)(
                kind="unused",
                chain_id=8453,
                block_number=130,
                block_hash=b"\x0c" * 32,
                block_time_s=1_800_000_100,
                witnesses=("one", "two"),
                payment_id=payment_id,
            ),
            SystemClock().now_ms(),
        )
    )
    assert isinstance(result, Done)


def _adds_up(balance: Any, entries: list[Any]) -> None:
    """The statement's rows give the balance, to the last unit."""
    holds = {e["id"]: parse_amount(e["amount"]) for e in entries if e["kind"] == "hold"}
    closed = {e["hold_id"] for e in entries if e["kind"] in {"capture", "void", "refund"}}
    held = sum(amount for hold_id, amount in holds.items() if hold_id not in closed)
    spent = sum(parse_amount(e["amount"]) for e in entries if e["kind"] == "capture")
    credited = sum(parse_amount(e["amount"]) for e in entries if e["kind"] == "credit")
    figures = [parse_amount(balance[name], allow_zero=True) for name in ("available", "held", "spent", "credited")]
    assert figures == [credited - spent - held, held, spent, credited]


async def test_statement_adds_up_to_the_balance(bed: Bed) -> None:
    """P1, as its owner can check it: credits less captures less open holds is what is available."""
    settled, dead, _open = [await _buy(bed, b"%d" % n) for n in range(3)]
    await bed.settle(settled)
    await _void(bed, dead)
    balance = (await bed.ask("GET", "/v1/balance")).json
    entries = (await bed.ask("GET", "/v1/statement")).json["entries"]
    assert [e["kind"] for e in entries] == ["credit", "hold", "hold", "hold", "capture", "void"]
    assert (balance["available"], balance["held"], balance["spent"]) == ("9.500000", "0.250000", "0.250000")
    _adds_up(balance, entries)


async def test_statement_pages_by_key_without_gap_or_repeat(bed: Bed) -> None:
    """Page after page gives the same rows as one page."""
    for n in range(4):
        await _buy(bed, b"%d" % n)
    whole = (await bed.ask("GET", "/v1/statement?limit=200")).json
    assert whole["next"] is None
    paged, after = [], ""
    while True:
        page = (await bed.ask("GET", f"/v1/statement?limit=2{after}")).json
        paged += page["entries"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert paged == whole["entries"]
    assert len(paged) == 5


async def test_payments_page_newest_first(bed: Bed) -> None:
    """The newest payment comes first, and a page says where the next one starts."""
    made = [await _buy(bed, b"%d" % n) for n in range(3)]
    first = (await bed.ask("GET", "/v1/payments?limit=2")).json
    second = (await bed.ask("GET", f"/v1/payments?limit=2&after={first['next']}")).json
    assert [p["id"] for p in first["entries"] + second["entries"]] == sorted(made, reverse=True)
    assert second["next"] is None


async def test_payment_tells_the_whole_story(bed: Bed) -> None:
    """P11: axes, terms, evidence with block and witnesses, attempts, postings, journal, and what was bought."""
    payment_id = await _buy(bed)
    bed.sightings[payment_id] = Sighting(b"\x0a" * 32, 111)
    held = (await bed.ask("GET", f"/v1/payments/{payment_id}")).json
    assert (held["delivery"], held["transfer"], held["charge"]) == ("delivered", "presented", "held")
    assert held["evidence"] is None
    assert held["sighting"] == {"tx_hash": "0x" + "0a" * 32, "block_number": 111}
    assert held["chain"]["head"] == 110
    assert [a["seq"] for a in held["attempts"]] == [1]
    assert held["rental"]["ref"] == "srv-1"
    await bed.settle(payment_id)
    done = (await bed.ask("GET", f"/v1/payments/{payment_id}")).json
    assert (done["transfer"], done["charge"], done["captured"]) == ("settled", "captured", "0.250000")
    assert done["tx_hash"] == done["evidence"]["tx_hash"]
    assert done["evidence"]["witnesses"] == ["one", "two"]
    assert done["sighting"] is None
    assert [e["kind"] for e in done["entries"]] == ["hold", "capture"]
    assert [j["kind"] for j in done["journal"]] == [
        "payment.held",
        "payment.outcome",
        "payment.settled",
        "payment.captured",
    ]
    stored = await bed.store.payment(payment_id)
    assert stored is not None
    assert done["authorization"]["nonce"] == "0x" + stored.terms.nonce.hex()


async def test_payment_names_the_server_that_it_was_made_for(bed: Bed) -> None:
    """P11: from a payment to the server of the neutral API, once there is one, and its rows in the payment's journal."""
    payment_id = await _buy(bed)
    assert (await bed.ask("GET", f"/v1/payments/{payment_id}")).json["server"] is None
    stored = await bed.store.payment(payment_id)
    assert stored is not None
    own = {"account_id": stored.account_id, "key_id": stored.key_id, "vendor": stored.vendor}
    await bed.store.post(Put(make_server(1, **own, payment_id=payment_id), "ordered", 1))
    told = (await bed.ask("GET", f"/v1/payments/{payment_id}")).json
    assert told["server"] == "srv_0001"
    assert told["journal"][-1]["kind"] == "server.ordered"


async def test_no_answer_holds_what_a_wallet_signed(bed: Bed) -> None:
    """P10: the credential that the vendor may collect with is in no answer of ours."""
    payment_id = await _buy(bed)
    shown = next(r.headers["X-PAYMENT"] for r in bed.shop.seen if "X-PAYMENT" in r.headers)
    got = await bed.ask("GET", f"/v1/payments/{payment_id}")
    assert shown.encode() not in got.body
    assert b"signature" not in got.body


async def test_what_operators_write_is_not_shown(bed: Bed) -> None:
    """An agent reads its own payment's journal, not the operator's notes on it."""
    payment_id = await _buy(bed)
    await bed.store.post(SetFreeze("vendor:shop", True, "private reason", "operator", 1))
    got = await bed.ask("GET", f"/v1/payments/{payment_id}")
    assert b"private reason" not in got.body
    assert all(j["kind"].startswith(("payment.", "resource.")) for j in got.json["journal"])


async def test_other_tenants_see_nothing(bed: Bed) -> None:
    """P9: another account's payment is 404 like one that never was, and its lists are empty."""
    payment_id = await _buy(bed)
    other = await bed.new_key("proxy", "read", "keys", account_id="acc_2")
    theirs = await bed.ask("GET", f"/v1/payments/{payment_id}", other)
    absent = await bed.ask("GET", "/v1/payments/pay_none", other)
    assert (theirs.status, theirs.code, theirs.json["detail"]) == (absent.status, absent.code, absent.json["detail"])
    assert theirs.status == 404
    for path in ("/v1/payments", "/v1/resources"):
        assert (await bed.ask("GET", path, other)).json == {"entries": [], "next": None}
    assert [e["kind"] for e in (await bed.ask("GET", "/v1/statement", other)).json["entries"]] == ["credit"]
    assert (await bed.ask("GET", "/v1/balance", other)).json["available"] == "10.000000"
    assert len((await bed.ask("GET", "/v1/keys", other)).json["entries"]) == 1


async def test_resources_page_by_vendor_and_ref(bed: Bed) -> None:
    """What the account rents, page by page, without the vendor's secret."""
    for n in range(3):
        await _buy(bed, b"%d" % n)
    first = (await bed.ask("GET", "/v1/resources?limit=2")).json
    second = (await bed.ask("GET", f"/v1/resources?limit=2&after={first['next']}")).json
    assert [r["ref"] for r in first["entries"] + second["entries"]] == ["srv-1", "srv-2", "srv-3"]
    assert set(first["entries"][0]) == {
        "vendor",
        "ref",
        "kind",
        "state",
        "expires_at",
        "as_of",
        "payment_id",
        "open_renewal",
    }


async def test_vendors_are_told_with_their_routes(bed: Bed) -> None:
    """An agent reads what each route may cost before it calls."""
    vendors = (await bed.ask("GET", "/v1/vendors")).json["vendors"]
    assert [v["name"] for v in vendors] == ["other", "shop"]
    check(vendors[1], VENDOR)
    priced = next(route for route in vendors[1]["routes"] if route["name"] == "priced")
    assert (priced["path"], priced["pricing"], priced["ceiling"]) == ("/priced", "priced", "1.000000")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/balance?x=1",
        "/v1/statement?limit=0",
        "/v1/statement?limit=201",
        "/v1/statement?limit=1e1",
        "/v1/statement?limit=-1",
        "/v1/statement?limit=",
        "/v1/statement?after=x",
        "/v1/statement?after=" + "9" * 30,
        "/v1/statement?after=%D9%A1",
        "/v1/statement?limit=1&limit=2",
        "/v1/statement?limit",
        "/v1/statement?nothing=1",
        "/v1/payments?after=a%20b",
        "/v1/payments?after=%FF",
        "/v1/resources?after=noslash",
        "/v1/payments?offset=5",
    ],
)
async def test_malformed_queries_are_refused(bed: Bed, path: str) -> None:
    """A query that is not understood is refused, not ignored."""
    got = await bed.ask("GET", path)
    assert (got.status, got.code) == (400, "bad_request")


async def test_unknown_routes_and_methods(bed: Bed) -> None:
    """Our own 404 and 405 are problems too."""
    for path in ("/", "/v1", "/v1/balance/", "/v2/balance", "/v1/payments//", "/proxyshop", "/V1/balance"):
        assert (await bed.ask("GET", path)).code == "not_found"
    got = await bed.ask("PATCH", "/v1/keys")
    assert (got.status, got.code, got.headers["Allow"]) == (405, "method_not_allowed", "GET, HEAD, POST")
    assert (await bed.ask("HEAD", "/v1/balance")).status == 200


async def test_answers_are_what_the_openapi_page_says(bed: Bed) -> None:
    """Real answers of every GET route fit their own schemas, and problems fit theirs.

    The vendor-neutral routes have no use cases in this bed: theirs are held against the page by the fuzzer (tests/e2e).
    """
    payment_id = await _buy(bed)
    await bed.settle(payment_id)
    document = (await bed.bare("GET", "/openapi.json")).json
    for path, operations in document["paths"].items():
        if path.startswith("/proxy/") or path in NEUTRAL or "get" not in operations:
            continue
        got = await bed.ask("GET", path.replace("{id}", payment_id))
        assert got.status == 200, path
        content = operations["get"]["responses"]["200"]["content"]
        assert list(content) == [got.headers["Content-Type"]], path
        schema = followed(document, content[got.headers["Content-Type"]]["schema"])
        check(got.json if "json" in got.headers["Content-Type"] else got.body.decode(), schema)
    problem = await bed.ask("GET", "/v1/payments/none")
    check(problem.json, followed(document, document["components"]["schemas"]["Problem"]))


async def test_openapi_lists_every_vendors_routes(bed: Bed) -> None:
    """The page holds the proxied routes with their methods, and nothing that is not served."""
    paths = (await bed.bare("GET", "/openapi.json")).json["paths"]
    assert set(paths["/proxy/shop/free/{rest}"]) == {"get", "head", "post"}
    assert paths["/proxy/shop/priced"]["post"]["x-ceiling"] == "1.000000"
    assert paths["/proxy/shop/free/{rest}"]["get"]["x-ceiling"] is None
    assert {"/v1/servers", "/v1/quotes", "/v1/fleets", "/v1/webhooks"} <= set(paths)
    assert "/v1/topups" not in paths


def test_amount_schema_takes_what_is_written() -> None:
    """The schema of amounts is that of format_amount."""
    check("9.990000", AMOUNT)
    with pytest.raises(AssertionError):
        check("9.99", AMOUNT)
