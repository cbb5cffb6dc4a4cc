"""The proxy: what reaches the vendor, what comes back, and what is refused on the way."""

import asyncio
import gc
import re
from pathlib import Path

import aiohttp
import pytest

from gateway.api.deps import ApiSettings
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.flow.call import Call
from tests.unit.gateway.api.bed import Bed, opened

REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")


@pytest.mark.parametrize(
    "target",
    [
        "/free/a",
        "/free/a%20b?x=%2F&y=%7e",
        "/free/a?",
        "/free/?a=b?c=/d",
        "/free/a;b=c/~!$'()*,",
        "/free/%E2%82%AC?q=%zz",
    ],
)
async def test_path_and_query_arrive_byte_for_byte(bed: Bed, target: str) -> None:
    """Nothing decodes, normalises or encodes what the agent wrote."""
    assert (await bed.get_raw(f"/proxy/shop{target}")).startswith(b"HTTP/1.1 200")
    assert bed.shop.seen[-1].raw_path == target


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/proxy/shop/nothing", "route_not_declared"),
        ("/proxy/shop", "route_not_declared"),
        ("/proxy/shop?x=1", "route_not_declared"),
        ("/proxy/shop/free/%2e%2e/secret", "route_not_declared"),
        ("/proxy/shop/free/a%2Fb", "route_not_declared"),
        ("/proxy/shop/free/../secret", "route_not_declared"),
        ("/proxy/nobody/free/x", "vendor_unknown"),
        ("/proxy/", "vendor_unknown"),
        ("/proxy/sh%6fp/free/x", "vendor_unknown"),
        ("/proxy/shop/free/" + "x" * 17_000, "bad_request"),
    ],
)
async def test_what_is_not_declared_never_leaves(bed: Bed, path: str, code: str) -> None:
    """A path that is not one of the vendor's routes, by any spelling, is refused here."""
    answer = await bed.get_raw(path)
    assert f'"code":"{code}"'.encode() in answer
    assert bed.shop.seen == []


async def test_raw_bytes_in_a_target_are_refused(bed: Bed) -> None:
    """A target with bytes outside ASCII has no agreed meaning."""
    answer = await bed.get_raw("/proxy/shop/free/\xe9")
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"bad_request" in answer
    assert bed.shop.seen == []


async def test_wrong_method_names_the_right_ones(bed: Bed) -> None:
    """A declared path with another method is 405 with Allow."""
    got = await bed.ask("DELETE", "/proxy/shop/free/x")
    assert (got.status, got.code) == (405, "method_not_allowed")
    assert got.headers["Allow"] == "GET, HEAD, POST"


async def test_headers_pass_by_allow_list_both_ways(bed: Bed) -> None:
    """The vendor sees neither key nor payment headers, the agent sees neither cookies nor odd ones."""
    headers = {
        "Accept": "text/x",
        "Content-Type": "text/odd",
        "X-Payment": "forged",
        "Payment-Signature": "forged",
        "Cookie": "c=1",
        "X-Max-Charge": "1",
        "Idempotency-Key": "k",
        "X-Other": "1",
    }
    got = await bed.ask("POST", "/proxy/shop/free/x", data=b"hello", headers=headers)
    sent = bed.shop.seen[-1].headers
    assert sent["Accept"] == "text/x"
    assert sent["Content-Type"] == "text/odd"
    forbidden = {
        "authorization",
        "x-payment",
        "payment-signature",
        "cookie",
        "x-max-charge",
        "idempotency-key",
        "x-other",
    }
    assert forbidden.isdisjoint(name.lower() for name in sent)
    assert got.body == b"hello"
    assert got.headers["ETag"] == '"1"'
    assert {"set-cookie", "x-echo"}.isdisjoint(name.lower() for name in got.headers)


async def test_encoded_bodies_pass_as_they_are(bed: Bed) -> None:
    """A compressed request body is not unpacked on the way: its header and its bytes still agree."""
    packed = b"\x1f\x8b not really gzip"
    got = await bed.ask("POST", "/proxy/shop/free/x", data=packed, headers={"Content-Encoding": "gzip"})
    assert got.status == 200
    assert bed.shop.seen[-1].headers["Content-Encoding"] == "gzip"
    assert bed.shop.seen[-1].headers["Content-Length"] == str(len(packed))


async def test_every_answer_carries_request_id_and_balance(bed: Bed) -> None:
    """A sane X-Request-Id of the agent's is kept, another is replaced; the balance is the account's own."""
    got = await bed.ask("GET", "/proxy/shop/free/x")
    assert REQUEST_ID.fullmatch(got.headers["X-Request-Id"])
    assert got.headers["X-Balance-Available"] == "10.000000"
    assert "X-Charge" not in got.headers
    assert "X-Payment-Id" not in got.headers
    kept = await bed.ask("GET", "/proxy/shop/nothing", headers={"X-Request-Id": "my-request-1"})
    assert kept.headers["X-Request-Id"] == kept.json["request_id"] == "my-request-1"
    assert kept.headers["X-Balance-Available"] == "10.000000"
    for odd in ("short", "x" * 65, "has space", '"><script>'):
        replaced = await bed.ask("GET", "/proxy/shop/free/x", headers={"X-Request-Id": odd})
        assert REQUEST_ID.fullmatch(replaced.headers["X-Request-Id"])


async def test_paid_call_tells_payment_charge_and_balance(bed: Bed) -> None:
    """A purchase answers with its payment, its charge and what is left, and may not be cached by others."""
    got = await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    assert got.json["server"] == "srv-1"
    assert got.headers["X-Charge"] == "0.250000"
    assert got.headers["X-Balance-Available"] == "9.750000"
    assert got.headers["Cache-Control"] == "private"
    payment = await bed.store.payment(got.headers["X-Payment-Id"])
    assert payment is not None
    assert payment.request_id == got.headers["X-Request-Id"]


async def test_secret_routes_are_never_stored(bed: Bed) -> None:
    """Whatever the vendor says, an answer that may hold secrets is no-store."""
    assert (await bed.ask("GET", "/proxy/shop/secret")).headers.getall("Cache-Control") == ["no-store"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "private"),
        ("public", "private"),
        ("Public, max-age=60, s-maxage=600", "private, max-age=60"),
        ("no-store", "private, no-store"),
        ('private="Set-Cookie",proxy-revalidate ,no-cache', "private, no-cache"),
    ],
)
async def test_no_cache_that_agents_share_keeps_an_answer(bed: Bed, said: str | None, told: str) -> None:
    """P9: what a vendor lets everybody keep says here what is left on one account, so only its own cache may keep it."""
    bed.shop.more = {} if said is None else {"Cache-Control": said}
    got = await bed.ask("GET", "/proxy/shop/free/x")
    assert got.headers["X-Balance-Available"] == "10.000000"
    assert got.headers.getall("Cache-Control") == [told]


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("caf\u00e9.txt".encode(), "caf\u00e9.txt".encode()),
        ("\u65e5\u672c".encode(), "\u65e5\u672c".encode()),
        (b"caf\xe9.txt", "caf\u00e9.txt".encode()),
    ],
)
async def test_vendors_header_bytes_are_not_encoded_twice(bed: Bed, sent: bytes, arrives: bytes) -> None:
    """A file's name in UTF-8 comes through as it was sent; what is no UTF-8 is Latin-1, as headers once were."""
    bed.shop.raw_disposition = b"attachment; filename=" + sent
    answer = await bed.get_raw("/proxy/shop/free/raw")
    assert b"\r\nContent-Disposition: attachment; filename=" + arrives + b"\r\n" in answer


@pytest.mark.parametrize("prefer", ["wait=5, Quote; a=b", 'quote=""', "quote=true", "wait=1,quote = 1"])
async def test_quote_spends_nothing(bed: Bed, prefer: str) -> None:
    """`Prefer: quote`, whatever value somebody gives it, answers with the price, and no money moves."""
    got = await bed.ask("POST", "/proxy/shop/priced", data=b"x", headers={"Prefer": prefer})
    assert got.json["price"] == "0.250000"
    assert got.headers["Preference-Applied"] == "quote"
    assert got.headers["X-Balance-Available"] == "10.000000"
    assert bed.shop.sold == 0
    assert bed.store.view.open_payments == {}


@pytest.mark.parametrize("text", ["0.25", "0.250000", "1", "999"])
async def test_charge_within_the_cap_is_paid(bed: Bed, text: str) -> None:
    """X-Max-Charge lets a call pass that costs no more."""
    assert (await bed.ask("POST", "/proxy/shop/priced", headers={"X-Max-Charge": text})).status == 200


@pytest.mark.parametrize("text", ["0", "0.249999", "0.1"])
async def test_charge_above_the_cap_is_not_paid(bed: Bed, text: str) -> None:
    """A dearer call is refused before any hold."""
    got = await bed.ask("POST", "/proxy/shop/priced", headers={"X-Max-Charge": text})
    assert (got.status, got.code) == (409, "price_above_max_charge")
    assert bed.shop.sold == 0
    assert bed.store.view.open_payments == {}


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1e3", "1.", ".5", "01", "1.0000001", "1,0", "NaN", "0x1", "1" * 78, "١", " ", "1 2", "1_0"]
)
async def test_cap_that_is_no_amount_is_refused(bed: Bed, text: str) -> None:
    """A cap that might be misread is no cap: nothing leaves."""
    got = await bed.ask("POST", "/proxy/shop/priced", headers={"X-Max-Charge": text})
    assert (got.status, got.code, got.json["field"]) == (400, "bad_request", "X-Max-Charge")
    assert bed.shop.seen == []


@pytest.mark.parametrize("text", ["", "a b", "x" * 256, "é", "a\tb"])
async def test_malformed_idempotency_keys_are_refused(bed: Bed, text: str) -> None:
    """An Idempotency-Key is 1 to 255 visible ASCII characters."""
    got = await bed.ask("POST", "/proxy/shop/priced", headers={"Idempotency-Key": text})
    assert (got.code, got.json["field"]) == ("bad_request", "Idempotency-Key")
    assert bed.shop.seen == []


async def test_same_idempotency_key_answers_once_more_and_charges_once(bed: Bed) -> None:
    """A repeat under the same key gets the same answer, marked, from the same payment; another body conflicts."""
    headers = {"Idempotency-Key": "k-1"}
    first = await bed.ask("POST", "/proxy/shop/priced", data=b"x", headers=headers)
    again = await bed.ask("POST", "/proxy/shop/priced", data=b"x", headers=headers)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.body, again.headers["X-Payment-Id"]) == (first.body, first.headers["X-Payment-Id"])
    assert bed.shop.sold == 1
    other = await bed.ask("POST", "/proxy/shop/priced", data=b"y", headers=headers)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    tenant = await bed.new_key("proxy", account_id="acc_2")
    theirs = await bed.ask("POST", "/proxy/shop/priced", tenant, data=b"y", headers=headers)
    assert theirs.status == 200  # keys are an account's own


async def test_insufficient_balance_is_402_and_buys_nothing(bed: Bed) -> None:
    """P2: when the money is gone the next call is refused."""
    for n in range(40):
        assert (await bed.ask("POST", "/proxy/shop/priced", data=b"%d" % n)).status == 200
    got = await bed.ask("POST", "/proxy/shop/priced", data=b"one more")
    assert (got.status, got.code) == (402, "insufficient_balance")
    assert got.headers["X-Balance-Available"] == "0.000000"
    assert bed.shop.sold == 40


async def test_another_tenants_server_does_not_exist(bed: Bed) -> None:
    """P9: what another account bought is 404 on its own routes, with no word to the vendor."""
    await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    assert (await bed.ask("GET", "/proxy/shop/servers/srv-1")).status == 200
    seen = len(bed.shop.seen)
    theirs = await bed.ask("GET", "/proxy/shop/servers/srv-1", await bed.new_key("proxy", account_id="acc_2"))
    missing = await bed.ask("GET", "/proxy/shop/servers/srv-9", await bed.new_key("proxy", account_id="acc_2"))
    assert (theirs.status, theirs.code) == (missing.status, missing.code) == (404, "not_found")
    assert len(bed.shop.seen) == seen


async def test_unreachable_vendor_is_a_problem(tmp_path: Path) -> None:
    """A vendor that does not answer is 502, and its address is not told."""
    async with opened(tmp_path) as bed:
        vendor = bed.server.api.deps.vendors["shop"]
        vendor.origin = "http://127.0.0.1:9"
        got = await bed.ask("GET", "/proxy/shop/free/x")
        assert (got.status, got.code) == (502, "vendor_unreachable")
        assert b"127.0.0.1" not in got.body


GARBAGE = {
    "no status line": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a chunk of no length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nok\r\n0\r\n\r\n",
    "a header that is too long": b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 200_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_an_answer_that_is_no_http_is_told_as_that(bed: Bed, garbage: bytes) -> None:
    """It came in time, so it is no time-out. P5: what was paid for is unknown all the same, and its hold stays."""
    bed.shop.garbage = garbage
    got = await bed.ask("GET", "/proxy/shop/free/x")
    assert (got.status, got.code) == (502, "vendor_answer_malformed")
    assert got.headers["X-Balance-Available"] == "10.000000"
    bought = await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    assert (bought.status, bought.code) == (504, "outcome_unknown")
    (payment,) = bed.store.view.open_payments.values()
    axes = (payment.axes.delivery, payment.axes.transfer, payment.axes.charge)
    assert axes == (Delivery.UNKNOWN, Transfer.PRESENTED, Charge.HELD)


# bodies


async def test_small_bodies_are_kept_and_big_ones_streamed(tmp_path: Path) -> None:
    """A free route takes more than the buffer; the bytes arrive whole, with and without a length."""
    async with opened(tmp_path, ApiSettings(buffer_bytes=1_000, stream_bytes=500_000)) as bed:
        whole = bytes(range(256)) * 1_500

        async def chunks() -> object:
            for start in range(0, len(whole), 10_000):
                yield whole[start : start + 10_000]

        for data in (whole[:1_000], whole, chunks()):
            got = await bed.ask("POST", "/proxy/shop/free/x", data=data)
            assert got.status == 200
        assert bed.shop.bodies == [whole[:1_000], whole, whole]


@pytest.mark.parametrize(
    ("path", "code"),
    [("/priced", "body_not_replayable"), ("/secret", "body_oversized"), ("/maybe/x", "body_not_replayable")],
)
async def test_big_bodies_are_never_paid_for(tmp_path: Path, path: str, code: str) -> None:
    """Where money may be asked for, a body that cannot be sent twice ends unpaid."""
    async with opened(tmp_path, ApiSettings(buffer_bytes=1_000, stream_bytes=10_000)) as bed:
        got = await bed.ask("POST", f"/proxy/shop{path}", data=b"x" * 1_001)
        assert (got.status, got.code) == (413, code)
        assert bed.store.view.open_payments == {}
        assert bed.shop.sold == 0


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_refused_call_leaves_no_body_behind(bed: Bed, method: str) -> None:
    """Its body goes with its answer, and not when a collection comes by: those are seldom, and a body may be a mebibyte."""

    def calls() -> int:
        return sum(isinstance(each, Call) for each in gc.get_objects())

    async def refused() -> None:
        got = await bed.ask(method, "/proxy/shop/maybe/x", data=b"x" * 100_000, headers={"X-Max-Charge": "0.000001"})
        assert got.code == "price_above_max_charge"

    await refused()
    gc.collect()
    before = calls()
    gc.disable()
    try:
        await refused()
        async with asyncio.timeout(20):  # the answer may be here before the server is done with its side
            while calls() > before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_big_body_under_an_idempotency_key_is_refused(tmp_path: Path) -> None:
    """A claim is on bytes; those that were not kept cannot be claimed."""
    async with opened(tmp_path, ApiSettings(buffer_bytes=1_000)) as bed:
        got = await bed.ask("POST", "/proxy/shop/maybe/x", data=b"x" * 1_001, headers={"Idempotency-Key": "k"})
        assert (got.code, got.json["field"]) == ("body_not_replayable", "Idempotency-Key")
        assert bed.shop.seen == []


async def test_no_body_passes_the_absolute_limit(tmp_path: Path) -> None:
    """Neither a stated nor an unstated length gets past it."""
    async with opened(tmp_path, ApiSettings(buffer_bytes=1_000, stream_bytes=50_000)) as bed:

        async def chunks() -> object:
            for _ in range(30):
                yield b"x" * 2_000
                await asyncio.sleep(0)

        stated = await bed.ask("POST", "/proxy/shop/free/x", data=b"x" * 50_001)
        assert (stated.status, stated.code, stated.json["limit_bytes"]) == (413, "body_oversized", 50_000)
        assert bed.shop.seen == []
        unstated = await bed.ask("POST", "/proxy/shop/free/x", data=chunks())
        assert (unstated.status, unstated.code) == (413, "body_oversized")
        assert bed.shop.bodies == []


async def test_silent_body_is_given_up(tmp_path: Path) -> None:
    """A body that stops coming holds no request for ever."""
    async with opened(tmp_path, ApiSettings(body_silence_s=0.05)) as bed:
        head = f"POST /proxy/shop/free/x HTTP/1.1\r\nHost: x\r\nX-Api-Key: {bed.key}\r\n"
        answer = await bed.wire(f"{head}Connection: close\r\nContent-Length: 9\r\n\r\nhalf".encode())
        assert answer.startswith(b"HTTP/1.1 400")
        assert bed.shop.seen == []


async def test_expect_continue_is_answered_before_the_body(bed: Bed) -> None:
    """A client that waits for permission gets it, and then its answer."""
    got = await bed.ask("POST", "/proxy/shop/free/x", data=b"hello", expect100=True)
    assert got.body == b"hello"


# answers


async def test_long_answers_are_streamed_whole(bed: Bed) -> None:
    """An answer larger than the buffer arrives to its last byte."""
    got = await bed.ask("GET", "/proxy/shop/maybe/big")
    assert (got.status, len(got.body)) == (200, 48 * 65_536)


async def test_answer_that_breaks_off_is_broken_off(bed: Bed) -> None:
    """Half an answer must not look like a whole one."""
    with pytest.raises(aiohttp.ClientError):
        await bed.ask("GET", "/proxy/shop/maybe/bigcut")


async def test_head_that_was_paid_for_is_answered_once(bed: Bed) -> None:
    """A HEAD whose answer was taken is told: the next one asks, and buys, anew instead of getting the old answer for ever."""
    first, again = [await bed.ask("HEAD", "/proxy/shop/maybe/x") for _ in range(2)]
    assert (first.status, first.body, again.status) == (200, b"", 200)
    assert "Idempotent-Replayed" not in again.headers
    assert again.headers["X-Payment-Id"] != first.headers["X-Payment-Id"]
    assert bed.shop.sold == 2


async def test_head_has_no_length_of_our_own(bed: Bed) -> None:
    """HEAD passes headers on and states no body that is not the vendor's."""
    got = await bed.ask("HEAD", "/proxy/shop/free/x")
    assert (got.status, got.body) == (200, b"")
    assert "Content-Length" not in got.headers
