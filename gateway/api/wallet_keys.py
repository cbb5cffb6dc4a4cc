"""`POST /v1/wallet-keys`: an API key for whoever proves a wallet's key, by sign-in-with-x or by MPP's zero-amount proof.

Must not know how signatures are checked.  Theory: no key is asked, so whoever asks without a proof gets a challenge in every
form that wallets answer, and nothing is kept of it; a proof that is no good gets a fresh one, and costs us nothing.
"""

from typing import Any, Final

from gateway.api.asked import query_of
from gateway.api.attempts import site_of
from gateway.api.body import read_small
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
EXPOSED: Final = ("Access-Control-Expose-Headers", f"{REQUIRED}, WWW-Authenticate, Payment-Receipt")
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
    values = [value for name in (AUTHORIZATION, PAYMENT_AUTHORIZATION) for value in headers.getall(name, [])]
    presented = None if door.mpp is None else door.mpp.read(values)
    if signed is not None and presented is not None:
        raise Problem("bad_request", "sign in in one way: two proofs came with this request")
    if signed is not None:
        return await _sign_in(deps, exchange, door, signed, body)
    if presented is None or door.mpp is None:
        return _challenge(deps, exchange, door, body, MppProblem.PAYMENT_REQUIRED, "sign in with a wallet to get a key")
    if isinstance(presented, MppRefused):
        return _challenge(deps, exchange, door, body, presented.problem, presented.detail)
    proven = door.mpp.verify_proof(presented, body)
    if isinstance(proven, MppRefused):
        return _challenge(deps, exchange, door, body, proven.problem, proven.detail)
    made = await door.wallets.proven(proven.address, proven.challenge_id, site_of(exchange.request.remote))
    return _made(made, ("Payment-Receipt", door.mpp.receipt(presented)))


async def _sign_in(deps: ApiDeps, exchange: Exchange, door: WalletDoor, signed: str, body: bytes) -> Told:
    try:
        asked = door.desk.read(signed, deps.clock.now_ms())
        deps.keyless.count(exchange.request.remote, deps.clock.now_ms())
        made = await door.wallets.sign_in(asked, site_of(exchange.request.remote))
    except SignInRefused as refused:
        return _challenge(deps, exchange, door, body, MppProblem.VERIFICATION_FAILED, str(refused))
    except ChainUnavailable:
        raise Problem("not_ready", "the chain that could tell does not answer; ask again shortly") from None
    return _made(made)


def _challenge(
    deps: ApiDeps, exchange: Exchange, door: WalletDoor, body: bytes, problem: MppProblem, detail: str
) -> Told:
    """Return a 402 that asks for a signature and for no money; its nonces are new."""
    extension = door.desk.extension(deps.clock.now_ms(), deps.entropy.bytes(RANDOM_BYTES))
    document: dict[str, Any] = {
        "type": PROBLEM_BASE + problem.value,
        "title": "Sign in with a wallet",
        "status": PAYMENT_REQUIRED,
        "detail": detail,
        "remedy": "sign the message of `extensions`, or answer WWW-Authenticate; it costs nothing",
        "code": "payment_required",
        "request_id": exchange.request_id,
        "extensions": extension,
    }
    headers = [(REQUIRED, door.desk.header(extension)), EXPOSED]
    challenge = None if door.mpp is None else door.mpp.sign_in_challenge(body, own_header=False)
    if challenge is not None:
        headers.append(("WWW-Authenticate", challenge))
    return Told(document, PAYMENT_REQUIRED, tuple(headers), "application/problem+json")


def _made(made: NewKey, *headers: tuple[str, str]) -> Told:
    key = made.key
    document = {"id": key.id, "account": key.account_id, "scopes": list(key.scopes), "key": made.text.reveal()}
    return Told(document, CREATED, (EXPOSED, *headers))


def _door(deps: ApiDeps) -> WalletDoor:
    assert deps.wallets is not None, "its route is served only where wallets may sign in"
    return deps.wallets


_DEMAND = Demand("what to sign: it costs nothing", (REQUIRED, "WWW-Authenticate"), (HEADER, PAYMENT_AUTHORIZATION))
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/wallet-keys",
        "An API key of a wallet's account, for a signature",
        create_wallet_key,
        WALLET_KEY,
        public=True,
        status=CREATED,
        tells=("Payment-Receipt",),
        demand=_DEMAND,
        problems=("body_oversized", "challenge_used", "too_many_calls", "not_ready"),
    ),
)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the route of a service that wallets may sign in to, none of another."""
    return ENDPOINTS if deps.wallets is not None else ()
