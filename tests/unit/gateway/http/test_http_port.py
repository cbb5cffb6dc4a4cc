"""What the records of a request and of an answer show of themselves."""

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http.port import UpstreamRequest, UpstreamResponse

SECRET = "s3cret"


def test_no_repr_shows_a_credential() -> None:
    """P10: a token stands in a vendor's query, header or body, and a root password in its answer."""
    headers = (("Authorization", f"Bearer {SECRET}"),)
    request = UpstreamRequest("GET", f"/instance?token={SECRET}", headers, SECRET.encode())
    answered = UpstreamResponse(200, CIMultiDictProxy(CIMultiDict(headers)), SECRET.encode())
    assert SECRET not in repr(request) + repr(answered)
    assert "GET" in repr(request)
    assert "200" in repr(answered)
