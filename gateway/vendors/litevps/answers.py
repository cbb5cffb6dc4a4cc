"""What LiteVPS's answers mean: what was done, which things they show, what plans cost and the account's balance is.

Must not know money's books or ownership.  Theory: a create counts only when its answer names what was made; whatever
falls short is unknown, because the machine may exist; and what a machine's own disk or commands say is never read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from gateway.account_ports import LocalAnswer, PartAnswer, Price, Template, Thing, Told
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match
from gateway.http.port import UpstreamResponse
from gateway.vendors.account import base_of, decimal_text, document_of, is_ref, judge_account, time_ms
from gateway.vendors.litevps.local import BALANCE_HEADER
from gateway.vendors.litevps.routes import CHARGED, JOB_STATES, RESUMES, STATES

__all__ = [
    "created_answer",
    "join",
    "read",
    "read_balance",
    "read_list",
    "read_prices",
    "read_templates",
    "refuses_us",
]

_OK: Final = 200
_CREATED: Final = 201
_MIXED: Final = 207
_FORBIDDEN: Final = 403
_SUCCESS: Final = range(200, 300)
_MINUTE_S, _MINUTE_MS = 60, 60_000
_TTL_MAX: Final = 100 * 366 * 24 * 60
_SIZE_MAX: Final = 10**9
_SIZES: Final = MappingProxyType({"vcpu": "vcpu", "memory_mib": "memory_mb", "disk_gib": "disk_gb"})

_DENYING: Final = frozenset({400, 403, 422})
# The document says that such commands "are blocked", not in which words it refuses them.
_DENIED: Final = re.compile(
    r"(?=.*\bcommand)(?=.*\b(?:block|den[iy]|forbid|prohibit|disallow|not (?:allow|permit)|destructive|dangerous))",
    re.IGNORECASE | re.DOTALL,
)
_ABOUT_US: Final = re.compile(r"\b(?:account|suspend\w*|banned|ip address|your ip)\b", re.IGNORECASE)
_POLICY: Final = "upstream_policy_denied"

_SHOWING: Final = frozenset({"get", "update"})
_DONE: Final = Told(Delivery.DELIVERED, Fault.NONE, None)


def read(match: Match, answer: UpstreamResponse) -> Told:
    """Judge an answer and read the things in it. Never raises.

    A file is passed on as it comes, however it reads: its document is None, and its end is not waited for. So is a
    refusal: it is the vendor's words and shows nothing. What should show things and cannot be believed is withheld.
    """
    if match.route.name == "download" and answer.status in _SUCCESS:
        return _DONE
    verdict, document = judge_account(answer), document_of(answer)
    if verdict.delivery is not Delivery.DELIVERED:
        if match.route.name == "exec" and answer.status in _DENYING and _DENIED.match(_words(document)):
            return Told(Delivery.REFUSED, Fault.AGENT, None, problem=_POLICY)
        shows = answer.status in _SUCCESS and match.route.listings
        return Told(verdict.delivery, verdict.fault, {} if shows else None)
    reader = _READERS.get(match.route.name)
    return Told(Delivery.DELIVERED, Fault.NONE, document) if reader is None else reader(match, document)


def read_list(answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
    """Return all servers (the vendor has no pages); None for an answer that proves nothing."""
    document = document_of(answer) if answer.status == _OK else None
    if not isinstance(document, list):
        return None
    things = [thing for thing in map(_server, document) if thing is not None]
    # One entry that cannot be read may be the one that is looked for.
    return (tuple(things), False) if len(things) == len(document) else None


def created_answer(match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
    """Return the 201 that a create would have answered, with the server as it is now; None if it is not shown."""
    document = document_of(shown) if shown.status == _OK else None
    if match.route.name != "create" or _server(document) is None:
        return None
    return _CREATED, shown.body


def read_prices(answer: UpstreamResponse) -> tuple[Price, ...]:
    """Return what the plans of GET /api/pricing cost an hour; a plan without one readable price above 0 has none."""
    prices: dict[str, Price | None] = {}
    for entry in _objects(answer):
        plan, hourly = entry.get("id"), _price(entry)
        if not is_ref(plan):
            continue
        # Two entries for one plan are no price: the vendor may charge the other.
        once = plan not in prices
        prices[plan] = Price(plan, hourly, traits=_traits(entry)) if once and hourly is not None else None
    return tuple(price for price in prices.values() if price is not None)


def read_templates(answer: UpstreamResponse) -> tuple[Template, ...]:
    """Return the templates of GET /api/templates; one whose sizes or life cannot be read is none."""
    templates: dict[str, Template | None] = {}
    for entry in _objects(answer):
        slug, sizes, ttl_minutes = entry.get("slug"), _traits(entry), entry.get("ttl_minutes")
        if not is_ref(slug):
            continue
        lives_s = ttl_minutes * _MINUTE_S if _is_count(ttl_minutes, _TTL_MAX) else None
        readable = slug not in templates and (ttl_minutes is None or lives_s is not None)
        templates[slug] = Template(slug, sizes, lives_s) if readable and sizes is not None else None
    return tuple(template for template in templates.values() if template is not None)


def read_balance(answer: UpstreamResponse) -> int | None:
    """Return the account's balance (USD base units, rounded down) from the header of any authenticated answer.

    Bodies are not believed: a file, or what a command prints, is the agent's own word.
    """
    return base_of(answer.headers.get(BALANCE_HEADER, "").strip())


def refuses_us(answer: UpstreamResponse) -> bool:
    """Say whether a 403 is about the account that we share. The document names none, so only plain words count."""
    return answer.status == _FORBIDDEN and _ABOUT_US.search(_words(document_of(answer))) is not None


def join(match: Match, parts: tuple[PartAnswer, ...]) -> LocalAnswer:
    """Return a batch's answer: 207 and a result for each item, with the document's members. Mixed stays mixed."""
    shape = _SHAPES[match.route.name]
    return LocalAnswer(_MIXED, {"results": [shape(part) for part in sorted(parts, key=lambda part: part.index)]})


def _made(part: PartAnswer) -> dict[str, Any]:
    if part.status in _SUCCESS and isinstance(part.document, dict):
        return {"index": part.index, "vps": part.document}
    return {"index": part.index, "error": _why(part)}


def _destroyed(part: PartAnswer) -> dict[str, Any]:
    if part.status in _SUCCESS:
        return {"id": part.ref, "deleted": True}
    return {"id": part.ref, "deleted": False, "error": _why(part)}


def _ran(part: PartAnswer) -> dict[str, Any]:
    if part.status in _SUCCESS and isinstance(part.document, dict):
        return {**part.document, "vps_id": part.ref}
    return {"vps_id": part.ref, "error": _why(part)}


_SHAPES: Final[Mapping[str, Callable[[PartAnswer], dict[str, Any]]]] = MappingProxyType(
    {"batch_create": _made, "batch_delete": _destroyed, "batch_exec": _ran}
)


def _why(part: PartAnswer) -> str:
    return _words(part.document) or f"no answer that can be read (status {part.status})"


def _words(document: Any) -> str:  # noqa: ANN401 - JSON's own type
    """Return the words of a refusal: the vendor's `error`, or the `detail` of a problem of ours."""
    if isinstance(document, dict):
        for member in ("error", "detail"):
            if isinstance(words := document.get(member), str) and words:
                return words
    return ""


def _withheld() -> Told:
    """Tell nothing of an answer that may be about others' things: its agent is shown a document that is empty."""
    return Told(Delivery.UNKNOWN, Fault.NONE, {})


def _shows_servers(match: Match, document: Any) -> Told:  # noqa: ANN401, ARG001 - JSON's own type; one shape for readers
    if not isinstance(document, list):
        return _withheld()
    things = tuple(thing for thing in map(_server, document) if thing is not None)
    return Told(Delivery.DELIVERED, Fault.NONE, document, things)


def _creates_server(match: Match, document: Any) -> Told:  # noqa: ANN401, ARG001 - JSON's own type; one shape for readers
    thing = _server(document)
    if thing is None:
        return _withheld()
    return Told(Delivery.DELIVERED, Fault.NONE, document, (thing,), (thing.ref,))


def _shows_server(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    thing = _server(document)
    if thing is None and match.route.name not in _SHOWING:
        return _DONE  # what acts on a server need not show it: the document leaves those answers open
    if thing is None:
        return _withheld()
    if thing.ref != match.ref:
        return _withheld()  # about another's thing
    if match.route.name in RESUMES and not thing.charged:
        thing = replace(thing, charged=None)  # it is on its way: what it was until now says nothing
    return Told(Delivery.DELIVERED, Fault.NONE, document, (thing,))


def _ends_server(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    things = () if match.ref is None else (Thing(match.ref, "server", "destroying", charged=False),)
    return Told(Delivery.DELIVERED, Fault.NONE, document, things)


def _shows_keys(match: Match, document: Any) -> Told:  # noqa: ANN401, ARG001 - JSON's own type; one shape for readers
    if not isinstance(document, list):
        return _withheld()
    things = tuple(thing for thing in map(_key, document) if thing is not None)
    return Told(Delivery.DELIVERED, Fault.NONE, document, things)


def _creates_key(match: Match, document: Any) -> Told:  # noqa: ANN401, ARG001 - JSON's own type; one shape for readers
    thing = _key(document)
    if thing is None:
        return _withheld()
    return Told(Delivery.DELIVERED, Fault.NONE, document, (thing,), (thing.ref,))


def _ends_key(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    things = () if match.ref is None else (Thing(match.ref, "key", "deleted", charged=False, gone=True),)
    return Told(Delivery.DELIVERED, Fault.NONE, document, things)


def _runs(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    job = _job(match, document)
    if job is None:  # a command that was waited for: its output, and no job
        return Told(Delivery.DELIVERED, Fault.NONE, document)
    return Told(Delivery.DELIVERED, Fault.NONE, document, (job,), (job.ref,))


def _shows_jobs(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    if not isinstance(document, list):
        return _withheld()
    jobs = tuple(job for job in (_job(match, entry) for entry in document) if job is not None)
    # The list is of one server, the agent's own: a job whose start was never answered is found again here.
    return Told(Delivery.DELIVERED, Fault.NONE, document, jobs, tuple(job.ref for job in jobs))


def _shows_job(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    job = _job(match, document)
    asked = match.parameters.get("job_id")
    if job is not None and job.ref != asked:
        return _withheld()  # about another's thing
    return Told(Delivery.DELIVERED, Fault.NONE, document, () if job is None else (job,))


_READERS: Final[Mapping[str, Callable[[Match, Any], Told]]] = MappingProxyType(
    {
        "list": _shows_servers,
        "create": _creates_server,
        "get": _shows_server,
        "update": _shows_server,
        "start": _shows_server,
        "stop": _shows_server,
        "restart": _shows_server,
        "restore_snapshot": _shows_server,
        "delete": _ends_server,
        "exec": _runs,
        "jobs": _shows_jobs,
        "job": _shows_job,
        "cancel_job": _shows_job,
        "keys": _shows_keys,
        "add_key": _creates_key,
        "delete_key": _ends_key,
    }
)


def _server(entry: object) -> Thing | None:
    if not isinstance(entry, dict) or not is_ref(entry.get("id")):
        return None
    state = STATES.get(_text(entry.get("state")), "unknown")
    return Thing(
        ref=entry["id"],
        kind="server",
        state=state,
        name=_text(entry.get("name")),
        plan=_text(entry.get("plan_id")),
        charged=CHARGED.get(state),
        hourly=_price(entry),
        created_at_ms=time_ms(entry.get("created_at")),
        expires_at_ms=_expires_at_ms(entry),
    )


def _expires_at_ms(entry: Mapping[str, Any]) -> int | None:
    """When it destroys itself: as the answer says it, or by the life that its template or order gave it."""
    stated_ms, created_ms = time_ms(entry.get("expires_at")), time_ms(entry.get("created_at"))
    ttl_minutes = entry.get("ttl_minutes")
    if stated_ms is not None or created_ms is None or not _is_count(ttl_minutes, _TTL_MAX):
        return stated_ms
    return created_ms + ttl_minutes * _MINUTE_MS


def _key(entry: object) -> Thing | None:
    if not isinstance(entry, dict) or not is_ref(entry.get("id")):
        return None
    return Thing(
        entry["id"],
        "key",
        "available",
        name=_text(entry.get("name")),
        charged=False,
        created_at_ms=time_ms(entry.get("created_at")),
    )


def _job(match: Match, entry: object) -> Thing | None:
    """Read a job; the document calls its id `job_id` where it is made, and does not show it elsewhere."""
    if not isinstance(entry, dict):
        return None
    ref = entry.get("job_id", entry.get("id"))
    if not is_ref(ref):
        return None
    state = JOB_STATES.get(_text(entry.get("status")), "unknown")
    return Thing(ref, "job", state, charged=False, created_at_ms=time_ms(entry.get("created_at")), parent=match.ref)


def _traits(entry: Mapping[str, Any]) -> Mapping[str, int] | None:
    traits = {trait: entry.get(member) for trait, member in _SIZES.items()}
    whole = {trait: value for trait, value in traits.items() if type(value) is int and 0 < value <= _SIZE_MAX}
    return MappingProxyType(whole) if len(whole) == len(traits) else None


def _objects(answer: UpstreamResponse) -> list[dict[str, Any]]:
    document = document_of(answer) if answer.status == _OK else None
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def _price(entry: Mapping[str, Any]) -> str | None:
    value = entry.get("price_hourly")
    # The vendor's amounts are JSON numbers; a text in their place is something else, and nothing is no price.
    hourly = None if isinstance(value, str) else decimal_text(value)
    return hourly if hourly is not None and hourly.strip("0.") else None


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= most


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
