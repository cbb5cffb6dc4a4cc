"""`POST /v1/wallet-keys`: an API key for whoever proves a wallet's key, by sign-in-with-x or by MPP's zero-amount proof.

Must not know how signatures are checked.  Theory: no key is asked, so whoever asks without a proof gets a challenge in every
form that wallets answer, and nothing is kept of it; a proof that is no good gets a fresh one, and costs us nothing.
"""

from typing import Any, Final

from gateway.api.asked import query_of
from gateway.api.attempts import site_of
from gateway.api.body import read_small
from gateway.api.cors import NO_CONTENT, allowing, preflight, readable
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Demand, Endpoint, Told
from gateway.api.exchange import Exchange, single_header
from gateway.api.once import CREATED
from gateway.api.schemas import TEXT, named, record, several
from gateway.core.apikeys import NewKey
from gateway.core.problems import Problem
from gateway.flow.paid.mpp_seller import MppRefused
from gateway.flow.paid.wallets import WalletDoor
from gateway.ports import ChainUnavailable
from gateway.rails.mpp.issuing import AUTHORIZATION, PAYMENT_AUTHORIZATION
from gateway.rails.mpp.refusing import PROBLEM_BASE, MppProblem
from gateway.rails.x402.siwx import HEADER, RANDOM_BYTES, REQUIRED, SignInRefused

MAX_BODY_BYTES = 4 * 1024
PAYMENT_REQUIRED: Final = 402
ROUTE: Final = "/v1/wallet-keys"
EXAMPLE: Final = {
    "id": "key_01M82FF94XHJFCH65KXKZ2P4SN",
    "account": "acct_01M82FF94XHJFCH65KXKZ2P4SN",
    "scopes": ["keys", "proxy", "read"],
    "key": "gk_key_01M82FF94XHJFCH65KXKZ2P4SN_…",
}
WALLET_KEY = named(
    "WalletKey",
    record(id=TEXT, account=TEXT, scopes=several(TEXT), key={**TEXT, "description": "shown this once"}),
    EXAMPLE,
)


async def create_wallet_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer a proof with a new key, anything else with a challenge. Raises Problem."""
    query_of(exchange.query, frozenset())
    door = _door(deps)
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    signed = single_header(exchange.request, HEADER)
    headers = exchange.request.headers
    shown = [(name, value) for name in (AUTHORIZATION, PAYMENT_AUTHORIZATION) for value in headers.getall(name, [])]
    presented = None if door.mpp is None else door.mpp.read([value for _, value in shown])
    if signed is not None and presented is not None:
        raise Problem("bad_request", "sign in in one way: two proofs came with this request", HEADER)
    if signed is not None:
        return await _sign_in(deps, exchange, door, signed, body)
    if presented is None or door.mpp is None:
        asking = MppRefused(MppProblem.PAYMENT_REQUIRED, "sign in with a wallet to get a key")
        return _challenge(deps, exchange, door, body, asking)
    shown_in = next((name for name, value in shown if "payment" in value.lower()), None)
    if isinstance(presented, MppRefused):
        return _challenge(deps, exchange, door, body, presented, shown_in)
    proven = door.mpp.verify_proof(presented, body)
    if isinstance(proven, MppRefused):
        return _challenge(deps, exchange, door, body, proven, shown_in)
    made = await door.wallets.proven(proven.address, proven.challenge_id, _site(deps, exchange))
    return _made(made, ("Payment-Receipt", door.mpp.receipt(presented)))


async def _sign_in(deps: ApiDeps, exchange: Exchange, door: WalletDoor, signed: str, body: bytes) -> Told:
    try:
        asked = door.desk.read(signed, deps.clock.now_ms())
        deps.keyless.count(deps.callers.address(exchange.request), deps.clock.now_ms())
        made = await door.wallets.sign_in(asked, _site(deps, exchange))
    except SignInRefused as refused:
        wrong = MppRefused(MppProblem.VERIFICATION_FAILED, str(refused))
        return _challenge(deps, exchange, door, body, wrong, HEADER)
    except ChainUnavailable:
        raise Problem("not_ready", "the chain that could tell does not answer; ask again shortly") from None
    return _made(made)


async def allow_wallet_key(_deps: ApiDeps, _exchange: Exchange) -> Told:
    """Tell a browser that a page may sign in there."""
    return Told(b"", NO_CONTENT, _PREFLIGHT)


def _site(deps: ApiDeps, exchange: Exchange) -> bytes:
    return site_of(deps.callers.address(exchange.request))


def _challenge(
    deps: ApiDeps, exchange: Exchange, door: WalletDoor, body: bytes, why: MppRefused, field: str | None = None
) -> Told:
    """Return a 402 that asks for a signature and for no money; its nonces are new. `field` held the proof that was none."""
    extension = door.desk.extension(deps.clock.now_ms(), deps.entropy.bytes(RANDOM_BYTES))
    document: dict[str, Any] = {
        "type": PROBLEM_BASE + why.problem.value,
        "title": "Sign in with a wallet",
        "status": PAYMENT_REQUIRED,
        "detail": why.detail,
        "remedy": "sign the message of `extensions`, or answer WWW-Authenticate; it costs nothing",
        "code": "payment_required",
        "request_id": exchange.request_id,
        "extensions": extension,
    }
    if field is not None:
        document["field"] = field
    headers = [(REQUIRED, door.desk.header(extension))]
    challenge = None if door.mpp is None else door.mpp.sign_in_challenge(body, own_header=False)
    if challenge is not None:
        headers.append(("WWW-Authenticate", challenge))
    return Told(document, PAYMENT_REQUIRED, tuple(headers), "application/problem+json")


def _made(made: NewKey, *headers: tuple[str, str]) -> Told:
    key = made.key
    document = {"id": key.id, "account": key.account_id, "scopes": list(key.scopes), "key": made.text.reveal()}
    return Told(document, CREATED, headers)


def _door(deps: ApiDeps) -> WalletDoor:
    assert deps.wallets is not None, "its route is served only where wallets may sign in"
    return deps.wallets


_TAKES = (HEADER, PAYMENT_AUTHORIZATION)
_DEMAND = Demand("what to sign: it costs nothing", (REQUIRED, "WWW-Authenticate"), _TAKES)
_PREFLIGHT = allowing(("POST",), _TAKES)
ENDPOINTS = (
    Endpoint(
        "POST",
        ROUTE,
        "An API key of a wallet's account, for a signature",
        create_wallet_key,
        WALLET_KEY,
        public=True,
        status=CREATED,
        tells=("Payment-Receipt",),
        demand=_DEMAND,
        problems=("body_oversized", "challenge_used", "too_many_calls", "not_ready"),
        always=readable(*_DEMAND.tells, "Payment-Receipt"),
    ),
    preflight(ROUTE, "May a page sign in here", allow_wallet_key),
)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the route of a service that wallets may sign in to, none of another."""
    return ENDPOINTS if deps.wallets is not None else ()
