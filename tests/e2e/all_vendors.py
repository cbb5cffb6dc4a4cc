"""A gateway process before all five vendors, with an agent that rents at some of them: what the whole of `/v1` needs to run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e_agent import Agent, eventually
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import GatewayHome
from topup_bed import BASE, ETHER, Chains

from contracts.codec import checksum
from gateway.vendor_credentials import save
from tests.flows.broker_bed import SECRETS
from tests.flows.neutral_bed import FLOAT_BASE, VENDORS, Places, config_text, places
from wallets.keystore import Keystore
from wallets.sealing import Sealer
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests
    from e2e_gateway import Gateway

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh me@example"
NOBODY = "http://127.0.0.1:9/"  # the discard port: nothing listens there
SERVICE = """
[server]
port = 0
public_url = "https://gateway.example"
shutdown_timeout_s = 5
[webhooks]
allow_private_networks = ["127.0.0.0/8"]
allow_plain_http = true
[tills.main]
address = "{till}"
tokens = ["base-usdc", "moderato-pathusd"]
[relayers.one]
address = "{relayer}"
chains = ["base"]
[facilitator]
tokens = ["base-usdc"]
[topups]
packs = {{ one = "0.5" }}
"""


@dataclass
class Service:
    """The running process and its funded agent. `ids` are of things that the agent has, by collection."""

    home: GatewayHome
    gateway: Gateway
    places: Places
    agent: Agent
    ids: dict[str, list[str]] = field(default_factory=dict)
    tokens: int = 0

    def make(self, collection: str, body: Any, query: str = "") -> Any:
        """Make something of the agent's and note its id."""
        answer = self.ask("POST", f"/v1/{collection}{query}", body)
        assert answer.status_code in {200, 201, 202}, answer.text
        made = answer.json()
        self.ids.setdefault(collection.rpartition("/")[2], []).append(made["id"])
        return made

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Ask as the agent; each call has an Idempotency-Key of its own."""
        self.tokens += 1
        return self.agent.ask(method, path, json=body, headers={"Idempotency-Key": f"service-{self.tokens}"})

    def rent(self, vendor: str, **more: Any) -> str:
        """Rent a server at a vendor, wait until it runs, and return its id."""
        body = {"need": {"vendors": [vendor], "sandbox": True}, "name": f"at-{vendor}", **more}
        made = self.make("servers", body, "?wait=running&timeout_s=20")
        assert made["state"] == "running", made
        return str(made["id"])


@contextlib.contextmanager
def all_vendors(directory: Path) -> Iterator[Service]:
    """Start the chains, the vendors and the gateway; its agent has USD 200 and a key that may do everything, settle too."""
    home = GatewayHome(directory)
    keystore = Keystore(directory / "keystore")
    sealer = Sealer(keystore.unlock(Secret(PASSPHRASE)).data_key)
    till, relayer = (checksum(keystore.new_wallet(Secret(PASSPHRASE))) for _ in range(2))
    for vendor, secrets in SECRETS.items():
        save(directory / "keystore", vendor, secrets, sealer)
    with places() as here:
        here.base.mint(home.wallet, FLOAT_BASE)
        here.tempo.fund({home.wallet: FLOAT_BASE})
        here.base.rpc("anvil_setBalance", relayer, hex(ETHER))
        text = config_text(here, directory, home.wallet).replace('"env:PASSPHRASE"', f'"env:{PASSPHRASE_VARIABLE}"')
        home.config.write_text(text + SERVICE.format(till=till, relayer=relayer))
        with home.start() as gateway:
            agent = Agent.open(gateway, "200", scopes=["proxy", "read", "keys", "settle"])
            gateway.operate("sellers_set", account=agent.account_id, gas_budget="0.01")
            yield Service(home, gateway, here, agent)


def furnish(service: Service) -> None:
    """Give the agent one of everything: servers, a snapshot, a job, a fleet, a webhook, a top-up, its receipt, a refund."""
    everywhere = "/v1/plans?sandbox=true&limit=200"
    eventually(
        lambda: {plan["vendor"] for plan in service.ask("GET", everywhere).json()["entries"]} == set(VENDORS),
        within_s=100,  # a vendor that could not be paid yet when it was first asked is asked again after a minute
        what="the plans of every vendor",
    )
    service.make("ssh-keys", {"name": "me", "public_key": PUBLIC_KEY})
    service.make("quotes", {"need": {"min_memory_mib": 512}})
    machine = service.rent("litevps")
    service.rent("dropmpp", minutes=30)
    service.rent("cryptovps")
    service.make(f"servers/{machine}/snapshots", {"name": "first"})
    ran = service.ask("POST", f"/v1/servers/{machine}/exec", {"command": "uptime", "background": True})
    service.ids["jobs"] = [ran.json()["job"]["id"]]
    need = {"need": {"vendors": ["vrtx"]}, "count": 1, "until": "2030-01-01T00:00:00Z", "budget": "1"}
    service.make("fleets", need)
    service.make("webhooks", {"url": NOBODY, "events": ["*"]})
    _pay_in(service)
    service.ids["payments"] = [entry["id"] for entry in service.ask("GET", "/v1/payments?limit=3").json()["entries"]]


def _pay_in(service: Service) -> None:
    """Buy a pack of credit on chain, and send a part of it back."""
    places, key = service.places, {"X-Api-Key": service.agent.key}
    purse = Chains(places.base, places.tempo).purse(BASE)
    paid = purse.pay_x402(service.gateway.base_url, "/v1/topups/packs/one", key, 2).send(service.gateway.base_url)
    assert paid is not None
    assert paid.status in {200, 202}, paid.body
    service.ids["topups"] = [paid.body["id"]]
    path = f"/v1/topups/{paid.body['id']}"
    eventually(
        lambda: service.ask("GET", path).json()["state"] == "credited", within_s=60, what="the end of the top-up"
    )
    service.ids["receipts"] = [service.ask("GET", "/v1/receipts").json()["entries"][0]["id"]]
    service.make("refunds", {"receipt": service.ids["receipts"][0], "amount": "0.1"})
