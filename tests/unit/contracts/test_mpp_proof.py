"""The zero-amount proof equals mppx's and eth-account's typed data."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import Address, ContractError, checksum, parse_address, to_hex
from contracts.mpp_proof import IdentityProof, ProofVersion

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/contracts/tempo.json").read_text())
ID, REALM = VECTORS["challenge"]["id"], VECTORS["challenge"]["realm"]
PROOF = IdentityProof(parse_address(VECTORS["proofs"]["wallet"]), VECTORS["proofs"]["chain_id"], ID, REALM)
FIELDS = {
    1: [("string", "challengeId")],
    2: [("string", "challengeId"), ("string", "realm")],
    3: [("address", "account"), ("string", "challengeId"), ("string", "realm")],
}
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def test_the_current_version_is_three() -> None:
    """What is not asked for otherwise binds account, challenge and realm."""
    assert PROOF.version == 3


@pytest.mark.parametrize("version", get_args(ProofVersion))
def test_digest_is_mppxs(version: ProofVersion) -> None:
    """Each version's digest is pinned."""
    digest = dataclasses.replace(PROOF, version=version).digest
    assert to_hex(digest) == VECTORS["proofs"]["digests"][str(version)]


@given(
    wallet=st.binary(min_size=20, max_size=20).map(Address),
    chain_id=st.integers(min_value=1, max_value=2**63 - 1),
    challenge_id=texts,
    realm=texts,
    version=st.sampled_from(get_args(ProofVersion)),
)
def test_digest_equals_eth_account(
    wallet: Address, chain_id: int, challenge_id: str, realm: str, version: ProofVersion
) -> None:
    """Any proof of any version hashes to eth-account's digest."""
    domain = {"name": "MPP", "version": str(version), "chainId": chain_id}
    values = {"account": checksum(wallet), "challengeId": challenge_id, "realm": realm}
    types = {"Proof": [{"type": type_, "name": name} for type_, name in FIELDS[version]]}
    message = {name: values[name] for _, name in FIELDS[version]}
    expected = bytes(_hash_eip191_message(encode_typed_data(domain, types, message)))
    assert IdentityProof(wallet, chain_id, challenge_id, realm, version).digest == expected


@pytest.mark.parametrize(
    "change",
    [
        {"wallet": b"\1" * 19},
        {"chain_id": 0},
        {"chain_id": 2**63},
        {"challenge_id": ""},
        {"challenge_id": b"id"},
        {"realm": ""},
        {"realm": "\udfff"},
        {"realm": "x" * 4097},
        {"version": 0},
        {"version": 4},
        {"version": True},
        {"version": "3"},
    ],
)
def test_refuses_half_a_proof(change: dict[str, Any]) -> None:
    """Every field is checked when the proof is made."""
    with pytest.raises(ContractError):
        dataclasses.replace(PROOF, **change)
