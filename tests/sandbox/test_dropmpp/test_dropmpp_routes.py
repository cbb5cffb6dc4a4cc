"""The vendor's document, route by route: schemas, prices, ownership, and what business time does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dropmpp_harness import DAY_S, HOUR_S, SMALL, SMALL_BASE

from sandbox.tempo.tip20 import DEV_TOKENS

if TYPE_CHECKING:
    from dropmpp_harness import DropClient

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent"
GIGABYTES_SMALL = "1.87"


def holdings(drop: DropClient) -> int:
    """What the payer has in all tokens together, in base units."""
    return sum(drop.chain.balance_of(drop.address, token=token) for token in DEV_TOKENS)


def test_catalogue_is_open_and_complete(drop: DropClient) -> None:
    """Sizes with rates, specs and fees, three regions, two images and the price of retention, without a wallet."""
    sizes = {size["slug"]: size for size in drop.raw("GET", "/v1/catalog/sizes").json()["sizes"]}
    assert set(sizes) == {"small", "medium", "large"}
    assert sizes["small"]["hourly"] == "0.0134"
    assert sizes["small"]["per_minute"] == "0.000223333"
    assert sizes["small"]["create_fee"] == "0.01"
    regions = drop.raw("GET", "/v1/catalog/regions").json()["regions"]
    assert {region["slug"]: region["name"] for region in regions} == {
        "nyc1": "New York",
        "sfo3": "San Francisco",
        "ams3": "Amsterdam",
    }
    images = drop.raw("GET", "/v1/catalog/images").json()["images"]
    assert [image["name"] for image in images] == ["Ubuntu 24.04 LTS", "Debian 12"]
    assert drop.raw("GET", "/v1/catalog/snapshot-pricing").json() == {
        "rate_per_gb_day": "0.00267",
        "minimum_charge": "0.01",
        "free_retention_hours": 72,
        "max_days_per_call": 365,
    }
    assert drop.state()["proofs"] == 0


@pytest.mark.parametrize(
    ("body", "amount_base"),
    [
        ({"size": "small", "region": "nyc1"}, 10_224),  # one minute by default: 0.01 + 0.0134 / 60, rounded up
        ({"size": "small", "region": "nyc1", "minutes": 60}, SMALL_BASE),
        ({"size": "medium", "region": "sfo3", "minutes": 7}, 26_254),
        ({"size": "large", "region": "ams3", "minutes": 43_200}, 77_224_000),
    ],
)
def test_create_costs_fee_and_minutes(drop: DropClient, body: Any, amount_base: int) -> None:
    """Create fee plus hourly rate times minutes over sixty, to the vendor's address, in pathUSD on this chain."""
    parameters, asked = drop.challenge("POST", "/v1/servers", body)
    assert (parameters["method"], parameters["intent"], parameters["realm"]) == ("tempo", "charge", "127.0.0.1")
    assert asked == {
        "amount": str(amount_base),
        "currency": drop.chain.token_address,
        "recipient": drop.process.info["pay_to"],
        "methodDetails": {"chainId": 42431},
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": "huge"}, "size"),
        ({"region": "lon1"}, "region"),
        ({"image": "windows"}, "image"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 1.5}, "minutes"),
        ({"minutes": True}, "minutes"),
        ({"ssh_key_ids": "key_1"}, "ssh_key_ids"),
        ({"ssh_key_ids": ["key_1"]}, "does not exist"),
        ({"snapshot_id": "snap_1"}, "snapshot_id"),
        ({"user_data": "x" * 65_537}, "user_data"),
    ],
)
def test_bad_create_is_refused_before_any_price(drop: DropClient, change: Any, says: str) -> None:
    """What is wrong with the body is 400, without a challenge."""
    answer = drop.raw("POST", "/v1/servers", SMALL | change)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert "www-authenticate" not in answer.headers


def test_life_of_a_server(drop: DropClient) -> None:
    """Create, read, extend, switch, reboot, snapshot, restore, delete; the chain shows just these charges."""
    before, owned = drop.income(), holdings(drop)
    created = drop.good("POST", "/v1/servers", SMALL)
    assert set(created) == {"id", "status", "paid_until", "minutes_purchased", "total_charged"}
    assert (created["status"], created["minutes_purchased"], created["total_charged"]) == ("provisioning", 60, "0.0234")
    path = f"/v1/servers/{created['id']}"
    drop.advance(2)
    shown = drop.good("GET", path)
    assert {"id", "ip", "root_password", "remaining_minutes", "remaining_hours", "status", "paid_until"} <= set(shown)
    assert (shown["status"], shown["remaining_minutes"]) == ("active", 59)
    assert shown["paid_until"] == created["paid_until"]

    extended = drop.good("POST", f"{path}/extend", {"minutes": 120})
    assert (extended["minutes_added"], extended["charged"]) == (120, "0.0268")
    assert drop.good("GET", path)["remaining_minutes"] == 179
    assert drop.good("POST", f"{path}/power", {"action": "off"})["status"] == "off"
    assert drop.raw("POST", f"{path}/reboot").status_code == 409
    assert drop.good("POST", f"{path}/power", {"action": "on"})["status"] == "active"
    assert drop.good("POST", f"{path}/reboot")["id"] == created["id"]
    taken = drop.call("POST", f"{path}/snapshot", {"name": "before"})
    assert taken.status == 202
    assert set(taken.json()) == {"id", "status", "expires_in_hours", "message"}
    assert taken.json()["expires_in_hours"] == 72
    assert drop.raw("POST", "/v1/servers", SMALL | {"snapshot_id": taken.json()["id"]}).status_code == 400
    drop.advance(2)
    restored = drop.good("POST", "/v1/servers", SMALL | {"snapshot_id": taken.json()["id"]})

    deleted = drop.good("DELETE", path)
    assert deleted["deleted"] is True
    assert deleted["snapshot"]["expires_in_hours"] == 72
    assert [server["id"] for server in drop.good("GET", "/v1/servers")["servers"]] == [restored["id"]]
    assert drop.call("GET", path).status == 404
    kept = drop.good("GET", "/v1/snapshots")["snapshots"]
    assert {one["id"] for one in kept} == {taken.json()["id"], deleted["snapshot"]["id"]}

    spent = SMALL_BASE + 26_800 + 5_000 + 5_000 + 5_000 + 10_000 + SMALL_BASE
    assert drop.income() - before == spent
    assert sum(int(payment["amount_base"]) for payment in drop.payments()) == spent
    assert owned - holdings(drop) > spent  # the network's fees on top, in whichever token the account pays them


@pytest.mark.parametrize(("minutes", "amount_base"), [(1, 10_000), (44, 10_000), (45, 10_050), (60, 13_400)])
def test_extend_costs_at_least_a_cent(drop: DropClient, minutes: int, amount_base: int) -> None:
    """Hourly rate times minutes over sixty, floored at 0.01."""
    path = f"/v1/servers/{drop.server()}/extend"
    assert drop.price("POST", path, {"minutes": minutes}) == amount_base
    assert drop.raw("POST", path, {}).status_code == 400


def test_prepaid_minutes_run_out_on_the_business_clock(drop: DropClient) -> None:
    """At paid_until the server is gone, for its owner too, and cannot be extended any more."""
    server_id = drop.server()
    drop.advance(HOUR_S - 60)
    assert drop.good("GET", f"/v1/servers/{server_id}")["remaining_minutes"] == 0
    drop.advance(60)
    assert drop.good("GET", "/v1/servers") == {"servers": []}
    assert drop.call("GET", f"/v1/servers/{server_id}").status == 404
    assert drop.raw("POST", f"/v1/servers/{server_id}/extend", {"minutes": 60}).status_code == 404
    assert drop.good("GET", "/v1/snapshots") == {"snapshots": []}


def test_keys_are_registered_installed_and_removed(drop: DropClient) -> None:
    """A key costs 0.001, its fingerprint is MD5 as DigitalOcean's, and a server may be created with it."""
    assert drop.raw("POST", "/v1/keys", {"name": "k", "public_key": "nonsense"}).status_code == 400
    assert drop.raw("POST", "/v1/keys", {"public_key": ED25519}).status_code == 400
    assert drop.price("POST", "/v1/keys", {"name": "k", "public_key": ED25519}) == 1_000
    key = drop.good("POST", "/v1/keys", {"name": "k", "public_key": ED25519})
    assert key["name"] == "k"
    assert key["fingerprint"] == "65:96:2d:fc:e8:d5:a9:11:64:0c:0f:ea:00:6e:5b:bd"
    assert drop.good("GET", "/v1/keys")["keys"] == [key]
    server_id = drop.server(SMALL | {"ssh_key_ids": [key["id"]]})
    assert drop.state()["servers"][server_id]["ssh_key_ids"] == [key["id"]]
    assert drop.good("DELETE", f"/v1/keys/{key['id']}")["deleted"] is True
    assert drop.good("GET", "/v1/keys") == {"keys": []}


def test_snapshot_retention(drop: DropClient) -> None:
    """Seventy-two free hours; extension is priced by size and day with a floor, stacks, and ends in expiry."""
    snapshot_id = drop.snapshot()
    path = f"/v1/snapshots/{snapshot_id}"
    assert drop.good("GET", path)["size_gb"] == float(GIGABYTES_SMALL)
    assert drop.price("POST", f"{path}/extend", {"days": 1}) == 10_000
    assert drop.price("POST", f"{path}/extend", {"days": 30}) == 149_787  # 1.87 * 30 * 0.00267
    for days in (0, 366, "3"):
        assert drop.raw("POST", f"{path}/extend", {"days": days}).status_code == 400
    extended = drop.good("POST", f"{path}/extend", {"days": 2})
    assert (extended["days_added"], extended["charged"]) == (2, "0.01")
    assert extended["remaining_days"] == pytest.approx(5, abs=0.01)
    drop.advance(4 * DAY_S)
    assert drop.good("GET", path)["remaining_days"] == pytest.approx(1, abs=0.01)
    drop.advance(1 * DAY_S)
    assert drop.call("GET", path).status == 404
    assert drop.raw("POST", f"{path}/extend", {"days": 2}).status_code == 404
    assert drop.good("GET", "/v1/snapshots") == {"snapshots": []}


def test_too_big_a_snapshot_is_refused_before_the_charge(drop: DropClient) -> None:
    """A large server's snapshot does not go onto a small disk; a deleted snapshot goes nowhere."""
    snapshot_id = drop.snapshot({"size": "large", "region": "nyc1", "minutes": 10})
    answer = drop.raw("POST", "/v1/servers", SMALL | {"snapshot_id": snapshot_id})
    assert answer.status_code == 400
    assert "160 GB" in answer.json()["error"]
    assert drop.good("DELETE", f"/v1/snapshots/{snapshot_id}")["deleted"] is True
    large = {"size": "large", "region": "nyc1", "snapshot_id": snapshot_id}
    assert drop.raw("POST", "/v1/servers", large).status_code == 400


def test_another_wallet_sees_and_touches_nothing(drop: DropClient) -> None:
    """Every route that names what is not the asker's answers 404, before it charges; lists are empty."""
    server_id = drop.server()
    snapshot_id = drop.snapshot()
    key_id = drop.good("POST", "/v1/keys", {"name": "k", "public_key": ED25519})["id"]
    before, collected = drop.state(), drop.income()
    stranger = drop.as_account(1)
    for method, path, body in [
        ("GET", f"/v1/servers/{server_id}", None),
        ("DELETE", f"/v1/servers/{server_id}", None),
        ("POST", f"/v1/servers/{server_id}/extend", {"minutes": 60}),
        ("POST", f"/v1/servers/{server_id}/snapshot", {}),
        ("POST", f"/v1/servers/{server_id}/reboot", None),
        ("POST", f"/v1/servers/{server_id}/power", {"action": "off"}),
        ("GET", f"/v1/snapshots/{snapshot_id}", None),
        ("POST", f"/v1/snapshots/{snapshot_id}/extend", {"days": 1}),
        ("DELETE", f"/v1/snapshots/{snapshot_id}", None),
        ("DELETE", f"/v1/keys/{key_id}", None),
        ("POST", "/v1/servers", SMALL | {"snapshot_id": snapshot_id}),
        ("POST", "/v1/servers", SMALL | {"ssh_key_ids": [key_id]}),
    ]:
        assert stranger.call(method, path, body).status == 404, (method, path)
    for what in ("servers", "snapshots", "keys"):
        assert stranger.good("GET", f"/v1/{what}") == {what: []}
    after = drop.state()
    assert [after[what] for what in ("servers", "snapshots", "keys", "payments")] == [
        before[what] for what in ("servers", "snapshots", "keys", "payments")
    ]
    assert drop.income() == collected


def test_undeclared_routes_and_methods(drop: DropClient) -> None:
    """404 for a path that the document does not have, 405 for a method."""
    assert drop.raw("GET", "/v1/billing").status_code == 404
    assert drop.raw("PUT", "/v1/servers").status_code == 405
    assert drop.raw("POST", "/v1/servers", data="[]").status_code == 400
