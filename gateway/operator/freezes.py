"""Stopping and releasing: everything, a vendor, a wallet, an account or an asset.

Must not know what a freeze stops; the hold's commit and the signer ask.  Theory: a stop with a mistyped name stops nothing
and looks as if it did, so every scope is checked against what exists.
"""

import re
from typing import Any

from contracts.codec import CodecError, parse_address, to_hex
from gateway.core.commands import SetFreeze
from gateway.core.problems import Problem
from gateway.core.records import Freeze
from gateway.operator import describe
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services

ALL = "all"
QUARANTINE = "quarantine"
_ASSET = re.compile(r"eip155:[1-9][0-9]{0,18}/erc20:(0x[0-9a-fA-F]{40})", re.ASCII)


async def freeze_set(services: Services, params: Params) -> dict[str, Any]:
    """Freeze a scope; `changed` is false if it was frozen already."""
    scope = _scope(services, params.text("scope"))
    command = SetFreeze(scope, frozen=True, reason=params.text("reason"), by=params.by, at_ms=services.clock.now_ms())
    done = await post(services, command)
    return {"changed": done.changed, "freeze": _freeze(services.store.view.freezes[scope])}


async def freeze_lift(services: Services, params: Params) -> dict[str, Any]:
    """Lift a freeze. The quarantine of an older database lifts itself; `force` overrides it, at the house's risk."""
    scope = params.text("scope")
    frozen = services.store.view.freezes.get(scope)
    if frozen is None:
        scope = _scope(services, scope)
        frozen = services.store.view.freezes.get(scope)
    if frozen is None:
        raise Problem("not_found", f"{scope} is not frozen")
    if frozen.by == QUARANTINE and not params.flag("force"):
        raise Problem(
            "frozen", "the database is in quarantine; it ends when the chain has told what is missing (force overrides)"
        )
    if frozen.by == QUARANTINE and services.accept_database is None:
        raise Problem("frozen", "only a running gateway can take this database for the true one: start it, then lift")
    command = SetFreeze(scope, frozen=False, reason=params.text("reason"), by=params.by, at_ms=services.clock.now_ms())
    done = await post(services, command)
    if frozen.by == QUARANTINE and services.accept_database is not None:
        services.accept_database()
    return {"changed": done.changed, "scope": scope}


async def freeze_list(services: Services, _params: Params) -> dict[str, Any]:
    """Return what is frozen."""
    return {"freezes": [_freeze(each) for _, each in sorted(services.store.view.freezes.items())]}


def _freeze(freeze: Freeze) -> dict[str, Any]:
    return {"scope": freeze.scope, "reason": freeze.reason, "by": freeze.by, "at": describe.when(freeze.at_ms)}


def _scope(services: Services, text: str) -> str:
    """Return the scope as the decisions spell it. Raises Problem for one that covers nothing."""
    kind, colon, name = text.partition(":")
    if text == ALL:
        return text
    if not colon or kind not in {"vendor", "wallet", "account", "asset"}:
        raise Problem(
            "bad_request",
            "a scope is all, vendor:<name>, wallet:<address>, account:<id> or asset:<CAIP-19 id>",
            "scope",
        )
    if kind == "vendor" and name not in services.routes:
        raise Problem("vendor_unknown", f"{name} is not in the configuration", "scope")
    if kind == "account" and name not in services.store.view.agent_accounts:
        raise Problem("not_found", f"there is no account {name}", "scope")
    try:
        if kind == "wallet":
            return f"wallet:{_own_wallet(services, name)}"
        if kind == "asset":
            return f"asset:{_asset(name)}"
    except CodecError as error:
        raise Problem("bad_request", str(error), "scope") from None
    return text


def _own_wallet(services: Services, text: str) -> str:
    address = parse_address(text)
    if address not in services.own_addresses:
        raise Problem("not_found", f"{describe.address(address)} is not a wallet of the configuration", "scope")
    return to_hex(address)


def _asset(text: str) -> str:
    """Payments name their asset with the checksummed address, and scopes are compared as text."""
    match = _ASSET.fullmatch(text)
    if match is None:
        raise CodecError("an asset is written as eip155:<chain id>/erc20:<address>")
    return text[: match.start(1)] + describe.address(parse_address(match[1]))
