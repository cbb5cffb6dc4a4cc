"""Who asks: one API key in one of three places, one SHA-256, one look-up.

Must not know what is asked.  Theory: whatever is wrong with a key costs the asker the same work and tells the same
nothing; the key itself goes no further than this module.
"""

import base64
import binascii
from collections.abc import Mapping

from aiohttp import web

from gateway.api.exchange import single_header
from gateway.core.apikeys import allows, digest_of, key_id_of
from gateway.core.problems import Problem
from gateway.core.records import ApiKey

MAX_BASIC_CHARS = 512


def authenticate(request: web.BaseRequest, keys: Mapping[bytes, ApiKey]) -> ApiKey:
    """Return the key of a request: X-Api-Key, Bearer, or Basic with the key as user name or password.

    Raises Problem: key_missing, key_unknown, key_revoked. X-Api-Key wins, so that Authorization stays free for others.
    """
    text = _shown(request)
    if text is None:
        raise Problem("key_missing", "no API key came with this request")
    key = keys.get(digest_of(text)) if key_id_of(text) is not None else None
    if key is None:
        raise Problem("key_unknown", "this API key does not exist")
    if key.revoked_at_ms is not None:
        raise Problem("key_revoked", f"key {key.id} was revoked")
    return key


def require_scope(key: ApiKey, scope: str) -> None:
    """Raise Problem("scope_missing") unless the key may do this."""
    if not allows(key.scopes, scope):
        raise Problem("scope_missing", f'this needs a key with the scope "{scope}"', extra={"scope": scope})


def _shown(request: web.BaseRequest) -> str | None:
    shown = single_header(request, "X-Api-Key")
    if shown is not None:
        return shown.strip()
    authorization = single_header(request, "Authorization")
    if authorization is None:
        return None
    scheme, _, credentials = authorization.strip().partition(" ")
    scheme, credentials = scheme.lower(), credentials.strip()
    if scheme == "bearer":
        return credentials
    return _from_basic(credentials) if scheme == "basic" else None


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
