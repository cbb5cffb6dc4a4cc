"""What the gateway answers in CryptoVPS's stead, in its exact shapes, with the agent's own figures (P9).

Must not know records or flows.  Theory: the vendor's own scripts register, log in and look at their balance before they
deploy; they must find there what is theirs, and nothing of the account that all agents share.
"""

from typing import Any, Final

from gateway.account_ports import LocalAnswer, Own
from gateway.core.routes import Match
from gateway.vendors.account import usd_text

__all__ = ["local", "refusal"]

_OK: Final = 200
_CREATED: Final = 201
_INVALID: Final = 400
_UNAUTHORIZED: Final = 401
_UNPROCESSABLE: Final = 422


def local(match: Match, own: Own) -> LocalAnswer:
    """Return the answer of a local route. Raises ValueError for a route that is none of them."""
    name = match.route.name
    if name in {"register", "login"}:
        if own.token is None:
            return refusal(_UNAUTHORIZED, "invalid email or password")
        status = _CREATED if name == "register" else _OK
        return LocalAnswer(status, {"accessToken": own.token, "user": _user(own)})
    if name == "me":
        return LocalAnswer(_OK, {"user": _user(own)})
    if name == "billing":
        figures = {"balance": usd_text(own.available_base), "hourlySpend": usd_text(own.hourly_base, places=0)}
        return LocalAnswer(_OK, figures)
    raise ValueError(f"{name}: not answered here")


def refusal(status: int, detail: str) -> LocalAnswer:
    """Return a refusal as the vendor words it: `error`, and `details` beside it where the input was wrong.

    The vendor knows no 422: what it refuses in a body is a 400.
    """
    if status in {_INVALID, _UNPROCESSABLE}:
        return LocalAnswer(_INVALID, {"error": "validation failed", "details": [{"message": detail}]})
    return LocalAnswer(status, {"error": detail})


def _user(own: Own) -> dict[str, Any]:
    return {"id": own.account_id, "email": own.email, "balance": usd_text(own.available_base)}
