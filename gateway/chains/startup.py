"""The check before any money moves: each configured token is on chain what the configuration says it is.

Must not know wallets or prices. Theory: a signature under a wrong domain is either worthless or, worse, valid for another
contract, and wrong decimals or another currency are a wrong price; published token tables have shipped wrong names twice,
so the contract itself is asked.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from contracts.calls import (
    CallError,
    decode_bytes32,
    decode_string,
    decode_uint,
    encode_decimals,
    encode_domain_separator,
    encode_name,
    encode_version,
    selector,
)
from contracts.codec import checksum, to_hex
from contracts.tokens import Token
from gateway.chains.quorum import QuorumChain
from gateway.ports import Block, ChainUnavailable

__all__ = ["TokenMismatch", "verify_tokens"]

_ATTEMPTS = 3
_PAUSE_S = 1.0
_CURRENCY = selector("currency()")
_USD = "USD"

T = TypeVar("T", str, int, bytes)


class TokenMismatch(Exception):  # noqa: N818 - named for what is known
    """The contract is not the configured token; ``field`` says in what."""

    def __init__(self, token: Token, field: str, problem: str) -> None:
        super().__init__(
            f"token {token.symbol} ({checksum(token.address)}) on chain {token.chain_id}: {field}: {problem}"
        )
        self.token, self.field = token, field


async def verify_tokens(chain: QuorumChain, tokens: Iterable[Token]) -> None:
    """Compare each token with the configuration, by quorum: code, name, version, decimals and DOMAIN_SEPARATOR.

    A TIP-20 signs under no domain: of it code and decimals, and that its currency is the dollar. Reads at a recent block,
    as configuration is checked here and not money. Raises TokenMismatch for the first that differs, ChainUnavailable when
    the endpoints stay behind each other, ChainDisagreement.
    """
    for token in tokens:
        if token.chain_id != chain.chain_id:
            raise TokenMismatch(token, "chain_id", f"checked against chain {chain.chain_id}")
        await _verify_patiently(chain, token)


async def _verify_patiently(chain: QuorumChain, token: Token) -> None:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await _verify(chain, token, await chain.head())
        except ChainUnavailable:  # most often a balanced node that has not the newest block yet
            await asyncio.sleep(_PAUSE_S)
    return await _verify(chain, token, await chain.head())


async def _verify(chain: QuorumChain, token: Token, at: Block) -> None:
    if not await chain.code(token.address, at):
        raise TokenMismatch(token, "code", "there is no contract at this address")
    if token.standard == "tip20":
        await _compare(chain, token, at, "decimals", encode_decimals(), decode_uint, token.decimals)
        await _compare(chain, token, at, "currency", _CURRENCY, decode_string, _USD)
        return
    await _compare(chain, token, at, "name", encode_name(), decode_string, token.name)
    await _compare(chain, token, at, "version", encode_version(), decode_string, token.version)
    await _compare(chain, token, at, "decimals", encode_decimals(), decode_uint, token.decimals)
    separator = token.domain_separator
    await _compare(chain, token, at, "DOMAIN_SEPARATOR", encode_domain_separator(), decode_bytes32, separator)


async def _compare(
    chain: QuorumChain, token: Token, at: Block, field: str, data: bytes, decode: Callable[[bytes], T], expected: T
) -> None:
    answer = await chain.view(token.address, data, at)
    if answer is None:
        raise TokenMismatch(token, field, "the contract has no such function")
    try:
        found = decode(answer)
    except CallError as error:
        raise TokenMismatch(token, field, str(error)) from None
    if found != expected:
        raise TokenMismatch(token, field, f"on chain {_show(found)}, configured {_show(expected)}")


def _show(value: str | int | bytes) -> str:
    return to_hex(value) if isinstance(value, bytes) else repr(value)
