"""T3: one EIP-3009 signature, and one recovery, against libsecp256k1 alone and against eth-account."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from eth_account import Account
from eth_account.messages import encode_typed_data

from contracts.codec import Address, checksum
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key, recover_address, sign_digest
from contracts.tokens import BASE_USDC
from tests.bench.figures import Contest, Measure, Ratio, Section
from tests.bench.processes import TEST_CORE, pinned

T = TypeVar("T")
SECRET = bytes(range(1, 33))
COUNT, SLOW_COUNT = 4_000, 400
SIGN_FLOOR, RECOVER_FLOOR = "floor: raw ecdsa_sign_recoverable", "floor: raw ecdsa_recover"
SIGN, RECOVER = "sign: digest + sign_digest", "recover: digest + recover_address"
SIGN_OFFICIAL, RECOVER_OFFICIAL = "eth_account sign_typed_data", "eth_account recover_message"


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section("T3", "signing and recovering an authorization against the secp256k1 floor")
    key = load_key(SECRET)
    many = [_authorization(key, n) for n in range(int(COUNT * scale))]
    few = many[: int(SLOW_COUNT * scale)]
    signed = [(a, sign_digest(key, a.digest)) for a in many]
    typed = [(a, s, _typed_data(a)) for a, s in signed[: len(few)]]
    raw = _Raw(key)
    contest = Contest(rounds)
    contest.add(SIGN_FLOOR, _each(raw.sign, [a.digest for a in many]))
    contest.add(SIGN, _each(lambda a: sign_digest(key, a.digest), many))
    contest.add(SIGN_OFFICIAL, _each(lambda t: Account.sign_typed_data(SECRET, full_message=t[2]), typed))
    contest.add(RECOVER_FLOOR, _each(raw.recover, [raw.parsed(a.digest, s) for a, s in signed]))
    contest.add(RECOVER, _each(lambda pair: recover_address(pair[0].digest, pair[1]), signed))
    contest.add(RECOVER_OFFICIAL, _each(_recover_official, typed))
    with pinned(TEST_CORE):
        contest.run()
    section.rows = contest.rows()
    for name, ours, theirs, target, at_most in (
        ("sign / floor", SIGN, SIGN_FLOOR, 1.25, True),
        ("recover / floor", RECOVER, RECOVER_FLOOR, 1.2, True),
        ("eth_account sign / ours", SIGN_OFFICIAL, SIGN, 10, False),
        ("eth_account recover / ours", RECOVER_OFFICIAL, RECOVER, 6, False),
    ):
        section.ratios.append(Ratio(name, contest.ratio(ours, theirs, "CPU us each"), target, at_most))
    section.notes.append(
        "eth_account uses coincurve here; as x402[evm] installs it, without, it is ten times slower yet"
    )
    return section


def _each(function: Callable[[T], object], values: list[T]) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = time.process_time()
        for value in values:
            function(value)
        seconds = time.process_time() - before
        return {"per s": len(values) / seconds, "CPU us each": seconds / len(values) * 1e6}

    return run


def _authorization(key: PrivateKey, number: int) -> Authorization:
    return Authorization(
        token=BASE_USDC,
        authorizer=address_of(key),
        pay_to=Address(b"\x22" * 20),
        value_base=1_000,
        valid_after=0,
        valid_before=1_900_000_000,
        nonce=number.to_bytes(32, "big"),
    )


def _typed_data(a: Authorization) -> dict[str, object]:
    words = ("name:string", "version:string", "chainId:uint256", "verifyingContract:address")
    fields = (
        "from:address",
        "to:address",
        "value:uint256",
        "validAfter:uint256",
        "validBefore:uint256",
        "nonce:bytes32",
    )
    domain = {
        "name": a.token.name,
        "version": a.token.version,
        "chainId": a.token.chain_id,
        "verifyingContract": checksum(a.token.address),
    }
    message = {
        "from": checksum(a.authorizer),
        "to": checksum(a.pay_to),
        "value": a.value_base,
        "validAfter": a.valid_after,
        "validBefore": a.valid_before,
        "nonce": a.nonce,
    }
    types = {"EIP712Domain": _members(words), "TransferWithAuthorization": _members(fields)}
    return {"types": types, "primaryType": "TransferWithAuthorization", "domain": domain, "message": message}


def _members(described: tuple[str, ...]) -> list[dict[str, str]]:
    return [dict(zip(("name", "type"), each.split(":"), strict=True)) for each in described]


def _recover_official(case: tuple[Authorization, bytes, dict[str, object]]) -> str:
    return str(Account.recover_message(encode_typed_data(full_message=case[2]), signature=case[1]))


class _Raw:
    """libsecp256k1 through coincurve's own binding, nothing around it."""

    def __init__(self, key: PrivateKey) -> None:
        self._ctx, self._secret = GLOBAL_CONTEXT.ctx, key.secret

    def sign(self, digest: bytes) -> object:
        signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        ok = lib.secp256k1_ecdsa_sign_recoverable(self._ctx, signature, digest, self._secret, ffi.NULL, ffi.NULL)
        assert ok
        return signature

    def parsed(self, digest: bytes, signature: bytes) -> tuple[bytes, object]:
        found = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        ok = lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
            self._ctx, found, signature[:64], signature[64] - 27
        )
        assert ok
        return digest, found

    def recover(self, case: tuple[bytes, object]) -> object:
        public = ffi.new("secp256k1_pubkey *")
        assert lib.secp256k1_ecdsa_recover(self._ctx, public, case[1], case[0])
        return public
