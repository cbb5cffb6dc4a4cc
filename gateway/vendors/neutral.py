"""What the vendors' neutral translations share: their words as our states, answers read once, requests and plans made.

Must not know any vendor's routes or words.  Theory: a vendor's own module already judges its answers, so a translation
only says the same in neutral words; where an answer says nothing, the sight of it says nothing either.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, AccountVendor, Price, Thing, Told
from gateway.core.payment import Delivery
from gateway.core.plan import Billing, Image, Plan, Source
from gateway.core.problems import Problem
from gateway.core.routes import Match
from gateway.core.server import ServerState
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.core.tariff import HOUR_S, Rule
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.server_ports import Answer, Ask, Feature, Features, Heard, JobSight, Sight, SnapshotSight
from gateway.vendors.account import refused

__all__ = [
    "NO_NAMES",
    "Checking",
    "answer_of",
    "ask_of",
    "billing_of",
    "checked",
    "detail_of",
    "document_in",
    "ended",
    "entries_in",
    "features_of",
    "gone",
    "heard",
    "job_of",
    "member_text",
    "missing",
    "orderable",
    "paid_by_time",
    "plan_of",
    "refundable",
    "refuse_what",
    "sight_of",
    "snapshot_of",
    "state_of",
    "text_parameter",
    "told_by",
    "word_in",
]

NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})

# What a vendor can say of a server. The other states are conclusions of ours: lapsed, lost, failed.
_SAYABLE: Final = {
    state.value: state
    for state in (
        ServerState.PROVISIONING,
        ServerState.RUNNING,
        ServerState.STOPPING,
        ServerState.STOPPED,
        ServerState.STARTING,
        ServerState.REBOOTING,
        ServerState.SUSPENDED,
        ServerState.GRACE,
        ServerState.ERROR,
        ServerState.DESTROYING,
        ServerState.DESTROYED,
    )
}
_NOT_FOUND: Final = 404
_DETAIL_CHARS: Final = 500
_WORD_CHARS: Final = 64
_HALF: Final = re.compile("[\ud800-\udfff]")


class Checking(Protocol):
    """What every vendor's module has, however it is paid: its routes, and its checks of what is sent to them."""

    name: str

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        ...

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for input that the vendor would refuse."""
        ...


# Features


def features_of(yes: Iterable[Feature], unknown: Iterable[Feature] = ()) -> Mapping[Feature, Answer]:
    """Return the answer for every feature: what is named neither way is a no that the document gives.

    Raises ValueError for a feature that is named both ways.
    """
    sure, open_ = frozenset(yes), frozenset(unknown)
    if sure & open_:
        raise ValueError(f"features named both ways: {', '.join(sorted(sure & open_))}")
    answers: dict[Feature, Answer] = {
        feature: "yes" if feature in sure else "unknown" if feature in open_ else "no" for feature in Feature
    }
    return MappingProxyType(answers)


def billing_of(account: AccountTerms, unit_s: int) -> Billing:
    """Return how time is paid for at an account vendor, by the operator's rule and the vendor's unit."""
    if account.rule is Rule.MONTHLY:
        return Billing.MONTHLY
    return Billing.HOURLY if unit_s >= HOUR_S else Billing.PER_MINUTE


def refundable(billing: Billing, *, while_running: bool) -> str:
    """Return in words what of a held period comes back at a vendor that is paid by time."""
    if billing is Billing.MONTHLY:
        return "nothing of a calendar month that has begun; the hold covers no more than has to be paid"
    unit = "hour" if billing is Billing.HOURLY else "minute"
    when = "; nothing is charged while it is stopped" if while_running else ""
    return f"what is held for {unit}s that have not begun when it is destroyed{when}"


def paid_by_time(vendor: AccountVendor, does: Mapping[Feature, Answer]) -> Features:
    """Return what is alike at every vendor that is paid from an account; the module adds what is its own."""
    billing = billing_of(vendor.account, vendor.unit_s)
    return Features(
        does=does,
        billing=billing,
        unit_s=vendor.unit_s,
        hold_max_s=vendor.account.period_s,
        refundable=refundable(billing, while_running=vendor.while_running),
        pays="by_time",
        followed=True,
    )


# Requests


def ask_of(request: UpstreamRequest) -> Ask:
    """Return a request of the vendor's module as an agent would send it. Raises TypeError for a body that is streamed."""
    if not isinstance(request.body, bytes):
        raise TypeError("only a whole body can be asked with")
    return Ask(request.method, request.target, request.body, request.headers)


def checked(vendor: Checking, ask: Ask, about: str, names: Mapping[str, str] = NO_NAMES) -> Ask:
    """Return an ask that the vendor's own checks take. `about` is the neutral field that its path is made of.

    `names` are the neutral names of the vendor's own fields. Raises Problem("input_refused") naming the neutral field.
    """
    match = vendor.match(ask.method, ask.target.partition("?")[0])
    if match is None:  # an id or a name that cannot stand in a path
        raise refused(f"{vendor.name} has no {about} of this name", about)
    try:
        vendor.check_input(match, ask.body)
    except Problem as problem:
        said = problem.field or ""
        raise Problem(problem.code, f"{vendor.name}: {problem.detail}", names.get(said, said or about)) from None
    return ask


def refuse_what(vendor_name: str, unwanted: Mapping[str, object]) -> None:
    """Raise Problem("input_refused") naming the first neutral field that is given where the vendor takes none."""
    for field, value in unwanted.items():
        if value not in ("", None, ()):
            raise refused(f"{vendor_name} takes no {field} here", field)


def text_parameter(parameters: Mapping[str, Any], name: str) -> str:
    """Return a parameter that must be a text that is not empty. Raises Problem("input_refused")."""
    value = parameters.get(name)
    # Half a surrogate pair can be read from JSON, and never be written.
    if not isinstance(value, str) or not value or _HALF.search(value) is not None:
        raise refused(f"{name} must be a text that is not empty", name)
    return value


# Answers


def answer_of(status: int, body: bytes) -> UpstreamResponse:
    """Return an answer that came whole, for the readers of the vendor's module."""
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), body)


def document_in(body: bytes) -> Any | None:  # noqa: ANN401 - JSON's own type; every caller checks what it takes
    """Return the JSON document of a body; None for one that is no JSON of one meaning."""
    try:
        return parse_json(body)
    except JsonError:
        return None


def told_by(vendor: AccountVendor, route_name: str, ref: str, status: int, body: bytes) -> Told:
    """Return what the vendor's module makes of an answer to a route of its own, about this thing.

    Raises ValueError for a route that it does not declare: a mistake of ours, never of an answer.
    """
    route = next((route for route in vendor.routes if route.name == route_name), None)
    if route is None:
        raise ValueError(f"{vendor.name}: no route {route_name}")
    parameters = {} if route.ref_parameter is None else {route.ref_parameter: ref}
    return vendor.read(Match(route, MappingProxyType(parameters)), answer_of(status, body))


def state_of(word: str) -> ServerState:
    """Return the state that a word of the modules names (their words for states are ours); UNKNOWN for any other."""
    return _SAYABLE.get(word, ServerState.UNKNOWN)


def entries_in(found: object, id_member: str = "id") -> Mapping[str, Mapping[str, Any]]:
    """Return the objects of an answer by id: `found` is one of them or a list of them; anything else has none."""
    rows = found if isinstance(found, list) else [found]
    return {row[id_member]: row for row in rows if isinstance(row, dict) and isinstance(row.get(id_member), str)}


def sight_of(thing: Thing, raw_state: str, **said: Any) -> Sight:  # noqa: ANN401 - any further members of Sight
    """Return what a module read of a server as a sight: an unknown state where a word was said, none where none was."""
    state: ServerState | None = state_of(thing.state)
    if state is ServerState.UNKNOWN and not raw_state:
        state = None
    known = {"name": thing.name, "plan": thing.plan, "expires_at_ms": thing.expires_at_ms, **said}
    return Sight(thing.ref, state, raw_state, **known)


def snapshot_of(thing: Thing) -> SnapshotSight:
    """Return what a module read of a backup."""
    return SnapshotSight(thing.ref, thing.name, thing.state, thing.created_at_ms, thing.expires_at_ms, gone=thing.gone)


def job_of(entry: object, job_id: str, states: Mapping[str, str]) -> JobSight | None:
    """Return a job of an answer, or None for what is none. `states` are the vendor's words and ours."""
    if not isinstance(entry, dict):
        return None
    code = entry.get("exit_code")
    return JobSight(
        job_id,
        states.get(member_text(entry, "status"), "unknown"),
        code if type(code) is int else None,
        member_text(entry, "stdout"),
        member_text(entry, "stderr"),
    )


def heard(told: Told, status: int, body: bytes, **said: Any) -> Heard:  # noqa: ANN401 - any further members of Heard
    """Return what an answer says, as done or not done by the module's own verdict."""
    ok = told.delivery is Delivery.DELIVERED
    return Heard(ok, detail="" if ok else detail_of(status, document_in(body)), **said)


def ended(told: Told, ref: str, status: int, body: bytes) -> Heard:
    """Return what the answer to a destruction says; one of what does not exist (404) has what it wants."""
    if missing(ref, status, body) is not None:
        return Heard(ok=True, server=Sight(ref, ServerState.DESTROYED))
    ok = told.delivery is Delivery.DELIVERED
    return heard(told, status, body, server=Sight(ref, ServerState.DESTROYING) if ok else None)


def gone(told: Told, status: int, body: bytes) -> Heard:
    """Return what the answer to the deletion of a snapshot or a key says; what is not there (404) is deleted."""
    return Heard(ok=True) if missing("", status, body) is not None else heard(told, status, body)


def missing(ref: str, status: int, body: bytes) -> Sight | None:
    """Return a server as LOST where the vendor's own 404 denies it, None for any other answer.

    A page of something before the vendor denies nothing; and what was just made may be denied for a while.
    """
    denied = status == _NOT_FOUND and isinstance(document_in(body), dict)
    return Sight(ref, ServerState.LOST) if denied else None


def detail_of(status: int, document: Any) -> str:  # noqa: ANN401 - JSON's own type
    """Return the words of a refusal (the vendor's or a problem's), or its status where it has none."""
    for member in ("error", "message", "detail", "title"):
        words = document.get(member) if isinstance(document, dict) else None
        if isinstance(words, dict):
            words = words.get("message")
        if isinstance(words, str) and words:
            return words[:_DETAIL_CHARS]
    return f"the vendor answered {status}"


def member_text(entry: object, member: str) -> str:
    """Return a member that is a text, "" for anything else."""
    value = entry.get(member) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def word_in(entry: object, member: str) -> str:
    """Return what a vendor calls a state, as it says it: "" where it says nothing, and JSON for what is no text."""
    value = entry.get(member) if isinstance(entry, dict) else None
    if value is None:
        return ""
    word = value if isinstance(value, str) else dump_json(value).decode("utf-8", "replace")
    return word[:_WORD_CHARS]


# Plans


def orderable(account: AccountTerms, price: Price) -> bool:
    """Say whether a plan can be ordered under the operator's rule: there is one, and the prices that it needs are stated."""
    if account.rule is None:
        return False
    return account.rule is Rule.STARTED_UNITS or price.monthly is not None


def plan_of(
    vendor: AccountVendor,
    price: Price,
    name: str,
    source: Source,
    as_of_ms: int | None,
    *,
    regions: tuple[str, ...] = (),
    images: tuple[Image, ...] = (),
) -> Plan:
    """Return a price of the vendor's list as a plan; sizes that it does not state stay None."""
    traits = price.traits or {}
    return Plan(
        vendor=vendor.name,
        id=price.kind,
        name=name or price.kind,
        billing=billing_of(vendor.account, vendor.unit_s),
        hourly=price.hourly,
        source=source,
        as_of_ms=as_of_ms,
        vcpu=traits.get("vcpu"),
        memory_mib=traits.get("memory_mib"),
        disk_gib=traits.get("disk_gib"),
        regions=regions,
        images=images,
        monthly=price.monthly,
        available=orderable(vendor.account, price),
    )
