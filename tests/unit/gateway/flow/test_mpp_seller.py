"""Selling credit by MPP: what is asked for, what is taken as payment of it, and everything that is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from contracts.attribution import attribution_memo
from contracts.calls import SIGNATURE_MAX_BYTES
from contracts.codec import Address, checksum, parse_bytes32, to_hex
from contracts.eip3009 import Authorization, mpp_evm_nonce
from contracts.keccak import keccak256
from contracts.mpp_proof import IdentityProof
from contracts.rlp import rlp_bytes, rlp_list, rlp_uint
from contracts.signature import address_of, load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, TEMPO_PATHUSD
from gateway.flow.paid.mpp_seller import EvmTaken, MppRefused, MppSeller, Proven, TempoTaken
from gateway.flow.paid.offers import TillPrice
from gateway.flow.paid.orders import OrderTerms
from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.mpp.credential import (
    authorization_payload,
    charge_payload,
    did_source,
    encode_credential,
    hash_payload,
    proof_payload,
)
from gateway.rails.mpp.issuing import Seal
from gateway.rails.mpp.presented import Presented
from gateway.rails.mpp.receipt import read_mpp_transaction
from gateway.rails.mpp.refusing import MppProblem
from gateway.rails.offer import MppOffer
from tests.unit.gateway.rails.mpp.mpp_bed import read_request
from tests.unit.gateway.rails.mpp.test_mpp_presented import b64url

NOW_MS = 1_767_225_600_000
NOW_S = NOW_MS // 1000
REALM = "pay.example.com"
TILL, OTHER = Address(b"\x11" * 20), Address(b"\x22" * 20)
KEY, STRANGER = load_key(b"\x01" * 32), load_key(b"\x02" * 32)
WALLET = address_of(KEY)
BODY = b'{"amount":"5"}'
ORDER = OrderTerms("top_1", "acc_1", 5_000_000, NOW_MS + 300_000, "", REALM)
TILLS = (TillPrice(BASE_USDC, TILL), TillPrice(MODERATO_PATHUSD, TILL))
SECRET = b"s" * 32


class Now:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class Counting:
    """Randomness that is told apart, no more."""

    def __init__(self) -> None:
        self.count = 0

    def bytes(self, count: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(count, "big")


@pytest.fixture
def clock() -> Now:
    """The time of these tests."""
    return Now()


@pytest.fixture
def make(clock: Now) -> Callable[..., MppSeller]:
    """Sellers that differ in one thing."""

    def made(**changes: Any) -> MppSeller:
        parts: dict[str, Any] = {"seal": Seal([SECRET]), "realm": REALM, "tills": TILLS, "clock": clock}
        return MppSeller(**parts | {"entropy": Counting()} | changes)

    return made


@pytest.fixture
def seller(make: Callable[..., MppSeller]) -> MppSeller:
    """The usual one."""
    return make()


def offers(*lines: str) -> tuple[MppOffer, ...]:
    """Return what our own payer reads."""
    challenge = parse_mpp(402, CIMultiDict([("WWW-Authenticate", line) for line in lines]))
    assert challenge is not None
    assert challenge.rejected == ()
    return challenge.offers + challenge.proofs


def asked(seller: MppSeller, order: OrderTerms = ORDER, body: bytes = BODY, **more: Any) -> tuple[MppOffer, ...]:
    """Return the offers for an order: Tempo's first."""
    return offers(*seller.challenges(order, body, own_header=more.get("own_header", False)))


def charge(offer: MppOffer, **changes: Any) -> TempoCharge:
    """Return the transaction that a stock client would sign."""
    memo = attribution_memo(offer.realm, offer.challenge_id)
    fields: dict[str, Any] = {
        "token": MODERATO_PATHUSD,
        "wallet": WALLET,
        "transfers": (TempoTransfer(offer.pay_to, offer.amount_base, memo),),
        "valid_before": NOW_S + 25,
        "gas": 1_000_000,
        "max_fee_per_gas": 40 * 10**9,
        "max_priority_fee_per_gas": 10**9,
        "sponsored": False,
    }
    return TempoCharge(**fields | changes)


def signed(transaction: TempoCharge, key: Any = KEY) -> bytes:
    """Sign it."""
    return transaction.encode(sign_digest(key, transaction.signing_hash))


def shown(seller: MppSeller, offer: MppOffer, payload: Any, source: str | None = None) -> Presented:
    """Present a payload for an offer; it must at least be readable."""
    value = "Payment " + b64url(
        {"challenge": dict(offer.echo), "payload": dict(payload)} | ({"source": source} if source else {})
    )
    presented = seller.read(["Bearer agp_key", value])
    assert isinstance(presented, Presented)
    return presented


def taken_of(seller: MppSeller, offer: MppOffer, payload: Any, source: str | None = None, body: bytes = BODY) -> Any:
    """Return what becomes of it."""
    return seller.take(shown(seller, offer, payload, source), body, "")


def evm_authorization(offer: MppOffer, **changes: Any) -> Authorization:
    """Return what mppx would sign."""
    fields: dict[str, Any] = {
        "token": BASE_USDC,
        "authorizer": WALLET,
        "pay_to": offer.pay_to,
        "value_base": offer.amount_base,
        "valid_after": 0,
        "valid_before": NOW_S + 300,
        "nonce": mpp_evm_nonce(offer.challenge_id, offer.realm),
    }
    return Authorization(**fields | changes)


def evm_payload(offer: MppOffer, **changes: Any) -> dict[str, str]:
    """Return its payload, signed."""
    authorization = evm_authorization(offer, **changes)
    return dict(authorization_payload(authorization, sign_digest(KEY, authorization.digest)))


# asking


def test_one_order_is_offered_on_every_chain(seller: MppSeller) -> None:
    """Tempo first, then EVM; one amount, each in its token, to the till; bound to order, body and realm."""
    tempo, evm = asked(seller)
    assert [(o.method, o.chain_id, o.asset) for o in (tempo, evm)] == [
        ("tempo", 42431, MODERATO_PATHUSD.address),
        ("evm", 8453, BASE_USDC.address),
    ]
    for offer in (tempo, evm):
        assert (offer.pay_to, offer.amount_base, offer.realm) == (TILL, 5_000_000, REALM)
        echo = dict(offer.echo)
        assert read_request(echo["request"])["externalId"] == "top_1"
        assert (offer.header, offer.expires_at_ms) == ("Authorization", ORDER.expires_at_ms)
        assert "digest" in echo
    assert (tempo.modes, tempo.fee_payer) == (("pull",), False)
    assert {o.header for o in asked(seller, own_header=True)} == {"Payment-Authorization"}


def test_no_two_challenges_are_alike(seller: MppSeller) -> None:
    """One order asked for twice in a millisecond: other ids, so other memos and nonces."""
    ids = [offer.challenge_id for _ in range(3) for offer in asked(seller)]
    assert len(set(ids)) == 6


def test_rates_ends_and_bounds(make: Callable[..., MppSeller]) -> None:
    """A token below par costs more of it, rounded up; a chain's challenges may end sooner; what nobody can book is not asked."""
    tills = (TillPrice(MODERATO_PATHUSD, TILL, 999_999), TillPrice(TEMPO_PATHUSD, TILL, 1))
    (offer,) = asked(make(tills=tills, ttl_s={42431: 25}), replace(ORDER, amount_base=10**12))
    assert offer.amount_base == -(-(10**12) * 10**6 // 999_999)
    assert offer.expires_at_ms == NOW_MS + 25_000
    (short,) = asked(make(tills=tills[:1], ttl_s={42431: 25}), replace(ORDER, expires_at_ms=NOW_MS + 7_000))
    assert short.expires_at_ms == NOW_MS + 7_000


# taking Tempo


def test_a_tempo_payment_is_taken(seller: MppSeller) -> None:
    """Order, payer and the bytes to send; the receipt names them all."""
    offer = asked(seller)[0]
    raw = signed(charge(offer))
    name, value = encode_credential(offer, charge_payload(raw), did_source(42431, WALLET))
    assert name == "Authorization"
    presented = seller.read([value])
    assert isinstance(presented, Presented)
    assert seller.order_of(presented) == ORDER
    taken = seller.take(presented, BODY, "")
    assert isinstance(taken, TempoTaken)
    assert (taken.order.id, taken.order.account_id, taken.order.amount_base) == ("top_1", "acc_1", 5_000_000)
    assert (taken.transaction.raw, taken.transaction.sender, taken.token) == (raw, WALLET, MODERATO_PATHUSD)
    receipt = seller.receipt(presented, taken.transaction.tx_hash)
    assert read_mpp_transaction(CIMultiDict({"Payment-Receipt": receipt})) == taken.transaction.tx_hash
    said = read_request(receipt)
    assert (said["status"], said["challengeId"]) == ("success", offer.challenge_id)


def test_the_order_is_what_was_sealed_and_nobodys_else(make: Callable[..., MppSeller]) -> None:
    """An order without an account, of a pack; prices and rates may have changed since; the secret may have too."""
    order = replace(ORDER, account_id=None, pack="ten", amount_base=10_000_000)
    offer = asked(make(), order, b"")[0]
    later = make(seal=Seal([b"n" * 32, SECRET]), tills=(TillPrice(MODERATO_PATHUSD, TILL, 500_000),))
    presented = shown(later, offer, charge_payload(signed(charge(offer))))
    taken = later.take(presented, b"", "ten")
    assert isinstance(taken, TempoTaken)
    assert (taken.order.account_id, taken.order.amount_base, taken.presented.amount_base) == (None, 10**7, 10**7)
    for pack in ("", "one"):
        refused = later.take(presented, b"", pack)
        assert isinstance(refused, MppRefused)
        assert refused.problem is MppProblem.INVALID_CHALLENGE
    wrong_body = later.take(presented, b"x", "ten")
    assert isinstance(wrong_body, MppRefused)


def test_one_that_is_over_is_expired_and_still_names_its_order(seller: MppSeller, clock: Now) -> None:
    """The caller asks the store first: whether this very challenge was paid."""
    offer = asked(seller)[0]
    presented = shown(seller, offer, charge_payload(signed(charge(offer))))
    clock.ms = ORDER.expires_at_ms
    refused = seller.take(presented, BODY, "")
    assert isinstance(refused, MppRefused)
    assert refused.problem is MppProblem.PAYMENT_EXPIRED
    found = seller.order_of(presented)
    assert found is not None
    assert found.id == "top_1"


TEMPO_WRONGS: dict[str, tuple[Callable[[MppOffer], Any], MppProblem]] = {
    "less": (
        lambda o: charge(o, transfers=(TempoTransfer(TILL, 4_999_999, attribution_memo(o.realm, o.challenge_id)),)),
        MppProblem.PAYMENT_INSUFFICIENT,
    ),
    "more": (
        lambda o: charge(o, transfers=(TempoTransfer(TILL, 5_000_001, attribution_memo(o.realm, o.challenge_id)),)),
        MppProblem.VERIFICATION_FAILED,
    ),
    "another payee": (
        lambda o: charge(o, transfers=(TempoTransfer(OTHER, 5_000_000, attribution_memo(o.realm, o.challenge_id)),)),
        MppProblem.VERIFICATION_FAILED,
    ),
    "another challenge's memo": (
        lambda o: charge(o, transfers=(TempoTransfer(TILL, 5_000_000, attribution_memo(o.realm, "other")),)),
        MppProblem.VERIFICATION_FAILED,
    ),
    "another realm's memo": (
        lambda o: charge(o, transfers=(TempoTransfer(TILL, 5_000_000, attribution_memo("x", o.challenge_id)),)),
        MppProblem.VERIFICATION_FAILED,
    ),
    "a memo of its own": (
        lambda o: charge(o, transfers=(TempoTransfer(TILL, 5_000_000, b"\x05" * 32),)),
        MppProblem.VERIFICATION_FAILED,
    ),
    "a split beside it": (
        lambda o: charge(o, transfers=(*charge(o).transfers, TempoTransfer(OTHER, 1))),
        MppProblem.VERIFICATION_FAILED,
    ),
    "another chain": (lambda o: charge(o, token=TEMPO_PATHUSD), MppProblem.VERIFICATION_FAILED),
    "too late": (lambda o: charge(o, valid_before=NOW_S + 2), MppProblem.PAYMENT_EXPIRED),
    "too long": (lambda o: charge(o, valid_before=NOW_S + 901), MppProblem.VERIFICATION_FAILED),
    "no gas": (lambda o: charge(o, gas=20_999), MppProblem.VERIFICATION_FAILED),
    "all gas": (lambda o: charge(o, gas=30_000_001), MppProblem.VERIFICATION_FAILED),
    "for a sponsor": (lambda o: charge(o, sponsored=True), MppProblem.VERIFICATION_FAILED),
}


@pytest.mark.parametrize("name", TEMPO_WRONGS)
def test_a_tempo_payment_of_something_else_is_not_taken(seller: MppSeller, name: str) -> None:
    """Refused before anything is sent, in the protocol's words, with a fresh challenge to come."""
    offer = asked(seller)[0]
    wrong, problem = TEMPO_WRONGS[name]
    refused = taken_of(seller, offer, {"type": "transaction", "signature": to_hex(signed(wrong(offer)))})
    assert isinstance(refused, MppRefused)
    assert (refused.problem, refused.problem.status) == (problem, 402)


def raw_of(offer: MppOffer, **changes: bytes) -> bytes:
    """Return a transaction whose encoded fields are replaced by name, signed."""
    data = charge(offer).transfers[0].call_data
    fields = {
        "chain": rlp_uint(42431),
        "priority": rlp_uint(1),
        "fee": rlp_uint(40 * 10**9),
        "gas": rlp_uint(10**6),
        "calls": rlp_list(rlp_list(rlp_bytes(MODERATO_PATHUSD.address), rlp_bytes(b""), rlp_bytes(data))),
        "access": rlp_list(),
        "key": rlp_uint(2**256 - 1),
        "nonce": rlp_bytes(b""),
        "before": rlp_uint(NOW_S + 25),
        "after": rlp_bytes(b""),
        "fee_token": rlp_bytes(b""),
        "sponsor": rlp_bytes(b""),
        "authorizations": rlp_list(),
    } | changes
    signature = sign_digest(KEY, keccak256(b"\x76" + rlp_list(*fields.values())))
    return b"\x76" + rlp_list(*fields.values(), rlp_bytes(signature))


def plain(to: Address, value_base: int) -> bytes:
    """Return calls that make a transfer without a memo."""
    data = rlp_bytes(TempoTransfer(to, value_base).call_data)
    return rlp_list(rlp_list(rlp_bytes(MODERATO_PATHUSD.address), rlp_bytes(b""), data))


def test_the_fields_that_our_own_wallet_never_writes(seller: MppSeller) -> None:
    """No fee token and a validAfter in the past, as viem writes them, are fine; what lasts, waits or pays nobody is not."""
    offer = asked(seller)[0]
    for fine in ({}, {"after": rlp_uint(NOW_S - 1)}, {"fee_token": rlp_bytes(OTHER)}, {"nonce": rlp_uint(5)}):
        assert isinstance(taken_of(seller, offer, charge_payload(raw_of(offer, **fine))), TempoTaken), fine
    wrongs: list[dict[str, bytes]] = [
        {"key": rlp_uint(1)},
        {"before": rlp_bytes(b"")},
        {"after": rlp_uint(NOW_S)},
        {"fee": rlp_bytes(b""), "priority": rlp_bytes(b"")},
        {"priority": rlp_uint(41 * 10**9)},
        {"calls": rlp_list()},
        {"calls": plain(TILL, 5_000_000)},
        {
            "calls": rlp_list(
                rlp_list(rlp_bytes(OTHER), rlp_bytes(b""), rlp_bytes(charge(offer).transfers[0].call_data))
            )
        },
    ]
    for wrong in wrongs:
        refused = taken_of(seller, offer, charge_payload(raw_of(offer, **wrong)))
        assert isinstance(refused, MppRefused), wrong
        assert refused.problem is MppProblem.VERIFICATION_FAILED


def test_somebody_elses_payment_is_not_ours_to_claim(make: Callable[..., MppSeller]) -> None:
    """Whoever sees a transaction on its way cannot claim it: its memo is of the challenge that its signer was given."""
    seller = make()
    victim, thief = asked(seller)[0], asked(seller, replace(ORDER, id="top_2", account_id="acc_thief"))[0]
    refused = taken_of(seller, thief, charge_payload(signed(charge(victim))))
    assert isinstance(refused, MppRefused)


def test_source_must_not_contradict_the_signature(seller: MppSeller) -> None:
    """It is a claim: not needed, and refused where it is another's."""
    offer = asked(seller)[0]
    payload = charge_payload(signed(charge(offer)))
    assert isinstance(taken_of(seller, offer, payload, did_source(42431, WALLET)), TempoTaken)
    for source in (did_source(42431, OTHER), did_source(1, WALLET), "x"):
        assert isinstance(taken_of(seller, offer, payload, source), MppRefused)


def test_hashes_and_payloads_of_other_methods_are_refused(seller: MppSeller) -> None:
    """SupportedModes is pull; a proof pays nothing; each method has its payload."""
    tempo, evm = asked(seller)
    for offer, payload in (
        (tempo, hash_payload(b"\xcd" * 32)),
        (tempo, proof_payload(bytes(65))),
        (tempo, evm_payload(evm)),
        (evm, charge_payload(signed(charge(tempo)))),
        (tempo, {}),
        (tempo, {"type": ["transaction"]}),
        (tempo, {"type": "transaction"}),
        (tempo, {"type": "transaction", "signature": "0x"}),
    ):
        refused = taken_of(seller, offer, payload)
        assert isinstance(refused, MppRefused)
        assert refused.problem is MppProblem.VERIFICATION_FAILED


def test_a_till_that_was_closed_takes_nothing(make: Callable[..., MppSeller]) -> None:
    """A challenge for a till or a token that is no longer ours: ask again."""
    offer = asked(make())[0]
    payload = charge_payload(signed(charge(offer)))
    for tills in ((TillPrice(MODERATO_PATHUSD, OTHER),), TILLS[:1]):
        refused = taken_of(make(tills=tills), offer, payload)
        assert isinstance(refused, MppRefused)
        assert refused.problem is MppProblem.INVALID_CHALLENGE


# taking EVM


def test_an_authorization_is_taken(seller: MppSeller) -> None:
    """As `Exact`, for whoever settles x402: one signer, two framings."""
    offer = asked(seller)[1]
    payload = evm_payload(offer)
    taken = taken_of(seller, offer, payload, did_source(8453, WALLET))
    assert isinstance(taken, EvmTaken)
    assert (taken.payer, taken.order.id, taken.exact.network) == (WALLET, "top_1", "eip155:8453")
    assert taken.exact.authorization == evm_authorization(offer)
    assert to_hex(taken.exact.signature) == payload["signature"]
    short_v = payload["signature"][:-2] + f"{int(payload['signature'][-2:], 16) - 27:02x}"
    again = taken_of(seller, offer, payload | {"signature": short_v})
    assert isinstance(again, EvmTaken)
    assert again.exact == taken.exact


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"value_base": 4_999_999}, MppProblem.PAYMENT_INSUFFICIENT),
        ({"value_base": 5_000_001}, MppProblem.VERIFICATION_FAILED),
        ({"pay_to": OTHER}, MppProblem.VERIFICATION_FAILED),
        ({"nonce": b"\x07" * 32}, MppProblem.VERIFICATION_FAILED),
        ({"valid_after": NOW_S}, MppProblem.VERIFICATION_FAILED),
        ({"valid_before": NOW_S + 2}, MppProblem.PAYMENT_EXPIRED),
        ({"valid_before": NOW_S + 4_201}, MppProblem.VERIFICATION_FAILED),
        ({"valid_before": 2**256 - 1}, MppProblem.VERIFICATION_FAILED),
    ],
)
def test_an_authorization_of_something_else_is_not_taken(
    seller: MppSeller, changes: dict[str, Any], problem: MppProblem
) -> None:
    """Amount, payee, prescribed nonce, window."""
    offer = asked(seller)[1]
    refused = taken_of(seller, offer, evm_payload(offer, **changes))
    assert isinstance(refused, MppRefused)
    assert refused.problem is problem


def test_an_authorization_has_one_spelling(seller: MppSeller) -> None:
    """Numbers are texts, hex is whole, windows are not empty, signatures are bounded."""
    offer = asked(seller)[1]
    right = evm_payload(offer)
    for wrong in (
        {"value": 5_000_000},
        {"value": "5e6"},
        {"value": "05000000"},
        {"validAfter": "-1"},
        {"validBefore": "1"},
        {"nonce": "0x12"},
        {"from": "0x12"},
        {"to": None},
        {"signature": "0x" + "ab" * (SIGNATURE_MAX_BYTES + 1)},
        {"signature": None},
    ):
        refused = taken_of(seller, offer, right | wrong)
        assert isinstance(refused, MppRefused), wrong


# proofs


def prove(seller: MppSeller, version: int = 3, body: bytes = b"", key: Any = KEY, **changes: Any) -> Any:
    """Answer the sign-in challenge."""
    line = seller.sign_in_challenge(body, own_header=False)
    assert line is not None
    (offer,) = offers(line)
    wallet = changes.pop("wallet", WALLET)
    proof = IdentityProof(wallet, 42431, offer.challenge_id, changes.pop("realm", REALM), version)  # type: ignore[arg-type]
    source = changes.pop("source", did_source(42431, wallet))
    payload = dict(proof_payload(sign_digest(key, proof.digest))) | changes
    presented = shown(seller, offer, payload, source)
    return seller.verify_proof(presented, body)


def test_a_wallet_proves_its_key(seller: MppSeller) -> None:
    """Version 3, over account, challenge and realm; the receipt's reference is the challenge."""
    proven = prove(seller, body=b"{}")
    assert isinstance(proven, Proven)
    assert (proven.address, proven.chain_id) == (WALLET, 42431)
    line = seller.sign_in_challenge(b"", own_header=True)
    assert line is not None
    assert "Payment-Authorization" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": 1},
        {"key": STRANGER},
        {"realm": "elsewhere.test"},
        {"source": None},
        {"source": "did:pkh:eip155:42431:0x12"},
        {"source": did_source(1, WALLET)},
        {"source": did_source(42431, OTHER)},
        {"type": "transaction"},
        {"signature": "0x12"},
        {"signature": "0x" + "00" * 65},
    ],
)
def test_other_proofs_prove_nothing(seller: MppSeller, changes: dict[str, Any]) -> None:
    """Older versions, another's key, realm, chain or name."""
    refused = prove(seller, **changes)
    assert isinstance(refused, MppRefused)
    assert refused.problem is MppProblem.VERIFICATION_FAILED


def test_a_sign_in_pays_for_nothing_and_a_payment_signs_nobody_in(seller: MppSeller, clock: Now) -> None:
    """Challenges are for what they were given for; a sign-in ends too."""
    line = seller.sign_in_challenge(b"", own_header=False)
    assert line is not None
    (zero,) = offers(line)
    paid = asked(seller)[0]
    as_payment = seller.take(shown(seller, zero, charge_payload(signed(charge(paid)))), b"", "")
    as_proof = seller.verify_proof(shown(seller, paid, proof_payload(bytes(64) + b"\x1b")), BODY)
    for refused in (as_payment, as_proof):
        assert isinstance(refused, MppRefused)
        assert refused.problem is MppProblem.INVALID_CHALLENGE
    assert seller.order_of(shown(seller, zero, {})) is None
    presented = shown(seller, zero, {})
    clock.ms += 300_000
    late = seller.verify_proof(presented, b"")
    assert isinstance(late, MppRefused)
    assert late.problem is MppProblem.PAYMENT_EXPIRED


def test_without_tempo_nobody_signs_in_by_proof(make: Callable[..., MppSeller]) -> None:
    """A proof is Tempo's: other methods know none."""
    assert make(tills=TILLS[:1]).sign_in_challenge(b"", own_header=False) is None


# reading


def test_no_credential_and_two(seller: MppSeller) -> None:
    """None is none; two are a bad request; one that is garbled is asked for again."""
    assert seller.read(["Bearer x"]) is None
    assert seller.read([]) is None
    two = seller.read(["Payment a", "Payment b"])
    assert two == MppRefused(MppProblem.BAD_REQUEST, "a request carries one Payment credential")
    garbled = seller.read(["Payment %"])
    assert isinstance(garbled, MppRefused)
    assert garbled.problem is MppProblem.MALFORMED_CREDENTIAL


def test_nothing_in_a_seller_prints_a_secret(seller: MppSeller) -> None:
    """P10: neither its state nor a refusal shows the secret or the credential."""
    offer = asked(seller)[0]
    raw = to_hex(signed(charge(offer)))[:-2] + "ff"
    refused = taken_of(seller, offer, {"type": "transaction", "signature": raw})
    text = repr(vars(seller)) + repr(refused)
    assert "ssss" not in text
    assert raw[2:40] not in text
    assert json.dumps(checksum(WALLET)) not in text
    assert parse_bytes32("0x" + SECRET.hex()).hex() not in text
