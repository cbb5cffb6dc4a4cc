"""`GET /v1/deposits`: how to put money into an account by a plain transfer, without answering a 402.

Must not know what comes in.  Theory: what an agent must get right is written down whole, address, memo and who may send it,
because a transfer that says less than that belongs to nobody until a human has looked.
"""

from typing import Any, Final

from contracts.codec import Address, checksum
from gateway.api.asked import query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.schemas import ADDRESS, HASH, TEXT, maybe, named, record, several
from gateway.api.views import hex_or_none
from gateway.core.apikeys import READ
from gateway.flow.paid.deposits import Deposits, Way

BY_MEMO: Final = "call transferWithMemo with this memo, from any wallet"
BY_WALLET: Final = (
    "transfer from one of your wallets that has signed in (POST /v1/wallet-keys) or that opened this account"
)
EXAMPLE: Final = {
    "ways": [
        {
            "network": "eip155:8453",
            "asset": "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            "symbol": "USDC",
            "to": "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
            "memo": None,
            "how": BY_WALLET,
        }
    ],
    "wallets": ["0x8EcBd65228930060363c70854dA7D37d57fFC358"],
}
DEPOSITS = named(
    "Deposits",
    record(
        ways=several(
            record(
                network={**TEXT, "description": "CAIP-2"},
                asset={**TEXT, "description": "CAIP-19"},
                symbol=TEXT,
                to=ADDRESS,
                memo=maybe(HASH),
                how=TEXT,
            )
        ),
        wallets={**several(ADDRESS), "description": "whose plain transfers are credited to this account"},
    ),
    EXAMPLE,
)


async def show_deposits(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with every way to deposit. A deposit is credited when it is final, and never refunded."""
    query_of(exchange.query, frozenset())
    deposits, account_id = _deposits(deps), exchange.account_id
    wallets = deposits.wallets_of(account_id)
    return Told(
        {
            "ways": [_view(way) for way in deposits.ways_of(account_id, wallets)],
            "wallets": [checksum(Address(wallet)) for wallet in wallets],
        }
    )


def _view(way: Way) -> dict[str, Any]:
    return {
        "network": way.token.network.caip2,
        "asset": way.token.asset_id,
        "symbol": way.token.symbol,
        "to": checksum(Address(way.address)),
        "memo": hex_or_none(way.memo),
        "how": BY_WALLET if way.memo is None else BY_MEMO,
    }


def _deposits(deps: ApiDeps) -> Deposits:
    assert deps.deposits is not None, "its route is served only where there are tills"
    return deps.deposits


ENDPOINTS = (
    Endpoint("GET", "/v1/deposits", "How to deposit by a plain transfer", show_deposits, DEPOSITS, scope=READ),
)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the route of a service that has tills, none of another."""
    return ENDPOINTS if deps.deposits is not None else ()
