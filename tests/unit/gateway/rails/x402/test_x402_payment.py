"""Reading a payment: one spelling for each field, the checks in the specification's order, the first that fails is told."""

from __future__ import annotations

import json
import time

import pytest

from gateway.paid_ports import Exact, Rejected
from gateway.rails.x402.payment import check_window, payer_of, read_payment
from tests.unit.gateway.facilitator.payments_bed import PAY_TO, TOKENS, Draft, Sent
from tests.unit.gateway.facilitator.refusals import MOMENTS, SHAPES, SIGNATURES, Kind, broken, name_of
from tests.unit.gateway.facilitator.refusals import payer_of as address_of

KEY = "0x" + "5a" * 32
SHAPE_CASES = [(kind, version) for kind in SHAPES for version in kind.versions]
MOMENT_CASES = [(kind, version) for kind in MOMENTS for version in kind.versions]


def read(sent: Sent) -> Exact | Rejected:
    """Read at the wall clock's time."""
    exact, now_s = read_payment(sent.version, sent.payload, sent.requirements, TOKENS), int(time.time())
    return exact if isinstance(exact, Rejected) else check_window(exact, now_s, now_s, 3_600) or exact


@pytest.mark.parametrize("version", [1, 2])
def test_a_good_payment_is_read_whole(version: int) -> None:
    """Every field comes out as it was signed, and the digest is the one that eth-account signed."""
    sent = Draft(KEY).sign(version)
    exact = read(sent)
    assert isinstance(exact, Exact)
    terms = exact.authorization
    assert (exact.version, exact.network) == (version, sent.requirements["network"])
    assert (terms.value_base, terms.valid_after) == (10_000, 0)
    assert str(terms.valid_before) == sent.authorization["validBefore"]
    assert "0x" + terms.nonce.hex() == sent.authorization["nonce"]
    assert ("0x" + terms.authorizer.hex()).lower() == address_of(KEY).lower()
    assert ("0x" + terms.pay_to.hex()).lower() == PAY_TO.lower()
    assert exact.signature == sent.signature


@pytest.mark.parametrize(("kind", "version"), SHAPE_CASES, ids=name_of)
def test_what_is_no_payment_is_refused(kind: Kind, version: int) -> None:
    """Each way to be wrong has its code, in both versions, whatever the time."""
    sent = broken(kind, version)
    found = read_payment(sent.version, sent.payload, sent.requirements, TOKENS)
    assert isinstance(found, Rejected)
    assert found.reason == kind.reason, found.message
    assert 0 < len(found.message) < 200


@pytest.mark.parametrize(("kind", "version"), MOMENT_CASES, ids=name_of)
def test_what_cannot_be_collected_now_is_refused(kind: Kind, version: int) -> None:
    """The window is judged by the clock, after everything else, and its payer is told."""
    sent = broken(kind, version)
    assert isinstance(read_payment(sent.version, sent.payload, sent.requirements, TOKENS), Exact)
    found = read(sent)
    assert isinstance(found, Rejected)
    assert found.reason == kind.reason
    assert found.payer is not None


@pytest.mark.parametrize("kind", SIGNATURES, ids=name_of)
def test_reading_judges_no_signature(kind: Kind) -> None:
    """Who signed depends on the code at an address: that is the chain's to say."""
    assert isinstance(read(broken(kind, 2)), Exact)


def test_version_1_may_name_the_network_either_way_and_hold_extra_as_text() -> None:
    """What version 1's servers have been seen to send is read, and repeated in their spelling."""
    sent = Draft(KEY).sign(1)
    sent.both("network", "eip155:8453")
    sent.requirements["extra"] = json.dumps(sent.requirements["extra"])
    found = read(sent)
    assert isinstance(found, Exact)
    assert found.network == "eip155:8453"


@pytest.mark.parametrize("version", [1, 2])
def test_members_that_are_not_ours_are_left_alone(version: int) -> None:
    """Extensions, resources and whatever comes next change nothing, and neither does an address's case."""
    sent = Draft(KEY).sign(version)
    sent.payload["extensions"] = {"bazaar": {"info": {}}}
    sent.payload["resource"] = {"url": "http://seller.test"}
    sent.requirements["outputSchema"] = None
    sent.requirements["extra"]["paymentFlow"] = "upfront"
    sent.requirements["extra"]["assetTransferMethod"] = "eip3009"
    sent.requirements["payTo"] = PAY_TO.lower()
    sent.authorization["from"] = sent.authorization["from"].lower()
    assert isinstance(read(sent), Exact)


def test_a_recovery_id_of_0_or_1_is_written_as_the_token_takes_it() -> None:
    """Stock wallets sign both ways; the chain takes 27 and 28."""
    sent = Draft(KEY).sign(2)
    good = sent.signature
    sent.signature = good[:64] + bytes((good[64] - 27,))
    found = read(sent)
    assert isinstance(found, Exact)
    assert found.signature == good


def test_both_bounds_of_the_window_are_the_token_s_own() -> None:
    """A validBefore needs six seconds, validAfter must have passed; the stricter of clock and head decides each."""
    now_s = 2_000_000_000

    def judge(after: int, before: int, earliest_s: int = now_s, latest_s: int = now_s) -> str:
        sent = Draft(KEY, valid_after=after, valid_before=before).sign(2)
        exact = read_payment(2, sent.payload, sent.requirements, TOKENS)
        assert isinstance(exact, Exact)
        found = check_window(exact, earliest_s, latest_s)
        return "" if found is None else found.reason.rpartition("_valid_")[2]

    assert judge(now_s - 1, now_s + 6) == ""
    assert judge(now_s, now_s + 60) == "after"
    assert judge(now_s - 1, now_s + 5) == "before"
    assert judge(now_s - 10, now_s + 60, earliest_s=now_s - 10) == "after"
    assert judge(0, now_s + 20, latest_s=now_s + 15) == "before"


def test_a_token_that_is_not_served_is_refused_though_it_is_known() -> None:
    """Only the table that was given counts: knowing a token is no permission."""
    sent = Draft(KEY).sign(2)
    found = read_payment(2, sent.payload, sent.requirements, {})
    assert isinstance(found, Rejected)
    assert found.reason == "invalid_network"


@pytest.mark.parametrize("payload", [None, [], {}, {"payload": []}, {"payload": {"authorization": {"from": 1}}}])
def test_a_payer_that_is_not_named_is_nobody(payload: object) -> None:
    """What cannot be read as an address is None and never an error."""
    assert payer_of(payload) is None
