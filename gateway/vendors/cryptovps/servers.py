"""CryptoVPS in neutral words: five documented plans in any region, destroyed or backed up, restored to new servers.

Must not know flows.  Theory: the document prices months alone, so a plan's hour is the bound that creates are held
against (a month's price by the hours of the shortest month), and the server's own, lower price is what is charged.
"""

# ruff: noqa: ARG002 - the seam passes what some vendor needs; one without lists of prices or access uses less of it

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import Thing, Told
from gateway.core.plan import Plan, Source
from gateway.server_ports import Action, Ask, CatalogueAsk, Feature, Heard, Order, Sight, SnapshotRule
from gateway.vendors import neutral
from gateway.vendors.account import request_to, segment
from gateway.vendors.cryptovps.inputs import LABEL
from gateway.vendors.cryptovps.routes import BACKUP, PRICES, REGIONS, SERVER
from gateway.vendors.cryptovps.vendor import CryptoVps
from wallets.secret import Secret

__all__ = ["CryptoVpsServers"]

_BACKUP_KEPT_S: Final = 7 * 86_400
_READY_PAUSES_S: Final = (5.0,)  # "poll every ~5 seconds"
_OK: Final = 200
_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vc2-1c-1gb": "Micro",
        "vc2-1c-2gb": "Starter",
        "vc2-2c-4gb": "Standard",
        "vc2-4c-8gb": "Pro",
        "vc2-6c-16gb": "Beast",
    }
)
_FIELDS: Final[Mapping[str, str]] = MappingProxyType({"label": "name", "planId": "plan", "regionId": "region"})
_DOES: Final = neutral.features_of(
    {
        Feature.LIST,
        Feature.DESTROY,
        Feature.REGIONS,
        Feature.SNAPSHOTS,
        Feature.SNAPSHOT_DELETE,
        Feature.RESTORE_TO_NEW,
    },
    # "SSH as root is available": with which key or password, the document leaves open.
    unknown={Feature.CREDENTIALS, Feature.SSH_KEYS},
)
_ROUTES: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.SHOW: "server",
        Action.DESTROY: "destroy",
        Action.SNAPSHOT_CREATE: "backup",
        Action.SNAPSHOT_LIST: "backups",
        Action.SNAPSHOT_DELETE: "delete_backup",
    }
)


class CryptoVpsServers:
    """The translation; implements gateway.server_ports.ServerVendor."""

    catalogue: tuple[CatalogueAsk, ...] = ()  # its plans and regions stand in the document alone

    def __init__(self, vendor: CryptoVps) -> None:
        """Build it for one configured account."""
        self.name = vendor.name
        self._vendor = vendor
        self.features = replace(
            neutral.paid_by_time(vendor, _DOES),
            snapshots=SnapshotRule(_BACKUP_KEPT_S, named_by_agent=False),
            name_pattern=LABEL.pattern,
            ready_pauses_s=_READY_PAUSES_S,
        )

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the document's plans, every one of which is had in every region."""
        return tuple(
            neutral.plan_of(self._vendor, price, _NAMES.get(price.kind, ""), Source.DOCUMENT, None, regions=REGIONS)
            for price in PRICES
        )

    def create(self, order: Order) -> Ask:
        """Return the deployment; for a backup, which brings plan, region and label with it, its restoring.

        Raises Problem("input_refused") naming the neutral field.
        """
        unwanted = {"image": order.image, "ssh_keys": order.ssh_keys, "user_data": order.user_data}
        neutral.refuse_what(self.name, {**unwanted, "minutes": order.minutes})
        if order.snapshot:
            return self._checked("POST", f"/backups/{segment(order.snapshot)}/restore", about="snapshot")
        document = {"label": order.name, "planId": order.plan, "regionId": order.region}
        return self._checked("POST", "/servers", document, about="plan")

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return the server that the answer to a deployment or a restoring shows."""
        told = neutral.told_by(self._vendor, "create", "", status, body)
        return next(iter(_sights(told, "server")), None) if told.created else None

    def ask(
        self,
        action: Action,
        ref: str,
        access: Mapping[str, Secret[str]],
        parameters: Mapping[str, Any] = _NO_PARAMETERS,
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused"), ValueError for what the vendor cannot do."""
        if action is Action.SHOW:
            return neutral.ask_of(self._vendor.show_request(ref))
        if action is Action.DESTROY:
            return neutral.ask_of(self._vendor.destroy_request(ref))
        if action is Action.SNAPSHOT_CREATE:  # it is labelled as its server is
            return self._checked("POST", "/backups", {"serverId": ref}, about="server")
        if action is Action.SNAPSHOT_LIST:
            return self._checked("GET", "/backups", about="server")
        if action is Action.SNAPSHOT_DELETE:
            backup = neutral.text_parameter(parameters, "snapshot")
            return self._checked("DELETE", f"/backups/{segment(backup)}", about="snapshot")
        raise ValueError(f"{self.name} cannot {action}")

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action. A list of backups holds those of all the account's servers."""
        told = neutral.told_by(self._vendor, _ROUTES[action], ref, status, body)
        if action is Action.DESTROY:
            return neutral.ended(told, ref, status, body)
        if action is Action.SNAPSHOT_DELETE:
            return neutral.gone(told, status, body)
        backups = tuple(neutral.snapshot_of(thing) for thing in told.things if thing.kind == BACKUP)
        server = next(iter(_sights(told, "server")), None)
        if server is None and action is Action.SHOW:
            server = neutral.missing(ref, status, body)
        return neutral.heard(told, status, body, server=server, snapshots=backups)

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return the servers that are not destroyed; None for an answer that proves nothing."""
        if self._vendor.read_list(neutral.answer_of(_OK, body)) is None:
            return None
        return _sights(neutral.told_by(self._vendor, "servers", "", _OK, body), "servers")

    def list_ask(self) -> Ask | None:
        """Return the request for the account's servers."""
        return self._checked("GET", "/servers", about="server")

    def _checked(self, method: str, target: str, document: Any | None = None, *, about: str) -> Ask:  # noqa: ANN401 - JSON's own type
        return neutral.checked(self._vendor, neutral.ask_of(request_to(method, target, document)), about, _FIELDS)


def _sights(told: Told, member: str) -> tuple[Sight, ...]:
    found = told.document.get(member) if isinstance(told.document, dict) else None
    entries = neutral.entries_in(found)
    return tuple(_sight(thing, entries.get(thing.ref, {})) for thing in told.things if thing.kind == SERVER)


def _sight(thing: Thing, entry: Mapping[str, Any]) -> Sight:
    region = neutral.member_text(entry, "region")  # named by the document, whose shape it does not show
    return neutral.sight_of(
        thing,
        neutral.word_in(entry, "status"),
        address=neutral.member_text(entry, "ipv4"),
        region=region if region in REGIONS else "",
    )
