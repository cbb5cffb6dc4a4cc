"""Bad input from either side: each has its problem type, costs nothing, shows the vendor nothing, and is told apart."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from e2e_agent import TIMEOUT_S, problem_of
from e2e_config import TOO_SLOW_S
from odd_seller import Scripted

if TYPE_CHECKING:
    from e2e_agent import Agent
    from odd_seller import OddSeller
    from world import World

STRANGER = "0x000000000000000000000000000000000000dEaD"
WETH = "0x4200000000000000000000000000000000000006"
CREDIT = Decimal(10)


@dataclass(frozen=True, slots=True)
class Bad:
    """What the challenge of /rent is altered by, the problem that follows, and the kind of task for the operator."""

    code: str
    fault: dict[str, Any]
    task: str | None = None


def _set(**fields: Any) -> dict[str, Any]:
    return {"kind": "challenge", "set": fields}


def _amount(value: Any) -> dict[str, Any]:
    return _set(maxAmountRequired=value, amount=value)


def _body(text: str) -> dict[str, Any]:
    return {"kind": "challenge", "raw_body": text, "drop_header": True}


OFFERS = {
    "another payee": Bad("payee_not_allowed", _set(payTo=STRANGER), "payee_unknown"),
    "a payee that is no address": Bad("address_malformed", _set(payTo="0x1234")),
    "another asset": Bad("asset_not_allowed", _set(asset=STRANGER)),
    "another known network": Bad("network_not_allowed", _set(network="base-sepolia")),
    "an unknown network": Bad("unknown_network", _set(network="solana")),
    "another scheme": Bad("unsupported_scheme", _set(scheme="upto")),
    "a higher amount": Bad("price_above_quote", _amount("600000"), "price_changed"),
    "a far lower amount": Bad("price_below_quote", _amount("100000"), "price_changed"),
    "two amounts": Bad("amount_fields_differ", _set(maxAmountRequired="500000", amount="500001")),
    "a float": Bad("amount_malformed", _amount(500000.0)),
    "a decimal string": Bad("amount_malformed", _amount("0.5")),
    "a negative amount": Bad("amount_malformed", _amount("-500000")),
    "an exponent": Bad("amount_malformed", _amount("5e5")),
    "79 digits": Bad("amount_malformed", _amount("1" * 79)),
    "78 digits": Bad("amount_malformed", _amount("9" * 78)),
    "a JSON integer": Bad("amount_malformed", _amount(-1)),
    "an empty amount": Bad("amount_malformed", _amount("")),
    "digits of another script": Bad("amount_malformed", _amount("\u0665\u0660\u0660\u0660\u0660\u0660")),
    "a boolean": Bad("amount_malformed", _amount(True)),
    "nothing": Bad("amount_malformed", _amount("0")),
    "no window": Bad("timeout_malformed", _set(maxTimeoutSeconds=-5)),
    "a window in words": Bad("timeout_malformed", _set(maxTimeoutSeconds="soon")),
    "an expired window": Bad("timeout_malformed", _set(maxTimeoutSeconds=0)),
    "no offers": Bad("no_offer", {"kind": "challenge", "top": {"accepts": []}}),
    "another version": Bad("version_unknown", {"kind": "challenge", "top": {"x402Version": 3}}),
    "JSON cut short": Bad("challenge_malformed", _body('{"x402Version": 1, "accepts": [')),
    "offers that are no list": Bad("challenge_malformed", _body('{"x402Version": 1, "accepts": {}}')),
    "a challenge of 300 KB": Bad(
        "challenge_oversized", {"kind": "challenge", "pad_bytes": 300_000, "drop_header": True}
    ),
    "a 402 that is no challenge": Bad("foreign_402", _body('{"error": "quota exceeded"}')),
    "a redirect elsewhere": Bad(
        "redirect_refused", {"kind": "redirect", "location": "http://127.0.0.1:9/rent", "status": 307}
    ),
    "a cut connection": Bad("vendor_timeout", {"kind": "cut", "when": "before"}),
    "no answer in time": Bad("vendor_timeout", {"kind": "slow", "before_s": TOO_SLOW_S}),
}


@pytest.mark.parametrize("name", OFFERS)
def test_challenge_that_is_not_what_we_buy_is_not_paid(world: World, name: str) -> None:
    """The vendor's offer is refused by name; nothing is held, signed or shown, and only what a human may allow is a task."""
    bad, agent = OFFERS[name], world.agent(str(CREDIT))
    tasks = _tasks(world)
    seen = len(world.vendor.state()["seen"])
    world.vendor.admin("POST", "/admin/faults", {"route": "rent", "paid": False, **bad.fault})
    answer = agent.rent()
    world.vendor.clear()
    assert problem_of(answer) == bad.code, answer.text
    _assert_untouched(agent)
    assert len(world.vendor.state()["seen"]) == seen
    opened = [task for task in _tasks(world) if task not in tasks]
    assert [task["kind"] for task in opened] == ([] if bad.task is None else [bad.task])
    for task in opened:
        world.gateway.operate("tasks_close", task=task["id"], resolution="seen")


def test_own_wallet_as_payee_is_refused(world: World) -> None:
    """An offer that pays one of our own wallets is refused, whoever approves what."""
    agent = world.agent(str(CREDIT))
    world.vendor.fault("challenge", "rent", paid=False, set={"payTo": world.gateway.home.wallet})
    assert problem_of(agent.rent()) == "payee_is_ours"
    _assert_untouched(agent)


def test_price_above_the_route_s_ceiling_is_refused(world: World) -> None:
    """A price that the vendor states, and that is on our list, is still not paid above the ceiling."""
    agent = world.agent("500")
    assert problem_of(agent.rent("server_medium_12mo")) == "price_above_ceiling"
    assert agent.balance()["available"] == Decimal(500)


def test_item_without_an_approved_price_is_refused(world: World) -> None:
    """What has no price in the configuration is a task, never a payment."""
    agent = world.agent("500")
    assert problem_of(agent.rent("server_large_1mo")) == "price_unknown"
    assert agent.payments() == []


def test_catalogue_and_challenge_raised_together_is_noticed(world: World) -> None:
    """A price that was raised everywhere at once differs from what the operator approved: a task, not a payment."""
    agent = world.agent(str(CREDIT))
    world.vendor.fault("price", sku="sandbox_24h", price_usdc="7")
    catalogue = agent.ask("GET", "/proxy/vpsagent/catalog")
    assert catalogue.status_code == 200, catalogue.text
    refused = agent.rent("sandbox_24h")
    assert problem_of(refused) == "price_above_quote"
    task = next(t for t in _tasks(world) if t["subject"] == "vpsagent/sandbox_24h")
    assert task["kind"] == "price_changed"
    world.gateway.operate("tasks_approve", task=task["id"], price="7")
    bought = agent.rent("sandbox_24h")
    assert (bought.status_code, bought.headers["X-Charge"]) == (200, "7.000000"), bought.text
    world.vendor.clear()
    assert agent.wait_closed(bought.headers["X-Payment-Id"])["captured"] == "7.000000"


# ---- what an agent sends ---------------------------------------------------------------------------------------------


def test_agent_s_own_mistakes_cost_nothing(world: World) -> None:
    """Unknown keys, routes, vendors, items and figures are refused before the vendor hears of them."""
    agent = world.agent(str(CREDIT))
    url = world.gateway.base_url + "/proxy/vpsagent/rent"
    body = {"sku": "sandbox_1h"}
    nobody = requests.post(url, json=body, timeout=TIMEOUT_S)
    wrong = requests.post(url, json=body, timeout=TIMEOUT_S, headers={"X-Api-Key": agent.key[:-4] + "AAAA"})
    reader = agent.another_key(scopes=["read"])
    expected = [
        (nobody, 401, "key_missing"),
        (wrong, 401, "key_unknown"),
        (reader.rent(), 403, "scope_missing"),
        (agent.rent("sandbox_9h"), 422, "input_refused"),
        (
            agent.ask("POST", "/proxy/vpsagent/rent", data=b'{"sku":"sandbox_1h","sku":"server_small_1mo"}'),
            422,
            "input_refused",
        ),
        (agent.rent(X_Max_Charge="0.499999"), 409, "price_above_max_charge"),
        (agent.rent(X_Max_Charge="5e-1"), 400, "bad_request"),
        (agent.rent(Idempotency_Key="white space"), 400, "bad_request"),
        (agent.ask("POST", "/proxy/nobody/rent", json=body), 404, "vendor_unknown"),
        (agent.ask("POST", "/proxy/vpsagent/lease", json=body), 404, "route_not_declared"),
        (agent.ask("GET", "/proxy/vpsagent/rent"), 405, "method_not_allowed"),
        (agent.ask("POST", "/proxy/vpsagent/rent", data=b" " * (1024 * 1024 + 1)), 413, "body_not_replayable"),
    ]
    assert [(answer.status_code, problem_of(answer)) for answer, _, _ in expected] == [
        (status, code) for _, status, code in expected
    ]
    _assert_untouched(agent)


def test_path_with_dot_segments_is_refused_as_written(world: World) -> None:
    """A path that a vendor's router might read in another way than ours never leaves (clients tidy it up, so by hand)."""
    agent = world.agent(str(CREDIT))
    session = requests.Session()
    request = session.prepare_request(requests.Request("GET", world.gateway.base_url, headers={"X-Api-Key": agent.key}))
    for path in ("/proxy/vpsagent/x/../catalog", "/proxy/vpsagent/%2e%2e/catalog", "/proxy/vpsagent/x%2f..%2fcatalog"):
        request.url = world.gateway.base_url + path
        assert problem_of(session.send(request, timeout=TIMEOUT_S)) == "route_not_declared"
    session.close()
    _assert_untouched(agent)


def test_spent_limits_and_stops_refuse_before_any_signature(world: World) -> None:
    """Budget, balance and every freeze scope have their own problem; lifting a freeze lets the same request through."""
    agent = world.agent("0.75")
    small = agent.another_key(budgets=["0.49/day"])
    assert problem_of(small.rent()) == "budget_exhausted"
    elsewhere = agent.another_key(budgets=["0.10/day@vpsagent/rent"])
    assert problem_of(elsewhere.rent()) == "budget_exhausted"
    assert problem_of(agent.rent("sandbox_6h")) == "insufficient_balance"
    seen = len(world.vendor.state()["seen"])
    wallet = world.gateway.home.wallet
    for scope in ("all", "vendor:vpsagent", f"account:{agent.account_id}", f"wallet:{wallet}"):
        world.gateway.operate("freeze_set", scope=scope, reason="a test")
        answer = agent.rent()
        assert (answer.status_code, problem_of(answer)) == (503, "frozen"), scope
        world.gateway.operate("freeze_lift", scope=scope, reason="a test")
    assert len(world.vendor.state()["seen"]) == seen
    _assert_untouched(agent, Decimal("0.75"))
    assert agent.rent().status_code == 200


def test_revoked_key_buys_nothing(world: World) -> None:
    """A key is dead from the moment that its revocation is answered."""
    agent = world.agent("1")
    (key,) = world.gateway.operate("key_list", account=agent.account_id)["keys"]
    world.gateway.operate("key_revoke", key=key["id"])
    answer = agent.rent()
    assert (answer.status_code, problem_of(answer)) == (401, "key_revoked")


def test_idempotency_key_stands_for_one_request(world: World) -> None:
    """The same key with another body is a conflict; with the same body it is the same purchase."""
    agent = world.agent("5")
    first = agent.rent(Idempotency_Key="one")
    again = agent.rent(Idempotency_Key="one")
    other = agent.rent("sandbox_6h", Idempotency_Key="one")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["X-Payment-Id"] == first.headers["X-Payment-Id"]
    assert (other.status_code, problem_of(other)) == (409, "idempotency_conflict")
    assert len(agent.payments()) == 1


# ---- a vendor known by configuration alone ---------------------------------------------------------------------------


def _v2(**changes: Any) -> dict[str, Any]:
    offer = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "1000",
        "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "payTo": STRANGER,
        "maxTimeoutSeconds": 60,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return {"x402Version": 2, "resource": {"url": "http://example.test/"}, "accepts": [offer | changes]}


def _header(document: Any) -> dict[str, str]:
    return {"PAYMENT-REQUIRED": base64.b64encode(json.dumps(document).encode()).decode()}


def _mpp(**changes: str) -> dict[str, str]:
    request = {
        "amount": "1000",
        "currency": "0x20c0000000000000000000000000000000000000",
        "recipient": STRANGER,
        "methodDetails": {"chainId": 4217},
    }
    params = {
        "id": "challenge-1",
        "realm": "127.0.0.1",
        "method": "tempo",
        "intent": "charge",
        "request": base64.urlsafe_b64encode(json.dumps(request).encode()).decode().rstrip("="),
        "expires": "2099-01-01T00:00:00Z",
    }
    return {"WWW-Authenticate": "Payment " + ", ".join(f'{k}="{v}"' for k, v in (params | changes).items())}


ODD: dict[str, tuple[Scripted, str]] = {
    "base64": (Scripted(headers={"PAYMENT-REQUIRED": "%%%not-base64%%%"}), "challenge_malformed"),
    "json": (Scripted(headers={"PAYMENT-REQUIRED": base64.b64encode(b"{").decode()}), "challenge_malformed"),
    "list": (Scripted(headers=_header([])), "challenge_malformed"),
    "float": (Scripted(headers=_header(_v2(amount=0.001))), "amount_malformed"),
    "network": (Scripted(headers=_header(_v2(network="eip155:1"))), "network_not_allowed"),
    "asset": (Scripted(headers=_header(_v2(asset=WETH))), "asset_not_allowed"),
    "payee": (Scripted(headers=_header(_v2())), "payee_not_allowed"),
    "ceiling": (Scripted(headers=_header(_v2(amount="1000001"))), "price_above_ceiling"),
    "wide": (Scripted(headers={"PAYMENT-REQUIRED": "A" * 70_000}), "challenge_oversized"),
    "long": (Scripted(body=b'{"x402Version": 1, "accepts": []}' + b" " * 300_000), "challenge_oversized"),
    "foreign": (Scripted(body=b"pay by invoice"), "foreign_402"),
    "mpp": (Scripted(headers=_mpp()), "rail_not_allowed"),
    "session": (Scripted(headers=_mpp(intent="session")), "rail_not_allowed"),
    "half": (Scripted(headers={"WWW-Authenticate": 'Payment id="x", method="tempo"'}), "rail_not_allowed"),
    "moved": (Scripted(status=302, headers={"Location": "https://elsewhere.example/"}), "redirect_refused"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_seller_is_not_paid(world: World, odd: OddSeller, name: str) -> None:
    """A generic vendor's 402 that is unreadable, or not what the configuration allows, is refused by name, unpaid."""
    agent = world.agent("5")
    scripted, code = ODD[name]
    odd.answers[f"/{name}"] = scripted
    answer = agent.ask("GET", f"/proxy/odd/{name}")
    assert problem_of(answer) == code, answer.text
    assert agent.payments() == []
    came = [got for got in odd.got if got.target == f"/{name}"]
    assert len(came) == 1
    assert not {"payment-signature", "x-payment", "authorization", "x-api-key"} & came[0].headers.keys()


def test_body_too_large_to_keep_is_not_paid_for(world: World, odd: OddSeller) -> None:
    """A body over the limit passes to a generic vendor as it comes; when that asks for money, nothing is paid."""
    agent = world.agent("5")
    odd.answers["/upload"] = Scripted(headers=_header(_v2()))
    answer = agent.ask("POST", "/proxy/odd/upload", data=b"x" * (2 * 1024 * 1024))
    assert (answer.status_code, problem_of(answer)) == (413, "body_not_replayable")
    assert agent.payments() == []


def test_agent_s_own_payment_headers_never_reach_the_vendor(world: World, odd: OddSeller) -> None:
    """An agent cannot smuggle a payment, the gateway's key or a proxy's word past the gateway."""
    agent = world.agent("5")
    odd.answers["/free"] = Scripted(status=200, body=b"free")
    smuggled = {"X-PAYMENT": "e30=", "PAYMENT-SIGNATURE": "e30=", "X-Api-Key": agent.key, "Idempotency-Key": "k1"}
    answer = agent.ask("GET", "/proxy/odd/free", headers=smuggled)
    assert (answer.status_code, answer.text) == (200, "free")
    came = next(got for got in odd.got if got.target == "/free")
    assert not {name.lower() for name in smuggled} & came.headers.keys()
    assert "authorization" not in came.headers


def _tasks(world: World) -> list[Any]:
    tasks: list[Any] = world.gateway.operate("tasks_list", limit=1000)["tasks"]
    return tasks


def _assert_untouched(agent: Agent, credit: Decimal = CREDIT) -> None:
    balance = agent.balance()
    assert (balance["available"], balance["held"]) == (credit, Decimal(0))
    assert agent.payments() == []
