"""Requests with two readings (request smuggling): refused whole, with a problem and an id, and the connection is closed."""

import json

import pytest

from tests.unit.gateway.api.bed import Bed

TWO_LENGTHS = ("Content-Length: 4", "Content-Length: 6")
CHUNKED = "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "a length and chunks": (("Content-Length: 4", CHUNKED), "0\r\n\r\n"),
    "two lengths": (TWO_LENGTHS, "abcdef"),
    "a length with a sign": (("Content-Length: +4",), "abcd"),
    "a list of lengths": (("Content-Length: 4, 4",), "abcd"),
    "a coding that nobody knows": (("Transfer-Encoding: xchunked",), "0\r\n\r\n"),
    "a coding beside chunks": ((CHUNKED, "Transfer-Encoding: identity"), "0\r\n\r\n"),
    "a blank before a colon": (("Transfer-Encoding : chunked",), "0\r\n\r\n"),
    "a folded line": (("X-A: b", f" {CHUNKED}"), ""),
    "a carriage return in a value": ((f"X-A: b\r{CHUNKED}",), ""),
    "a NUL in a value": (("X-A: b\0",), ""),
    "a second host": (("Host: elsewhere",), ""),
    "more headers than anybody reads": (tuple(f"X-{n}: v" for n in range(1000)), ""),
    "a head without end": ((f"X-A: {'b' * 200_000}",), ""),
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
async def test_request_with_two_readings_is_refused_whole(
    bed: Bed, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It and what follows it reach nobody; the answer has an id and repeats, like the log, nothing of what came."""
    lines, body = AMBIGUOUS[shape]
    head = ("POST /proxy/shop/free/x HTTP/1.1", "Host: x", f"X-Api-Key: {bed.key}", *lines)
    second = f"GET /proxy/shop/free/second HTTP/1.1\r\nHost: x\r\nX-Api-Key: {bed.key}\r\n\r\n"
    answer = await bed.wire(("\r\n".join(head) + "\r\n\r\n" + body + second).encode("latin-1"))
    top, _, document = answer.partition(b"\r\n\r\n")
    told = json.loads(document)
    assert (told["code"], told["status"]) == ("bad_request", 400)
    assert f"\r\nX-Request-Id: {told['request_id']}\r\n".encode() in top + b"\r\n"
    assert bed.shop.seen == []
    logged = capsys.readouterr().out
    assert told["request_id"] in logged
    assert bed.key.encode() not in answer
    assert bed.key not in logged
