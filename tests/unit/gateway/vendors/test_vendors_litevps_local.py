"""What the gateway says in LiteVPS's stead: its shapes, the agent's own figures, its errors; and how it logs in itself."""

import base64
import json

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, LocalAnswer, Own
from gateway.core.login import Credentials
from gateway.core.routes import Pricing
from gateway.core.strict_json import dump_json
from gateway.core.tariff import Rule
from gateway.http.port import UpstreamResponse
from gateway.vendors.litevps import LiteVps
from gateway.vendors.litevps.local import usd_floor
from wallets.secret import Secret

TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=60)
VENDOR = LiteVps("litevps", "https://l.example", TERMS)
ENTRIES = tuple(
    {"id": f"pay-{n}", "amount_base": 70 + n, "at_ms": 1_700_000_000_000 + n, "ref": f"v-{n}"} for n in range(25)
)
OWN = Own(
    account_id="acc-1",
    name="one",
    available_base=10_500_099,
    hourly_base=4_200,
    email="agent@example.com",
    now_ms=1_700_000_000_000,
    entries=ENTRIES,
    query={},
    token="gwt_short",
)


def said(method: str, path: str, own: Own = OWN) -> tuple[int, bytes]:
    """What a local route answers."""
    match = VENDOR.match(method, path)
    assert match is not None
    answer = VENDOR.local(match, b"", own)
    return answer.status, dump_json(answer.document)


def replaced(**changes: object) -> Own:
    """The same agent with other figures."""
    return Own(**{**{name: getattr(OWN, name) for name in Own.__slots__}, **changes})


def test_the_agents_own_figures_in_the_documents_shapes() -> None:
    """Profile and balance as JSON numbers of four decimals, rounded down."""
    assert said("GET", "/api/me") == (200, b'{"id":"acc-1","email":"agent@example.com","balance":10.5000}')
    assert said("GET", "/api/billing/balance") == (200, b'{"balance":10.5000}')


def test_logins_hand_out_our_token() -> None:
    """A registration too; without one the vendor's own refusal."""
    assert said("POST", "/api/auth/login") == (200, b'{"token":"gwt_short"}')
    assert said("POST", "/api/auth/register") == (201, b'{"token":"gwt_short"}')
    assert said("POST", "/api/auth/login", replaced(token=None)) == (401, b'{"error":"invalid email or password"}')


def test_there_are_no_tokens_and_no_addresses() -> None:
    """The routes that would make them are closed, so their lists are empty."""
    assert said("GET", "/api/tokens") == said("GET", "/api/billing/notify-emails") == (200, b"[]")


def test_history_pages_the_agents_own_statement() -> None:
    """Twenty from the newest by default; `limit` and `offset` as the document has them."""
    status, body = said("GET", "/api/billing/history")
    page = json.loads(body)
    assert (status, page["total"], page["limit"], page["offset"]) == (200, 25, 20, 0)
    assert len(page["transactions"]) == 20
    assert b'"amount":-0.000070' in body
    assert page["transactions"][0] == {
        "id": "pay-0",
        "type": "usage",
        "amount": -0.00007,
        "balance_after": None,
        "vps_id": "v-0",
        "created_at": "2023-11-14T22:13:20.000Z",
    }
    last = json.loads(said("GET", "/api/billing/history", replaced(query={"limit": "10", "offset": "20"}))[1])
    assert [entry["id"] for entry in last["transactions"]] == [f"pay-{n}" for n in range(20, 25)]
    assert json.loads(said("GET", "/api/billing/history", replaced(query={"limit": "999999"}))[1])["limit"] == 100


@pytest.mark.parametrize(
    "query", [{"limit": "-1"}, {"offset": "x"}, {"limit": ""}, {"offset": "1e3"}, {"limit": "9" * 10}, {"limit": "٣"}]
)
def test_a_page_that_nobody_can_mean_is_refused(query: dict[str, str]) -> None:
    """In the vendor's error shape."""
    status, body = said("GET", "/api/billing/history", replaced(query=query))
    assert (status, list(json.loads(body))) == (400, ["error"])


def test_every_local_route_is_answered_and_no_other() -> None:
    """A route that the vendor answers is not answered here by mistake."""
    for route in VENDOR.routes:
        path = "/" + "/".join(route.segments).replace("{", "").replace("}", "")
        if route.pricing is Pricing.LOCAL:
            assert said(route.methods[0], path)[0] in {200, 201}
        else:
            with pytest.raises(ValueError, match="not answered here"):
                said(route.methods[0], path)


def test_the_balance_header_is_the_agents_own() -> None:
    """Four decimals, rounded down: never money that is not there."""
    assert VENDOR.own_headers(OWN) == (("X-Balance-Remaining", "10.5000"),)
    table = {0: "0.0000", 99: "0.0000", 100: "0.0001", 42_000: "0.0420", 166_799: "0.1667", 10**15: "1000000000.0000"}
    assert {amount: usd_floor(amount) for amount in table} == table
    assert usd_floor(-1) == "-0.0001"


def test_refusals_are_worded_as_the_vendors() -> None:
    """One text under `error`; a body that is wrong is a 400 there."""
    assert VENDOR.refusal(404, "vps not found") == LocalAnswer(404, {"error": "vps not found"})
    assert VENDOR.refusal(422, "name: is required").status == 400
    assert VENDOR.refusal(503, "later").status == 503


def response(status: int, body: bytes) -> UpstreamResponse:
    """A vendor's answer."""
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), body)


def jwt(claims: dict[str, object]) -> str:
    """A token that says when it ends."""
    return ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b"{}", json.dumps(claims).encode(), b"s")
    )


def test_the_login_that_we_make() -> None:
    """E-mail and password in the body, never twice on the wire; a token of a day, by its own word if it says one."""
    plan = VENDOR.login
    assert plan is not None
    request = plan.request(Credentials("ops@example.com", Secret('pa"ss')))
    assert (request.method, request.target, request.may_resend) == ("POST", "/api/auth/login", False)
    assert json.loads(request.body if isinstance(request.body, bytes) else b"") == {
        "email": "ops@example.com",
        "password": 'pa"ss',
    }
    assert (plan.lives_s, plan.refresh_after_s < plan.lives_s) == (86_400, True)
    token = plan.read(response(200, json.dumps({"token": jwt({"iat": 1000, "exp": 4600})}).encode()))
    assert token is not None
    assert token.lives_s == 3600
    plain = plan.read(response(200, b'{"token":"eyJ"}'))
    assert plain is not None
    assert (plain.value.reveal(), plain.lives_s) == ("eyJ", None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token":null}', b'{"token":""}', b'{"token":"a\\r\\nX: y"}'])
def test_an_answer_without_a_token_is_no_login(body: bytes) -> None:
    """Nor is one whose token would be another header."""
    plan = VENDOR.login
    assert plan is not None
    assert plan.read(response(200, body)) is None


def test_a_standing_token_needs_no_login() -> None:
    """A configured `vtk_` token is the credential itself."""
    assert LiteVps("l", "https://l.example", TERMS, standing_token=True).login is None
