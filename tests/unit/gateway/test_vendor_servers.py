"""Every translation at once: whose it is, that it answers every question, and that all it asks exists at its vendor."""

import itertools
import json

import pytest

from gateway.account_ports import AccountTerms, AccountVendor
from gateway.core.tariff import Rule
from gateway.ports import Vendor
from gateway.server_ports import Action, Feature, Order, ServerVendor
from gateway.vendor_servers import make_servers
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.generic import GenericVendor
from gateway.vendors.litevps import LiteVps
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vrtx import Vrtx
from tests.unit.gateway.vendors.test_vendors_dropmpp import TERMS as DROP_TERMS
from tests.unit.gateway.vendors.test_vendors_vpsagent import TERMS as VPS_TERMS
from wallets.secret import Secret

ORIGIN = "https://vendor.example"
TERMS = AccountTerms(3600, 1_000_000, Rule.STARTED_UNITS, 2, suspend_first=False, grace_s=0)
MODULES: dict[str, Vendor | AccountVendor] = {
    module.name: module
    for module in (
        CryptoVps("cryptovps", ORIGIN, TERMS),
        LiteVps("litevps", ORIGIN, TERMS),
        VpsAgent("vpsagent", ORIGIN, VPS_TERMS),
        DropMpp("dropmpp", ORIGIN, DROP_TERMS),
        Vrtx("vrtx", ORIGIN, TERMS),
    )
}
ACCOUNTS: dict[str, AccountVendor] = {
    "cryptovps": CryptoVps("cryptovps", ORIGIN, TERMS),
    "litevps": LiteVps("litevps", ORIGIN, TERMS),
    "vrtx": Vrtx("vrtx", ORIGIN, TERMS),
}
UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
ACCESS = {"root_token": Secret("t0k3n-that-is-long")}
PARAMETERS = {
    "units": 1,
    "minutes": 60,
    "command": "uptime",
    "job": "j-1",
    "path": "/root/a",
    "content": b"a",
    "name": "before",
    "snapshot": UUID,
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent",
    "key": "17",
}
NEEDS = {
    Action.SHOW: None,
    Action.STATE: None,
    Action.DESTROY: Feature.DESTROY,
    Action.START: Feature.START,
    Action.STOP: Feature.STOP,
    Action.REBOOT: Feature.REBOOT,
    Action.RENEW: Feature.RENEW,
    Action.CREDENTIALS: Feature.CREDENTIALS,
    Action.EXEC: Feature.EXEC,
    Action.JOB_LIST: Feature.JOBS,
    Action.JOB_SHOW: Feature.JOBS,
    Action.JOB_CANCEL: Feature.JOBS,
    Action.FILE_GET: Feature.FILES,
    Action.FILE_PUT: Feature.FILES,
    Action.SNAPSHOT_CREATE: Feature.SNAPSHOTS,
    Action.SNAPSHOT_LIST: Feature.SNAPSHOTS,
    Action.SNAPSHOT_DELETE: Feature.SNAPSHOT_DELETE,
    Action.RESTORE: Feature.RESTORE_IN_PLACE,
    Action.KEY_ADD: Feature.SSH_KEYS,
    Action.KEY_DELETE: Feature.SSH_KEYS,
}
BODIES = (
    b"",
    b"<html>",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"[null]",
    b'{"id":5}',
    b'{"data":null}',
    b'{"data":[{"uuid":1}]}',
    b'{"server":{"id":"s-1"}}',
    b'{"servers":[{"id":"s-1"},null]}',
    b'[{"id":"s-1"},{"job_id":[]},{"name":{}}]',
    b'{"error":{"message":[]}}',
    b'{"a":1,"a":2}',
    b"[" * 100,
    b'"\\ud800"',
)
STATUSES = (200, 201, 202, 204, 207, 301, 400, 402, 403, 404, 409, 422, 429, 500, 502)


def servers_of(name: str) -> ServerVendor:
    """The translation that must exist."""
    made = make_servers(MODULES[name])
    assert made is not None
    return made


def allowed(servers: ServerVendor) -> list[Action]:
    """The actions that a vendor's features allow."""
    without = set() if servers.features.state_apart else {Action.STATE}
    found = [action for action, need in NEEDS.items() if need is None or servers.features.can(need)]
    return [action for action in found if action not in without]


def test_a_generic_vendor_has_none() -> None:
    """It is known by configuration alone: nothing says what a server would be there."""
    assert make_servers(GenericVendor("shop", ORIGIN, VPS_TERMS, ceiling_base=100)) is None


def test_every_action_needs_a_feature_that_is_named_here() -> None:
    """A new action cannot stay out of these tests."""
    assert set(NEEDS) == set(Action)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_question_has_an_answer(name: str) -> None:
    """Yes, no or unknown for every feature; what cannot be kept states no rules for it."""
    servers = servers_of(name)
    assert servers.name == name
    assert set(servers.features.does) == set(Feature)
    assert set(servers.features.does.values()) <= {"yes", "no", "unknown"}
    assert (servers.features.renew is not None) == servers.features.can(Feature.RENEW)
    assert (servers.features.snapshots is not None) == servers.features.can(Feature.SNAPSHOTS)
    assert servers.features.unit_s > 0
    assert servers.features.hold_max_s > 0
    assert servers.features.refundable
    assert (servers.list_ask() is not None) == servers.features.can(Feature.LIST)


@pytest.mark.parametrize("name", sorted(ACCOUNTS))
def test_what_features_allow_is_a_request_that_the_vendor_has(name: str) -> None:
    """Its route is declared and takes the body, and an id cannot become another path."""
    servers, module = servers_of(name), ACCOUNTS[name]
    for action in allowed(servers):
        ask = servers.ask(action, UUID, ACCESS, PARAMETERS)
        match = module.match(ask.method, ask.target.partition("?")[0])
        assert match is not None, action
        module.check_input(match, ask.body)
        query = ask.target.partition("?")[2]
        assert {pair.partition("=")[0] for pair in query.split("&") if pair} <= module.queries.get(
            match.route.name, frozenset()
        )
    for asked in servers.catalogue:
        found = module.match("GET", asked.target.partition("?")[0])
        assert found is not None, asked.target


@pytest.mark.parametrize("name", sorted(ACCOUNTS))
def test_what_features_do_not_allow_is_a_mistake_of_ours(name: str) -> None:
    """It is told from what a vendor would refuse."""
    servers = servers_of(name)
    for action in set(NEEDS) - set(allowed(servers)):
        with pytest.raises(ValueError, match="cannot"):
            servers.ask(action, UUID, ACCESS, PARAMETERS)


@pytest.mark.parametrize("name", sorted(ACCOUNTS))
def test_a_create_is_an_order_that_the_broker_reads(name: str) -> None:
    """The same request tells the broker the plan that it holds money for, and takes our mark into its name."""
    plans = {"cryptovps": ("vc2-1c-1gb", "ams"), "litevps": ("p-1", ""), "vrtx": ("1", "sydney-au-6")}
    plan, region = plans[name]
    ask = servers_of(name).create(Order(plan, "web-01", region=region))
    module = ACCOUNTS[name]
    match = module.match(ask.method, ask.target)
    assert match is not None
    read = module.order(match, ask.body)
    assert (read.kind, read.name) == (plan, "web-01")
    assert b"web-01-gabcdefghij234567" in module.marked(match, ask.body, "gabcdefghij234567")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_answer_is_too_strange_to_be_heard(name: str) -> None:
    """Whatever comes back, at any status: nothing is raised, and what is not a success was not done."""
    servers = servers_of(name)
    for action, status, body in itertools.product(allowed(servers), STATUSES, BODIES):
        heard = servers.hear(action, UUID, status, body)
        assert not heard.ok or status < 300 or status in {404, 409}, (action, status, body)
        assert heard.ok or heard.detail
    for status, body in itertools.product(STATUSES, BODIES):
        made = servers.made(status, body)
        assert made is None or (status < 300 and made.ref)
    for body in BODIES:
        servers.listed(body)


@pytest.mark.parametrize("name", sorted(ACCOUNTS))
def test_another_servers_answer_is_not_believed(name: str) -> None:
    """An answer about another thing tells nothing of the one that was asked for."""
    shapes = {"cryptovps": {"server": {"id": "s-2"}}, "litevps": {"id": "s-2"}, "vrtx": {"data": {"uuid": UUID[::-1]}}}
    heard = servers_of(name).hear(Action.SHOW, UUID, 200, json.dumps(shapes[name]).encode())
    assert (heard.ok, heard.server) == (False, None)
