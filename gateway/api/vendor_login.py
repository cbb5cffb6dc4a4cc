"""A vendor's own login, answered by us: the password is an agent's API key, what it gets is a token for that vendor alone.

Must not know any vendor's shapes.  Theory: a script that logs in knows its vendor and nothing of us, so it is let in, and
turned away, in the vendor's words; what it shows is an API key or nothing, for a token that renewed itself would never
end.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from gateway.account_ports import AccountVendor, LocalAnswer
from gateway.api.attempts import Attempts
from gateway.api.auth import key_of_password, own_key
from gateway.api.body import read_small
from gateway.api.callers import Callers
from gateway.api.deps import ApiSettings
from gateway.api.exchange import Exchange
from gateway.api.respond import NO_STORE, answer
from gateway.core.apikeys import allows
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.core.routes import Match
from gateway.core.strict_json import dump_json
from gateway.core.vendor_tokens import MAX_LIVES_S, VendorTokens, is_email
from gateway.ports import Clock, Store

MAX_BODY_BYTES: Final = 4 * 1024
MAX_BODY_S: Final = 10.0

_UNAUTHORIZED, _FORBIDDEN, _UNPROCESSABLE, _TOO_MANY = 401, 403, 422, 429
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="gateway"')


@dataclass(frozen=True, slots=True)
class Entered:
    """An agent that is let in: its key, the address that it named ("" for none), and its fresh token."""

    key: ApiKey
    email: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A login that is refused, in the vendor's shape."""

    answer: LocalAnswer
    headers: tuple[tuple[str, str], ...] = ()


class VendorLogins:
    """Serves the logins of every vendor. One object, for it counts failures by address."""

    def __init__(self, store: Store, tokens: VendorTokens, clock: Clock, callers: Callers) -> None:
        self._store, self._tokens, self._clock = store, tokens, clock
        self._callers, self._attempts = callers, Attempts()

    def enter(self, request: web.BaseRequest, vendor: AccountVendor, match: Match, body: bytes) -> Entered | TurnedAway:
        """Let an agent in by the password in the body, else by an API key in a header.

        A vendor token in a header does not count: it would live for ever. Raises Problem("bad_request") for two headers
        where one may stand.
        """
        keys = self._store.view.keys_by_digest
        email, password = vendor.password_in(match, body) or ("", "")
        key = key_of_password(password, keys) or own_key(request, keys)
        now_ms = self._clock.now_ms()
        if key is None:
            # A live key is let in whatever others at its address do: with 256 random bits, it is no guess.
            wait_s = self._attempts.failed(self._callers.address(request), now_ms)
            if wait_s:
                said = vendor.refusal(_TOO_MANY, "too many failed logins; wait before the next")
                return TurnedAway(said, (("Retry-After", str(wait_s)),))
            detail = "invalid credentials: the password is an API key of this gateway"
            return TurnedAway(vendor.refusal(_UNAUTHORIZED, detail), (_CHALLENGE,))
        if not allows(key.scopes, f"proxy:{vendor.name}"):
            return TurnedAway(vendor.refusal(_FORBIDDEN, f'this needs a key with the scope "proxy:{vendor.name}"'))
        if email and not is_email(email):
            return TurnedAway(vendor.refusal(_UNPROCESSABLE, "email must be an e-mail address in ASCII"))
        token = self._tokens.make(key.id, vendor.name, email, now_ms, token_lives_s(vendor))
        return Entered(key, email, token)

    def refuse(self, exchange: Exchange, turned_away: TurnedAway) -> web.Response:
        """Write a refusal like any answer of ours; nobody is known, so it tells no balance."""
        said = turned_away.answer
        return answer(exchange, self._store, said.status, dump_json(said.document), NO_STORE, *turned_away.headers)


def token_lives_s(vendor: AccountVendor) -> int:
    """Return how long our tokens live: as long as the vendor's own by its document, a day at most."""
    return min(vendor.token_lives_s, MAX_LIVES_S)


async def read_login_body(request: web.BaseRequest, settings: ApiSettings) -> bytes:
    """Return the body of a login. Raises Problem: body_oversized, or bad_request for one that comes too slowly.

    The span is for the whole body: nobody is known yet who could be held to a share of the connections.
    """
    try:
        async with asyncio.timeout(MAX_BODY_S):
            return await read_small(request, MAX_BODY_BYTES, settings.body_silence_s)
    except TimeoutError:
        raise Problem("bad_request", f"the body of a login must come within {MAX_BODY_S:g} seconds") from None
