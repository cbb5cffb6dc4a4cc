"""A vendor's neutral translation at work on a sandbox vendor, its requests sent as they are and its answers heard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.server_ports import Action, Ask, Heard, Order, ServerVendor, Sight
from sandbox.shared_vendor.driver import Answer, Driver
from wallets.secret import Secret


@dataclass
class Desk:
    """One translation, asked for things at one vendor process. `last` is the answer that came last."""

    driver: Driver
    servers: ServerVendor
    access: Mapping[str, Secret[str]] = field(default_factory=dict)
    last: Answer | None = None

    def send(self, ask: Ask) -> Answer:
        """Send a request as the broker would, credentials added."""
        self.last = self.driver.call(ask.method, ask.target, raw=ask.body or None, headers=dict(ask.headers))
        return self.last

    def order(self, order: Order) -> Sight | None:
        """Order, and return what the answer shows as made."""
        answer = self.send(self.servers.create(order))
        return self.servers.made(answer.status, answer.raw)

    def do(self, action: Action, ref: str, **parameters: Any) -> Heard:
        """Ask for an action, and return what was heard."""
        answer = self.send(self.servers.ask(action, ref, self.access, parameters))
        return self.servers.hear(action, ref, answer.status, answer.raw)

    def show(self, ref: str) -> Sight:
        """Return the sight of a server that must be shown."""
        heard = self.do(Action.SHOW, ref)
        assert heard.ok, heard.detail
        assert heard.server is not None
        return heard.server

    def listed(self) -> tuple[Sight, ...] | None:
        """Return what the list shows."""
        ask = self.servers.list_ask()
        assert ask is not None
        return self.servers.listed(self.send(ask).raw)

    def catalogue(self) -> dict[str, bytes]:
        """Return the answers to all that states plans."""
        return {ask.target: self.send(Ask("GET", ask.target)).raw for ask in self.servers.catalogue}
