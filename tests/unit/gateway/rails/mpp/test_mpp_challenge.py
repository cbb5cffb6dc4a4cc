"""MPP challenges as offers: what the reference sellers say, and every bad input of which we must not become poorer."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import ZERO_ADDRESS
from gateway.rails.codes import Problem
from gateway.rails.mpp.challenge import MAX_ID_CHARS, MAX_OPAQUE_CHARS
from gateway.rails.mpp.request import MAX_REQUEST_CHARS
from gateway.rails.offer import MppChallenge, Split
from gateway.rails.problems import ChallengeError
from tests.unit.gateway.rails.mpp.mpp_bed import (
    ASSET,
    CHAIN,
    EXPIRES_MS,
    GONE,
    MPPX,
    OTHER,
    OTHER_PAYEE,
    PATH_USD,
    PAY_TO,
    PAYEE,
    PYMPP,
    REALM,
    b64url,
    evm_request,
    line,
    offered,
    read,
    read_request,
    rejection,
    request,
)


def test_mppxs_charge_is_an_offer_in_our_terms() -> None:
    """Every field of a pull charge, and the texts to echo in the seller's spelling."""
    challenge = offered(MPPX["plain"])
    assert (challenge.proofs, challenge.rejected) == ((), ())
    (offer,) = challenge.offers
    assert (offer.rail, offer.method, offer.chain_id) == ("mpp", "tempo", CHAIN)
    assert (offer.asset, offer.pay_to, offer.wire_pay_to, offer.amount_base) == (ASSET, PAY_TO, PAYEE, 10_000)
    assert (offer.splits, offer.fee_payer, offer.modes, offer.memo) == ((), False, (), None)
    assert (offer.expires_at_ms, offer.realm) == (EXPIRES_MS, REALM)
    assert offer.challenge_id == "LlpGRTKs49ThNP8IcGXa_X5s1wqykckkoVE0AW0jr1M"
    assert (offer.header, offer.wire_network) == ("Authorization", "tempo:42431")
    assert (offer.is_proof, offer.push_only) == (False, False)
    echo = dict(offer.echo)
    assert read_request(echo.pop("request"))["externalId"] == "order-1"
    assert echo == {
        "id": offer.challenge_id,
        "realm": REALM,
        "method": "tempo",
        "intent": "charge",
        "expires": "2026-01-06T12:00:00.000Z",
        "opaque": "eyJuIjoiYWJjIiwiciI6InBhaWQifQ",
    }


def test_mppxs_splits_fee_payer_and_modes_are_read() -> None:
    """The amount includes the splits, each with its own payee and memo."""
    (offer,) = offered(MPPX["split"]).offers
    assert (offer.amount_base, offer.fee_payer, offer.modes) == (10_000, True, ("pull",))
    assert offer.splits == (
        Split(OTHER_PAYEE, 1_000, b"\xab" * 32, OTHER),
        Split(PAY_TO, 2_000, None, PAYEE),
    )


def test_modes_name_what_the_seller_takes() -> None:
    """Push alone is marked; a choice is kept in one order, whatever the seller's."""
    (push,) = offered(MPPX["push"]).offers
    (either,) = offered(MPPX["either"]).offers
    assert (push.modes, push.push_only) == (("push",), True)
    assert (either.modes, either.push_only) == (("pull", "push"), False)


def test_an_evm_charge_is_an_offer() -> None:
    """EIP-3009 on Base, where x402 would call it eip155:8453."""
    (offer,) = offered(MPPX["evm"]).offers
    assert (offer.method, offer.chain_id, offer.wire_network) == ("evm", 8453, "eip155:8453")
    assert (offer.amount_base, offer.pay_to, offer.modes) == (1_500_000, PAY_TO, ())


@pytest.mark.parametrize("name", ["proof", "bare_proof"])
def test_a_zero_amount_is_a_proof_and_never_an_offer(name: str) -> None:
    """Identity is asked for, with a payee or without one; it stands where no choice of prices finds it."""
    challenge = offered(MPPX[name])
    assert challenge.offers == ()
    (proof,) = challenge.proofs
    assert (proof.amount_base, proof.is_proof, proof.chain_id, proof.asset) == (0, True, CHAIN, ASSET)
    assert proof.pay_to == (PAY_TO if name == "proof" else ZERO_ADDRESS)


@pytest.mark.parametrize("peer", [MPPX, PYMPP], ids=["mppx", "pympp"])
def test_both_sdks_name_another_header(peer: dict[str, str]) -> None:
    """`Payment-Authorization`, the digest and the echo of both."""
    (offer,) = offered(peer["header"]).offers
    assert offer.header == "Payment-Authorization"
    echo = dict(offer.echo)
    assert (echo["header"], echo["digest"]) == ("Payment-Authorization", "sha-256=47DEQpj8HBSa")


@pytest.mark.parametrize("peer", [MPPX, PYMPP], ids=["mppx", "pympp"])
def test_a_description_may_hold_anything(peer: dict[str, str]) -> None:
    """Quotes, backslashes, a scheme's name and characters beyond Latin-1 neither end the challenge nor start one."""
    (offer,) = offered(peer["described"]).offers
    assert dict(offer.echo)["description"] == 'A “droplet”, Payment id="x" \\ for 1 month — 🚀 é'


def test_a_joined_line_with_another_scheme_holds_two_offers() -> None:
    """A proxy's joined line says the same as two field lines."""
    joined, apart = offered(MPPX["joined"]), offered(MPPX["plain"], MPPX["evm"])
    assert joined.offers == apart.offers
    assert [offer.method for offer in joined.offers] == ["tempo", "evm"]


def test_pympps_charge_is_an_offer() -> None:
    """The other SDK's spelling of times and fields."""
    (offer,) = offered(PYMPP["plain"]).offers
    assert (offer.amount_base, offer.expires_at_ms, offer.pay_to) == (10_000, EXPIRES_MS, PAY_TO)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_only_a_402_is_a_challenge(status: int) -> None:
    """An mppx seller says 500 with a fresh challenge after it was paid: that asks for nothing."""
    assert read(MPPX["plain"], status=status) is None


@pytest.mark.parametrize("lines", [(), ('Bearer realm="x"',)])
def test_without_a_payment_scheme_there_is_no_challenge(lines: tuple[str, ...]) -> None:
    """Then the 402 is somebody else's."""
    assert read(*lines) is None


def test_one_bad_challenge_does_not_spoil_its_neighbour() -> None:
    """A session beside a charge is declined with its reason, and the charge stands."""
    challenge = offered(MPPX["session"], MPPX["plain"])
    assert challenge.offers == offered(MPPX["plain"]).offers
    assert [(entry.raw_index, entry.code) for entry in challenge.rejected] == [(0, Problem.UNSUPPORTED_PAYMENT_INTENT)]


@pytest.mark.parametrize(
    ("params", "code", "field"),
    [
        ({"method": "stripe"}, Problem.UNSUPPORTED_PAYMENT_METHOD, "method"),
        ({"method": "Tempo"}, Problem.UNSUPPORTED_PAYMENT_METHOD, "method"),
        ({"method": "usdc"}, Problem.UNSUPPORTED_PAYMENT_METHOD, "method"),
        ({"method": GONE}, Problem.UNSUPPORTED_PAYMENT_METHOD, "method"),
        ({"intent": "session"}, Problem.UNSUPPORTED_PAYMENT_INTENT, "intent"),
        ({"intent": "subscription"}, Problem.UNSUPPORTED_PAYMENT_INTENT, "intent"),
        ({"intent": "Charge"}, Problem.UNSUPPORTED_PAYMENT_INTENT, "intent"),
        ({"intent": GONE}, Problem.UNSUPPORTED_PAYMENT_INTENT, "intent"),
        ({"id": GONE}, Problem.OFFER_MALFORMED, "id"),
        ({"id": ""}, Problem.OFFER_MALFORMED, "id"),
        ({"id": "a b"}, Problem.OFFER_MALFORMED, "id"),
        ({"id": "\u00e9"}, Problem.OFFER_MALFORMED, "id"),
        ({"id": "a" * (MAX_ID_CHARS + 1)}, Problem.OFFER_MALFORMED, "id"),
        ({"realm": GONE}, Problem.OFFER_MALFORMED, "realm"),
        ({"realm": ""}, Problem.OFFER_MALFORMED, "realm"),
        ({"realm": " x"}, Problem.OFFER_MALFORMED, "realm"),
        ({"realm": "api.ex\\u0430mple.com"}, Problem.OFFER_MALFORMED, "realm"),
        ({"realm": "a" * 256}, Problem.OFFER_MALFORMED, "realm"),
        ({"ID": "2"}, Problem.OFFER_MALFORMED, "id"),
        ({"expires": GONE}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": ""}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "never"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T12:00:00"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06 12:00:00Z"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-02-30T12:00:00Z"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T24:00:00Z"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T12:00:60Z"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T12:00:00+24:00"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T12:00:00+01:60"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "0000-01-06T12:00:00Z"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "1767700800"}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"expires": "2026-01-06T12:00:00Z" + " " * 99}, Problem.TIMEOUT_MALFORMED, "expires"),
        ({"header": "Cookie"}, Problem.OFFER_MALFORMED, "header"),
        ({"header": "Host"}, Problem.OFFER_MALFORMED, "header"),
        ({"header": ""}, Problem.OFFER_MALFORMED, "header"),
        ({"digest": ""}, Problem.OFFER_MALFORMED, "digest"),
        ({"digest": "sha-256=\u00e9"}, Problem.OFFER_MALFORMED, "digest"),
        ({"opaque": ""}, Problem.OFFER_MALFORMED, "opaque"),
        ({"opaque": "e30="}, Problem.OFFER_MALFORMED, "opaque"),
        ({"opaque": "a" * (MAX_OPAQUE_CHARS + 1)}, Problem.OFFER_MALFORMED, "opaque"),
        ({"request": GONE}, Problem.OFFER_MALFORMED, "request"),
        ({"request": ""}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url(request()) + "="}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url({"a": "?>~"}).replace("_", "/") + "/"}, Problem.OFFER_MALFORMED, "request"),
        ({"request": "eyJ"}, Problem.OFFER_MALFORMED, "request"),
        ({"request": "e31"}, Problem.OFFER_MALFORMED, "request"),
        ({"request": "a"}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url([])}, Problem.OFFER_MALFORMED, "request"),
        ({"request": "_w"}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url('{"amount":"1","amount":"2"}')}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url('{"amount":1.0}')}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url('{"x":[{"y":1e2}]}')}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url('{"x":NaN}')}, Problem.OFFER_MALFORMED, "request"),
        ({"request": b64url('{"x":' + "[" * 40 + "]" * 40 + "}")}, Problem.OFFER_MALFORMED, "request"),
        ({"request": "a" * (MAX_REQUEST_CHARS + 1)}, Problem.OFFER_OVERSIZED, "request"),
    ],
    ids=str,
)
def test_a_challenge_whose_parameters_cannot_be_read_is_rejected(
    params: dict[str, Any], code: Problem, field: str
) -> None:
    """Each alone is enough, and names the parameter."""
    entry = rejection(line(**params))
    assert (entry.code, entry.field) == (code, field)


AMOUNTS = [
    "",
    "00",
    "01",
    "0x0",
    "0x10",
    "-1",
    "+1",
    "1.0",
    "1e3",
    " 1",
    "1 ",
    "1_0",
    "１",
    1,
    1.5,
    None,
    True,
    [],
    "9" * 78,
]


@pytest.mark.parametrize("amount", [*AMOUNTS, str(2**256)], ids=repr)
def test_an_amount_has_one_spelling(amount: object) -> None:
    """What is not a plain decimal string is no price, no split and above all no zero."""
    code = Problem.OFFER_MALFORMED if isinstance(amount, float) else Problem.AMOUNT_MALFORMED
    assert rejection(line(request(amount=amount))).code is code
    split = {"recipient": OTHER, "amount": amount}
    assert rejection(line(request(details={"splits": [split]}))).code is code


def test_the_largest_amount_is_read() -> None:
    """A token's whole range is readable; ceilings are for `choose`."""
    (offer,) = offered(line(request(amount=str(2**256 - 1)))).offers
    assert offer.amount_base == 2**256 - 1


SPLIT = {"recipient": OTHER, "amount": "1"}


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"currency": GONE}, Problem.ADDRESS_MALFORMED, "currency"),
        ({"currency": "USDC"}, Problem.ADDRESS_MALFORMED, "currency"),
        ({"currency": "0x" + "00" * 20}, Problem.ADDRESS_MALFORMED, "currency"),
        ({"recipient": GONE}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"recipient": PAYEE.replace("D1a", "d1a")}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"recipient": PAYEE[2:]}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"recipient": "0x" + "00" * 20}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"recipient": PATH_USD}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"amount": "0", "recipient": "me"}, Problem.ADDRESS_MALFORMED, "recipient"),
        ({"amount": "0", "currency": 1}, Problem.ADDRESS_MALFORMED, "currency"),
        ({"amount": "0", "details": {"splits": [SPLIT]}}, Problem.AMOUNT_MALFORMED, "methodDetails.splits"),
        ({"methodDetails": GONE}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"methodDetails": "x"}, Problem.OFFER_MALFORMED, "methodDetails"),
        ({"details": {"chainId": GONE}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"chainId": "42431"}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"chainId": 0}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"chainId": True}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"chainId": 2**63}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"feePayer": "true"}}, Problem.OFFER_MALFORMED, "methodDetails.feePayer"),
        ({"details": {"feePayer": 1}}, Problem.OFFER_MALFORMED, "methodDetails.feePayer"),
        ({"details": {"memo": "0xab"}}, Problem.OFFER_MALFORMED, "methodDetails.memo"),
        ({"details": {"supportedModes": []}}, Problem.OFFER_MALFORMED, "methodDetails.supportedModes"),
        ({"details": {"supportedModes": "push"}}, Problem.OFFER_MALFORMED, "methodDetails.supportedModes"),
        ({"details": {"supportedModes": [1]}}, Problem.OFFER_MALFORMED, "methodDetails.supportedModes"),
        ({"details": {"supportedModes": ["x"]}}, Problem.UNSUPPORTED_TRANSFER, "methodDetails.supportedModes"),
        (
            {"details": {"supportedModes": ["push"], "feePayer": True}},
            Problem.UNSUPPORTED_TRANSFER,
            "methodDetails.supportedModes",
        ),
        ({"details": {"splits": []}}, Problem.OFFER_MALFORMED, "methodDetails.splits"),
        ({"details": {"splits": {}}}, Problem.OFFER_MALFORMED, "methodDetails.splits"),
        ({"details": {"splits": [SPLIT] * 11}}, Problem.OFFER_MALFORMED, "methodDetails.splits"),
        ({"details": {"splits": ["x"]}}, Problem.OFFER_MALFORMED, "methodDetails.splits[0]"),
        (
            {"details": {"splits": [SPLIT, SPLIT | {"amount": "9999"}]}},
            Problem.AMOUNT_MALFORMED,
            "methodDetails.splits",
        ),
        (
            {"details": {"splits": [SPLIT | {"amount": "0"}]}},
            Problem.AMOUNT_MALFORMED,
            "methodDetails.splits[0].amount",
        ),
        (
            {"details": {"splits": [SPLIT, SPLIT | {"recipient": PATH_USD}]}},
            Problem.ADDRESS_MALFORMED,
            "methodDetails.splits[1].recipient",
        ),
        (
            {"details": {"splits": [SPLIT | {"memo": 1}]}},
            Problem.OFFER_MALFORMED,
            "methodDetails.splits[0].memo",
        ),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_read_is_rejected(changes: dict[str, Any], code: Problem, field: str) -> None:
    """Each field alone is enough, and is named."""
    entry = rejection(line(request(**changes)))
    assert (entry.code, entry.field) == (code, field)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"amount": "0"}, Problem.AMOUNT_MALFORMED, "amount"),
        ({"details": {"chainId": GONE}}, Problem.UNKNOWN_NETWORK, "methodDetails.chainId"),
        ({"details": {"splits": [SPLIT]}}, Problem.UNSUPPORTED_TRANSFER, "methodDetails.splits"),
        ({"details": {"splits": []}}, Problem.UNSUPPORTED_TRANSFER, "methodDetails.splits"),
        ({"details": {"credentialTypes": GONE}}, Problem.OFFER_MALFORMED, "methodDetails.credentialTypes"),
        ({"details": {"credentialTypes": ["permit2"]}}, Problem.UNSUPPORTED_TRANSFER, "methodDetails.credentialTypes"),
        ({"details": {"decimals": 18}}, Problem.AMOUNT_MALFORMED, "methodDetails.decimals"),
        ({"details": {"decimals": "6"}}, Problem.AMOUNT_MALFORMED, "methodDetails.decimals"),
        ({"details": {"decimals": True}}, Problem.AMOUNT_MALFORMED, "methodDetails.decimals"),
    ],
    ids=str,
)
def test_an_evm_request_that_we_cannot_meet_is_rejected(changes: dict[str, Any], code: Problem, field: str) -> None:
    """One EIP-3009 authorization, to one payee, in a token of six decimals."""
    entry = rejection(line(evm_request(**changes), method="evm"))
    assert (entry.code, entry.field) == (code, field)


def test_an_evm_request_need_not_name_decimals() -> None:
    """They are optional."""
    assert len(offered(line(evm_request(details={"decimals": GONE}), method="evm")).offers) == 1


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-01-06T12:00:00Z", EXPIRES_MS),
        ("2026-01-06t12:00:00.1z", EXPIRES_MS + 100),
        ("2026-01-06T12:00:00.123456789Z", EXPIRES_MS + 123),
        ("2026-01-06T13:30:00+01:30", EXPIRES_MS),
        ("2026-01-06T11:00:00-01:00", EXPIRES_MS),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59-23:59", 253402387139000),
    ],
)
def test_times_are_read_to_the_millisecond(text: str, at_ms: int) -> None:
    """Offsets, fractions and the range's ends."""
    (offer,) = offered(line(expires=text)).offers
    assert offer.expires_at_ms == at_ms


def test_an_old_sellers_memo_is_kept() -> None:
    """The SDKs have dropped it; who still sends one means it."""
    (offer,) = offered(line(request(details={"memo": "0x" + "cd" * 32}))).offers
    assert offer.memo == b"\xcd" * 32


def test_a_long_description_is_not_echoed() -> None:
    """It is outside the challenge's seal, and our header would be refused for it."""
    (short,) = offered(line(description="d" * 1_024)).offers
    (long,) = offered(line(description="d" * 1_025)).offers
    assert dict(short.echo)["description"] == "d" * 1_024
    assert "description" not in dict(long.echo)


def test_a_repeated_line_is_one_challenge_and_a_reused_id_is_none() -> None:
    """A proxy may repeat a line; two prices under one id would share memo, nonce and receipt."""
    assert len(offered(MPPX["plain"], MPPX["plain"]).offers) == 1
    challenge = offered(line(), line(request(amount="1")), line(id="2"))
    assert [offer.challenge_id for offer in challenge.offers] == ["2"]
    assert [(entry.code, entry.field) for entry in challenge.rejected] == [(Problem.OFFER_MALFORMED, "id")] * 2


def test_unknown_parameters_and_details_are_ignored() -> None:
    """The specification grows; what is unknown is neither read nor echoed."""
    (offer,) = offered(line(request(details={"machineTokenEnabled": True}, other=[1]), shiny="1")).offers
    assert "shiny" not in dict(offer.echo)


def test_an_unreadable_header_is_a_challenge_error() -> None:
    """Then nothing in it is trusted, not even a neighbour."""
    with pytest.raises(ChallengeError) as caught:
        read(MPPX["plain"], 'Payment id="1')
    assert caught.value.code is Problem.CHALLENGE_MALFORMED


# Drawn from a list, not grown: a random tree is slow to make and seldom comes near a field's own type.
JSON = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 6, 42431, 2**63, 1.5, "", "0", "1", "9999", "10000", "\ud800"]),
    st.sampled_from([PAYEE, OTHER, PATH_USD, "0x" + "ab" * 32, [], {}, [[]], [None], [1], {"chainId": 1}]),
    st.sampled_from([["push"], ["pull", "x"], ["authorization"], [SPLIT], [SPLIT] * 10, [SPLIT | {"memo": 1}]]),
    st.sampled_from([[SPLIT | {"amount": "9998"}, SPLIT], [{"recipient": OTHER}]]),
)
FIELDS = st.sampled_from(["amount", "currency", "recipient", "methodDetails", "description", "externalId"])
DETAILS = st.sampled_from(["chainId", "splits", "feePayer", "supportedModes", "memo", "credentialTypes", "decimals"])


@settings(max_examples=200)
@given(
    method=st.sampled_from(["tempo", "evm"]),
    fields=st.dictionaries(FIELDS, JSON, max_size=2),
    details=st.dictionaries(DETAILS, JSON, max_size=3),
    raw=st.none() | st.text(alphabet=st.characters(codec="latin-1"), max_size=30),
)
def test_whatever_a_request_holds_the_parser_never_breaks(
    method: str, fields: dict[str, Any], details: dict[str, Any], raw: str | None
) -> None:
    """One challenge in is one offer, one proof or one rejection out, or the typed error; and money is always whole."""
    body = (request if method == "tempo" else evm_request)(details=details, **fields)
    extra = {} if raw is None else {"realm": raw}
    try:
        challenge = read(line(body, method=method, **extra))
    except ChallengeError:
        return
    assert isinstance(challenge, MppChallenge)
    assert len(challenge.offers) + len(challenge.proofs) + len(challenge.rejected) == 1
    for offer in challenge.offers:
        assert type(offer.amount_base) is int
        assert sum(split.amount_base for split in offer.splits) < offer.amount_base
