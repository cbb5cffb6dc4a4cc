"""`/healthz` and `/readyz`: whether the process lives, and whether it could pay now.

Must not know what is wrong, only what is reported.  Theory: alive and ready are different questions; a supervisor
restarts on the first, a balancer waits on the second, and answering the second with the first restarts a gateway that
only waits for its chain.
"""

from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.schemas import FLAG, TEXT, record, several
from gateway.core.problems import Problem


async def healthz(deps: ApiDeps, _exchange: Exchange) -> Told:
    """Answer while decisions can be committed. Raises Problem("not_ready") once the store has stopped."""
    if deps.store.broken:
        raise Problem("not_ready", "the store has stopped; the process is about to end")
    return Told({"alive": True})


async def readyz(deps: ApiDeps, _exchange: Exchange) -> Told:
    """Answer while this process could pay, with what stops purchases all the same.

    Raises Problem("not_ready") with the reasons.
    """
    reasons = ["the store has stopped"] if deps.store.broken else deps.ready()
    if reasons:
        raise Problem("not_ready", "; ".join(reasons), extra={"reasons": reasons})
    return Told({"ready": True, "limits": deps.limits()})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/healthz",
        "Whether the process lives",
        healthz,
        record(alive=FLAG),
        public=True,
        problems=("not_ready",),
    ),
    Endpoint(
        "GET",
        "/readyz",
        "Whether this process could pay now, and what stops purchases all the same",
        readyz,
        record(ready=FLAG, limits=several(TEXT)),
        public=True,
        problems=("not_ready",),
    ),
)
