"""What CryptoVPS's answers mean: what was done, which things they show, what the account's balance is.

Must not know money's books or ownership.  Theory: a create counts only when its answer names what was made; whatever
falls short is unknown, because the server may exist; and a 403 has two meanings that its message alone tells apart.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import LocalAnswer, PartAnswer, Thing, Told
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, Ownership
from gateway.core.strict_json import dump_json
from gateway.http.port import UpstreamResponse
from gateway.vendors.account import base_of, decimal_text, document_of, is_ref, judge_account, time_ms
from gateway.vendors.cryptovps.routes import BACKUP, BACKUP_STATES, PLANS, SERVER, STATES

__all__ = ["created_answer", "join", "read", "read_balance", "read_list", "refuses_us"]

_OK: Final = 200
_ACCEPTED: Final = 202
_MIXED: Final = 207
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_SUCCESS: Final = range(200, 300)
_NO_ANSWER: Final = 502
_UNKNOWN: Final = ("unknown", None)
_LISTS: Final = frozenset({"servers", "backups", "bulk"})
_FULL: Final = "vendor_account_full"


def read(match: Match, answer: UpstreamResponse) -> Told:
    """Judge an answer and read the things in it. Never raises."""
    verdict, document, route = judge_account(answer), document_of(answer), match.route
    if document is None and route.listings and answer.status in _SUCCESS:
        document = {}  # what cannot be read (cut off, encoded) may show others' things: nothing of it passes
    if route.ends and answer.status == _CONFLICT:
        return Told(Delivery.DELIVERED, Fault.NONE, document, _ended(match))  # it is being destroyed already
    if verdict.delivery is not Delivery.DELIVERED:
        problem = _FULL if answer.status == _FORBIDDEN and not refuses_us(answer) else None
        return Told(verdict.delivery, verdict.fault, document, problem=problem)
    if route.ends:
        return Told(Delivery.DELIVERED, Fault.NONE, document, _ended(match))
    if route.listings:
        return _shown(match, document)
    return Told(Delivery.DELIVERED, Fault.NONE, document)


def read_list(answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
    """Return all servers that are not destroyed (the vendor has no pages), or None for what proves nothing."""
    document = document_of(answer) if answer.status == _OK else None
    entries = document.get("servers") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return None
    things = [_server(entry) for entry in entries]
    read_all = tuple(thing for thing in things if thing is not None)
    # One entry that cannot be read may be the one that is looked for.
    return (read_all, False) if len(read_all) == len(things) else None


def created_answer(match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
    """Return the 202 that a create would have answered, with the server as it is now; None if it is not shown."""
    document = document_of(shown) if shown.status == _OK else None
    entry = document.get("server") if isinstance(document, dict) else None
    if SERVER not in {listing.kind for listing in match.route.listings} or _server(entry) is None:
        return None
    return _ACCEPTED, dump_json({"server": entry})


def refuses_us(answer: UpstreamResponse) -> bool:
    """Say whether an answer refuses the account as such: any 403 whose message does not speak of the server limit alone.

    A full account serves everything but creates, so it is no refusal of the gateway: `read` names it.
    """
    if answer.status != _FORBIDDEN:
        return False
    message = _error(document_of(answer)).lower()
    return "limit" not in message or "suspend" in message


def read_balance(answer: UpstreamResponse) -> int | None:
    """Return the balance (USD base units, rounded down) from an answer of GET /billing, /auth/me or a login."""
    if answer.status not in _SUCCESS or b"balance" not in answer.body:  # every answer is asked, few tell it
        return None
    document = document_of(answer)
    if not isinstance(document, dict):
        return None
    user = document.get("user")
    balance = user.get("balance") if isinstance(user, dict) else document.get("balance")
    return base_of(balance) if isinstance(balance, str) else None


def join(parts: tuple[PartAnswer, ...]) -> LocalAnswer:
    """Return a bulk's answer: 202 {"servers"} when every part was made, as the document has it.

    Otherwise 207 {"servers", "errors": [{index, status, error}]}; when nothing was made and every part met the same
    status, that status and the vendor's `error` beside it, so that a script sees the refusal that it knows.
    """
    servers: list[Any] = []
    errors: list[dict[str, Any]] = []
    statuses: set[int] = set()
    for part in sorted(parts, key=lambda each: each.index):
        made = part.document.get("server") if isinstance(part.document, dict) else None
        if part.status in _SUCCESS and made is not None:
            servers.append(made)
            continue
        status = _NO_ANSWER if part.status in _SUCCESS else part.status
        statuses.add(status)
        errors.append({"index": part.index, "status": status, "error": _error(part.document)})
    if not errors:
        return LocalAnswer(_ACCEPTED, {"servers": servers})
    if not servers and len(statuses) == 1:
        return LocalAnswer(statuses.pop(), {"error": errors[0]["error"], "servers": [], "errors": errors})
    return LocalAnswer(_MIXED, {"servers": servers, "errors": errors})


def _shown(match: Match, document: Any) -> Told:  # noqa: ANN401 - JSON's own type
    """Return what an answer that shows things tells; one that does not show them is unknown: it may have made one."""
    (listing,) = match.route.listings
    found = document.get(listing.member) if isinstance(document, dict) else None
    if not isinstance(found, list if match.route.name in _LISTS else dict):
        return Told(Delivery.UNKNOWN, Fault.NONE, document)
    entries = found if isinstance(found, list) else [found]
    # An entry of a list that cannot be read is nobody's; the broker shows none that is nobody's.
    things = tuple(thing for thing in map(_READERS[listing.kind], entries) if thing is not None)
    if match.route.name in _LISTS:
        return Told(Delivery.DELIVERED, Fault.NONE, document, things)
    if not things or (match.route.name == "server" and things[0].ref != match.ref):
        return Told(Delivery.UNKNOWN, Fault.NONE, {})  # it is about nothing, or about another's thing
    created = (things[0].ref,) if match.route.ownership is Ownership.CREATES else ()
    return Told(Delivery.DELIVERED, Fault.NONE, document, things, created)


def _server(entry: object) -> Thing | None:
    if not isinstance(entry, dict) or not is_ref(entry.get("id")):
        return None
    state, charged = STATES.get(_text(entry.get("status")), _UNKNOWN)
    return Thing(
        ref=entry["id"],
        kind=SERVER,
        state=state,
        name=_text(entry.get("label")),
        plan=_plan(entry),
        charged=charged,
        hourly=decimal_text(entry.get("hourlyPrice")),
        created_at_ms=time_ms(entry.get("createdAt")),
        gone=state == "destroyed",
    )


def _backup(entry: object) -> Thing | None:
    if not isinstance(entry, dict) or not is_ref(entry.get("id")):
        return None
    state = BACKUP_STATES.get(_text(entry.get("status")), "unknown")
    return Thing(
        ref=entry["id"],
        kind=BACKUP,
        state=state,
        name=_text(entry.get("label")),
        plan=_plan(entry),
        charged=False,
        created_at_ms=time_ms(entry.get("createdAt")),
        expires_at_ms=time_ms(entry.get("expiresAt")),
        gone=state == "expired",
    )


_READERS: Final = MappingProxyType[str, Callable[[object], Thing | None]]({SERVER: _server, BACKUP: _backup})


def _ended(match: Match) -> tuple[Thing, ...]:
    ref = match.ref
    if ref is None:
        return ()
    if match.route.name == "delete_backup":
        return (Thing(ref, BACKUP, "deleted", charged=False, gone=True),)
    return (Thing(ref, SERVER, "destroying", charged=False),)


def _error(document: Any) -> str:  # noqa: ANN401 - JSON's own type
    """Return the words of a refusal: the vendor's `error` (or `message`), or the detail of a problem of ours."""
    if isinstance(document, dict):
        for member in ("error", "message", "detail", "title"):
            words = document.get(member)
            if isinstance(words, str) and words:
                return words
    return "no server was shown in the answer"


def _plan(entry: dict[str, Any]) -> str:
    # The document names the member and not its shape. What is no id of a plan has no price, so it is left out.
    plan = entry.get("plan")
    told = _text(plan.get("id") if isinstance(plan, dict) else plan)
    return told if told in PLANS else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
