"""LiteVPS in neutral words: machines by the minute, with power, commands, files, snapshots in place and SSH keys.

Must not know flows.  Theory: the vendor enters machines with a key of its own, so commands and files stand where other
vendors show a password; its templates are images, one of which may end what is made with it (`ttl_minutes`).
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import Price, Template, Thing, Told
from gateway.core.payment import Delivery
from gateway.core.plan import Image, Plan, Source
from gateway.server_ports import (
    Action,
    Ask,
    CatalogueAsk,
    Feature,
    Heard,
    JobSight,
    Order,
    Sight,
    SnapshotRule,
    SnapshotSight,
)
from gateway.vendors import neutral
from gateway.vendors.account import is_ref, judge_account, request_to, segment, time_ms
from gateway.vendors.litevps.asks import BUILDERS
from gateway.vendors.litevps.inputs import NAME
from gateway.vendors.litevps.routes import JOB_STATES, PRICE_TARGET, TEMPLATE_TARGET
from gateway.vendors.litevps.vendor import LiteVps
from wallets.secret import Secret

__all__ = ["LiteVpsServers"]

_OK: Final = 200
_SERVERS: Final = "/api/vps"
_READY_PAUSES_S: Final = (5.0,)  # the pace of the document's own example
_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {"plan_id": "plan", "ssh_key_ids": "ssh_keys", "template": "image", "timeout_seconds": "timeout_s"}
)
_DOES: Final = neutral.features_of(
    # No password is ever shown: root is reached with an SSH key of the agent's, or with EXEC and FILES.
    frozenset(Feature) - {Feature.RENEW, Feature.CREDENTIALS, Feature.REGIONS, Feature.RESTORE_TO_NEW}
)
_ROUTES: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.SHOW: "get",
        Action.DESTROY: "delete",
        Action.START: "start",
        Action.STOP: "stop",
        Action.REBOOT: "restart",
        Action.EXEC: "exec",
        Action.JOB_LIST: "jobs",
        Action.JOB_SHOW: "job",
        Action.JOB_CANCEL: "cancel_job",
        Action.FILE_GET: "download",
        Action.FILE_PUT: "upload",
        Action.SNAPSHOT_CREATE: "snapshot",
        Action.SNAPSHOT_LIST: "snapshots",
        Action.SNAPSHOT_DELETE: "delete_snapshot",
        Action.RESTORE: "restore_snapshot",
        Action.KEY_ADD: "add_key",
        Action.KEY_DELETE: "delete_key",
    }
)


class LiteVpsServers:
    """The translation; implements gateway.server_ports.ServerVendor."""

    catalogue: tuple[CatalogueAsk, ...] = (CatalogueAsk(PRICE_TARGET), CatalogueAsk(TEMPLATE_TARGET))

    def __init__(self, vendor: LiteVps) -> None:
        """Build it for one configured account."""
        self.name = vendor.name
        self._vendor = vendor
        self.features = replace(
            neutral.paid_by_time(vendor, _DOES),
            snapshots=SnapshotRule(None, named_by_agent=True, requires_stopped=True),
            name_pattern=NAME.pattern,
            ready_pauses_s=_READY_PAUSES_S,
        )

    # plans and orders

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the plans of the price list, each with the templates of exactly its sizes.

        Whether the sizes of a plan or of a template count, where an order names both, is not documented. Raises
        ValueError for a price list that cannot be read.
        """
        listed = neutral.answer_of(_OK, answers.get(PRICE_TARGET, b""))
        prices = self._vendor.read_prices(listed)
        if not prices:
            raise ValueError(f"{self.name}: no plan in its price list")
        names = _names(listed.body, "id")
        told = neutral.answer_of(_OK, answers.get(TEMPLATE_TARGET, b""))
        templates, titles = self._vendor.read_templates(told), _names(told.body, "slug")
        return tuple(
            neutral.plan_of(
                self._vendor,
                price,
                names.get(price.kind, ""),
                Source.API,
                now_ms,
                images=_images(price, templates, titles),
            )
            for price in prices
        )

    def create(self, order: Order) -> Ask:
        """Return the create. Raises Problem("input_refused") naming the neutral field."""
        neutral.refuse_what(self.name, {"region": order.region, "minutes": order.minutes, "snapshot": order.snapshot})
        optional = {
            "template": order.image,
            "ssh_key_ids": list(order.ssh_keys),
            "user_data": order.user_data,
        }
        document = {"name": order.name, "plan_id": order.plan, **{k: v for k, v in optional.items() if v}}
        return self._checked("POST", _SERVERS, document, about="plan")

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return the machine that a create's answer shows."""
        told = neutral.told_by(self._vendor, "create", "", status, body)
        return _first(told) if told.created else None

    # asking

    def ask(
        self,
        action: Action,
        ref: str,
        access: Mapping[str, Secret[str]],  # noqa: ARG002 - nothing that a machine shows is needed to act on it
        parameters: Mapping[str, Any] = _NO_PARAMETERS,
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused"), ValueError for what the vendor cannot do."""
        if action is Action.SHOW:
            return neutral.ask_of(self._vendor.show_request(ref))
        if action is Action.DESTROY:
            return neutral.ask_of(self._vendor.destroy_request(ref))
        build = BUILDERS.get(action)
        if build is None:
            raise ValueError(f"{self.name} cannot {action}")
        ask, about = build(f"{_SERVERS}/{segment(ref)}", parameters)
        return neutral.checked(self._vendor, ask, about, _FIELDS)

    def list_ask(self) -> Ask | None:
        """Return the request for the account's machines."""
        return self._checked("GET", _SERVERS, about="server")

    def _checked(self, method: str, target: str, document: Any | None = None, *, about: str) -> Ask:  # noqa: ANN401 - JSON's own type
        return neutral.checked(self._vendor, neutral.ask_of(request_to(method, target, document)), about, _FIELDS)

    # hearing

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action. What a machine's disk or commands say is the agent's own, and is not judged."""
        if action in _JOBS:
            return _jobs(action, status, body)
        told = neutral.told_by(self._vendor, _ROUTES[action], ref, status, body)
        if action is Action.DESTROY:
            return neutral.ended(told, ref, status, body)
        if action in {Action.SNAPSHOT_DELETE, Action.KEY_DELETE}:
            return neutral.gone(told, status, body)
        snapshots = _snapshots(body) if action in _SNAPSHOTS and told.delivery is Delivery.DELIVERED else ()
        key_ref = next(iter(told.created), "") if action is Action.KEY_ADD else ""
        server = _first(told) or (neutral.missing(ref, status, body) if action is Action.SHOW else None)
        return neutral.heard(told, status, body, server=server, snapshots=snapshots, key_ref=key_ref)

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return all machines; None for an answer that proves nothing."""
        if self._vendor.read_list(neutral.answer_of(_OK, body)) is None:
            return None
        return _sights(neutral.told_by(self._vendor, "list", "", _OK, body))


_JOBS: Final = frozenset({Action.EXEC, Action.JOB_LIST, Action.JOB_SHOW, Action.JOB_CANCEL})
_SNAPSHOTS: Final = frozenset({Action.SNAPSHOT_CREATE, Action.SNAPSHOT_LIST})


def _names(body: bytes, member: str) -> dict[str, str]:
    entries = neutral.entries_in(neutral.document_in(body), member)
    return {ref: neutral.member_text(entry, "name") for ref, entry in entries.items()}


def _images(price: Price, templates: tuple[Template, ...], titles: Mapping[str, str]) -> tuple[Image, ...]:
    return tuple(
        Image(template.name, titles.get(template.name) or template.name, template.lives_s)
        for template in templates
        if price.traits is not None and dict(template.sizes) == dict(price.traits)
    )


def _sights(told: Told) -> tuple[Sight, ...]:
    entries = neutral.entries_in(told.document)
    return tuple(_sight(thing, entries.get(thing.ref, {})) for thing in told.things if thing.kind == "server")


def _first(told: Told) -> Sight | None:
    return next(iter(_sights(told)), None)


def _sight(thing: Thing, entry: Mapping[str, Any]) -> Sight:
    return neutral.sight_of(
        thing,
        neutral.word_in(entry, "state"),
        address=neutral.member_text(entry, "ip_address"),
        image=neutral.member_text(entry, "template"),
        ends_by_itself=thing.expires_at_ms is not None,  # by the life that its template or its order gave it
    )


def _snapshots(body: bytes) -> tuple[SnapshotSight, ...]:
    entries = neutral.entries_in(neutral.document_in(body), "name")
    return tuple(
        SnapshotSight(name, name, "available", time_ms(entry.get("created_at"))) for name, entry in entries.items()
    )


def _jobs(action: Action, status: int, body: bytes) -> Heard:
    answer, document = neutral.answer_of(status, body), neutral.document_in(body)
    delivery = judge_account(answer).delivery
    if delivery is not Delivery.DELIVERED:
        # A command whose answer is no refusal may have run.
        lost = action is Action.EXEC and delivery is Delivery.UNKNOWN
        return Heard(
            ok=False, jobs=(JobSight("", "unknown"),) if lost else (), detail=neutral.detail_of(status, document)
        )
    rows = document if isinstance(document, list) else [document]
    jobs = tuple(job for job in (_job(action, row) for row in rows) if job is not None)
    return Heard(ok=True, jobs=jobs)


def _job(action: Action, row: object) -> JobSight | None:
    ref = row.get("job_id", row.get("id")) if isinstance(row, dict) else None
    if is_ref(ref):
        return neutral.job_of(row, ref, JOB_STATES)
    if action is not Action.EXEC:
        return None
    waited = neutral.job_of(row, "", JOB_STATES)  # one that was waited for has no id: it is done
    return None if waited is None or waited.exit_code is None else replace(waited, state="done")
