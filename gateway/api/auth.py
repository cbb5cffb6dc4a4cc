"""Who asks: one API key in one of three places, one SHA-256, one look-up; below one vendor, a token for it as well.

Must not know what is asked.  Theory: whatever is wrong with a key costs the asker the same work and tells the same
nothing; the key itself goes no further than this module.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateway.api.exchange import single_header
from gateway.core.apikeys import allows, digest_of, key_id_of
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.core.vendor_tokens import PREFIX, VendorTokens
from gateway.core.view import View
from gateway.ports import Clock

MAX_BASIC_CHARS = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks below a vendor. `email` is the address under which it logged in there, "" where it came with its key."""

    key: ApiKey
    email: str = field(default="", repr=False)


def authenticate(request: web.BaseRequest, keys: Mapping[bytes, ApiKey]) -> ApiKey:
    """Return the key of a request: X-Api-Key, Bearer, or Basic with the key as user name or password.

    Raises Problem: key_missing, key_unknown, key_revoked. X-Api-Key wins, so that Authorization stays free for others.
    """
    return _key_of(_shown(request)[0], keys)


def authenticate_at(
    request: web.BaseRequest, view: View, tokens: VendorTokens | None, vendor: str, clock: Clock
) -> Caller:
    """Return who asks below one vendor: `authenticate`, and as Bearer also a token that was made for this vendor.

    Raises Problem: key_missing, key_unknown (a token that has expired, or is for another vendor), key_revoked. A token
    is worth what its API key is worth now.
    """
    text, as_bearer = _shown(request)
    if text is None or tokens is None or not as_bearer or not text.startswith(PREFIX):
        return Caller(_key_of(text, view.keys_by_digest))
    claims = tokens.read(text, vendor, clock.now_ms())
    named = None if claims is None else view.keys_by_id.get(claims.key_id)
    key = None if named is None else view.keys_by_digest.get(named.digest)  # some keys open nothing; see View
    if claims is None or key is None:
        raise Problem("key_unknown", "this token has expired or is not for this vendor; log in again")
    return Caller(_unrevoked(key), claims.email)


def key_of_password(text: str, keys: Mapping[bytes, ApiKey]) -> ApiKey | None:
    """Return the live API key that a password is, or None: which of the reasons is nobody's business at a login."""
    key = _find(text, keys)
    return None if key is None or key.revoked_at_ms is not None else key


def own_key(request: web.BaseRequest, keys: Mapping[bytes, ApiKey]) -> ApiKey | None:
    """Return the live API key in a request's headers, or None. Raises Problem("bad_request") as `authenticate` does."""
    text, _ = _shown(request)
    return None if text is None else key_of_password(text, keys)


def require_scope(key: ApiKey, scope: str) -> None:
    """Raise Problem("scope_missing") unless the key may do this."""
    if not allows(key.scopes, scope):
        raise Problem("scope_missing", f'this needs a key with the scope "{scope}"', extra={"scope": scope})


def _key_of(text: str | None, keys: Mapping[bytes, ApiKey]) -> ApiKey:
    if text is None:
        raise Problem("key_missing", "no API key came with this request")
    key = _find(text, keys)
    if key is None:
        raise Problem("key_unknown", "this API key does not exist")
    return _unrevoked(key)


def _find(text: str, keys: Mapping[bytes, ApiKey]) -> ApiKey | None:
    return keys.get(digest_of(text)) if key_id_of(text) is not None else None


def _unrevoked(key: ApiKey) -> ApiKey:
    if key.revoked_at_ms is not None:
        raise Problem("key_revoked", f"key {key.id} was revoked")
    return key


def _shown(request: web.BaseRequest) -> tuple[str | None, bool]:
    """Return the key's text, and whether it came as Bearer."""
    shown = single_header(request, "X-Api-Key")
    if shown is not None:
        return shown.strip(), False
    authorization = single_header(request, "Authorization")
    if authorization is None:
        return None, False
    scheme, _, credentials = authorization.strip().partition(" ")
    scheme, credentials = scheme.lower(), credentials.strip()
    if scheme == "bearer":
        return credentials, True
    return (_from_basic(credentials) if scheme == "basic" else None), False


def _from_basic(credentials: str) -> str | None:
    """Whatever a client makes of https://key@host or https://user:key@host."""
    if len(credentials) > MAX_BASIC_CHARS:
        return None
    try:
        decoded = base64.b64decode(credentials.encode("ascii"), validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        return None
    user, _, password = decoded.partition(":")
    return password if key_id_of(password) is not None else user or password
