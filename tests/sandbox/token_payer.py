"""Signatures for the token's tests, by eth-account: a peer that shares no code with contract or product."""

from dataclasses import replace
from typing import Any

from eth_account import Account

from sandbox.chain import Authorization, LocalBase

_DOMAIN = {
    "name": "USD Coin",
    "version": "2",
    "chainId": 8453,
    "verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
}
_AUTHORIZATION = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"
_FIELDS = {
    "TransferWithAuthorization": _AUTHORIZATION,
    "ReceiveWithAuthorization": _AUTHORIZATION,
    "CancelAuthorization": "address authorizer,bytes32 nonce",
    "Permit": "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline",
}


def sign_message(kind: str, key: str, *values: object) -> bytes:
    """Return r, s, v of one of the token's four messages."""
    members = [member.split() for member in _FIELDS[kind].split(",")]
    types = {kind: [{"type": type_, "name": name} for type_, name in members]}
    message: dict[str, Any] = dict(zip((name for _, name in members), values, strict=True))
    return bytes(Account.sign_typed_data(key, _DOMAIN, types, message).signature)


class Payer:
    """A funded account of the chain, and what it would sign to pay account 1."""

    def __init__(self, chain: LocalBase) -> None:
        self.chain = chain
        self.address, self.key = chain.dev_account(0)
        self.payee, _ = chain.dev_account(1)
        chain.mint(self.address, 10_000_000)
        self.authorization = Authorization(
            sender=self.address,
            to=self.payee,
            value=9_990_000,
            valid_after=0,
            valid_before=chain.head()["timestamp"] + 3600,
            nonce="0x" + "5e" * 32,
        )

    def transfer(self, **changes: Any) -> tuple[Authorization, bytes]:
        """Return a signed authorization of 9.99 USDC, with some fields changed before signing."""
        authorization = replace(self.authorization, **changes)
        return authorization, sign_message("TransferWithAuthorization", self.key, *authorization.words())

    def cancellation(self) -> tuple[str, str, bytes]:
        """Return authorizer, nonce and signature of the cancellation of `authorization`."""
        nonce = self.authorization.nonce
        return self.address, nonce, sign_message("CancelAuthorization", self.key, self.address, nonce)
