"""POSTs of our own that are answered the same however often they come: the answer is sealed first, then made true.

Must not know routes.  Theory: a retried request must not do a thing twice, and a crash must not leave an answer that was
given and is not true; so what is answered is written down before anything is done, and whoever finds it written down makes
sure that it is done.
"""

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from gateway.api.asked import idempotency_key
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Told
from gateway.api.exchange import Exchange
from gateway.api.respond import encode
from gateway.core.commands import Refused, Remember, key_used
from gateway.core.problems import Problem
from gateway.core.records import Answer
from gateway.flow.pack import pack, unpack
from gateway.flow.promise import seal_context

CREATED = 201
REPLAYED = ("Idempotent-Replayed", "true")

Document = dict[str, Any]
Make = Callable[[], Awaitable[Document]]
Ensure = Callable[[Document], Awaitable[None]]


async def nothing(_: Document) -> None:
    """Stand for `ensure` where `make` itself does what is asked, and doing it twice is harmless."""


async def once(
    deps: ApiDeps, exchange: Exchange, body: bytes, make: Make, ensure: Ensure = nothing, *, status: int = CREATED
) -> Told:
    """Answer a POST; under its Idempotency-Key the same body gets the same answer, secrets included, for good.

    `make` returns the answer's document, ids and secrets in it, and is not called for a repeat; what it raises is kept by
    nobody. `ensure` makes the document true, also of a repeat, and changes nothing where it is true, or was. Whoever may
    not do this must be refused before: a repeat's answer is as good as the first. Raises Problem, also
    "idempotency_conflict".
    """
    claim = idempotency_key(exchange.request)
    path = exchange.request.raw_path.partition("?")[0]
    fingerprint = fingerprint_of(exchange.request.method, path, body)
    if claim is not None:
        earlier = await _earlier(deps, exchange, claim, fingerprint)
        if earlier is not None:
            return await _replay(earlier, ensure)
    document = await make()
    if claim is not None:
        kept = await _remember(deps, exchange, claim, fingerprint, document, status)
        if kept.body != document:  # the same request came twice at once, and the other was first
            return await _replay(kept, ensure)
    await ensure(document)
    return Told(document, status)


def fingerprint_of(method: str, path: str, body: bytes) -> bytes:
    """Return what tells one request to our own API from another."""
    digest = sha256(b"gateway-own-route-v1")
    for part in (method.encode(), path.encode(), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def _replay(earlier: Told, ensure: Ensure) -> Told:
    """Answer as before, and make sure that it is true: a crash may have come between the answer and the deed."""
    assert isinstance(earlier.body, dict), "only documents are kept"
    await ensure(earlier.body)
    return earlier


async def _earlier(deps: ApiDeps, exchange: Exchange, claim: str, fingerprint: bytes) -> Told | None:
    found = await deps.store.claimed(exchange.account_id, claim)
    if found is None:
        return None
    if found.fingerprint != fingerprint or found.answer is None:
        raise key_used()
    packed = deps.sealer.open(found.answer.sealed, seal_context("kept", f"{exchange.account_id}/{claim}"))
    document: Document = json.loads(unpack(packed)[3])
    return Told(document, found.answer.status, (REPLAYED,))


async def _remember(
    deps: ApiDeps, exchange: Exchange, claim: str, fingerprint: bytes, document: Document, status: int
) -> Told:
    """Seal the answer under the claim; return the answer that stands there now, which may be another's."""
    context = seal_context("kept", f"{exchange.account_id}/{claim}")
    sealed = deps.sealer.seal(pack("", "", (), encode(document)), context)
    answer = Answer("", status, sealed, deps.clock.now_ms())
    result = await deps.store.post(Remember(exchange.account_id, claim, fingerprint, answer))
    if isinstance(result, Refused):
        raise Problem(result.code, result.detail, "Idempotency-Key")
    kept = await _earlier(deps, exchange, claim, fingerprint)
    assert kept is not None, "a claim that was committed is found"
    return kept
