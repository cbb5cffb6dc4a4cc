"""Our facilitator and PyPI `x402`'s own on one chain: what we take it takes, and where we are stricter is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from contracts.codec import checksum, parse_address
from sandbox.process import SandboxProcess
from tests.unit.gateway.facilitator.facilitator_bed import Bed, bed_on, relay_chain
from tests.unit.gateway.facilitator.payments_bed import Draft, Sent
from tests.unit.gateway.facilitator.refusals import CASES, KINDS, broken, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sandbox.chain import LocalBase
    from tests.unit.gateway.facilitator.refusals import Kind

OWNER = "0x" + "d1" * 32
TIMEOUT_S = 60
LENIENT_NUMBERS = (
    "a JSON number",
    "leading blank",
    "a plus",
    "an underscore",
    "leading zero",
    "full-width digits",
    "trailing newline",
)
STRICTER = {
    # Python's own int(), or pydantic's coercion: two readers may read two amounts.
    *((f"value: {each}", version) for each in LENIENT_NUMBERS for version in (1, 2)),
    *((f"price: {each}", version) for each in LENIENT_NUMBERS[1:] for version in (1, 2)),
    *((f"time-out is {each}", version) for each in ("text", "zero", "true") for version in (1, 2)),
    ("version as text", 1),
    ("version true", 1),
    ("network with a leading zero", 2),
    ("network in full-width digits", 2),
    # What is asked is not what is paid, or is asked in two ways.
    ("another scheme asked", 2),
    ("another amount accepted", 2),
    ("another asset accepted", 2),
    ("another payee accepted", 2),
    *(("permit2 asked", version) for version in (1, 2)),
    *(("two prices", version) for version in (1, 2)),
    # Gas for nothing, and windows without an end.
    *(("price is zero", version) for version in (1, 2)),
    *(("valid for ever", version) for version in (1, 2)),
    *(("window is too wide", version) for version in (1, 2)),
}
"""What PyPI x402 2.25 takes and we refuse: each for a reason, and nothing besides."""

ALIKE = (
    "expired",
    "about to expire",
    "not yet valid",
    "another key's",
    "under the testnet's name",
    "ERC-2098",
    "underpaid",
)
ALIKE += ("overpaid", "pays another", "no extra", "no name", "no domain version", "another nonce than signed")


@pytest.fixture(scope="module")
def stock(shared_automine_base: LocalBase) -> Iterator[SandboxProcess]:
    """The SDK's facilitator behind HTTP, on the same chain."""
    config = {"rpc_url": shared_automine_base.rpc_url, "relayer_key": shared_automine_base.dev_account(14)[1]}
    with SandboxProcess.start("sandbox.sellers.facilitator", config) as process:
        yield process


@pytest.fixture
async def ours(shared_automine_base: LocalBase) -> AsyncIterator[Bed]:
    """Our own; it takes windows of at most an hour."""
    chain, endpoint = relay_chain(shared_automine_base)
    yield bed_on(chain, window_max_s=3_600)
    await endpoint.close()


@pytest.fixture
def payer(shared_automine_base: LocalBase) -> Draft:
    """A payment of somebody who has the money."""
    who, key = shared_automine_base.dev_account(6)
    shared_automine_base.mint(who, 1_000_000)
    return Draft(key)


def theirs(stock: SandboxProcess, sent: Sent) -> str:
    """Return the stock reason, "" where it takes the payment; a 4xx or 5xx takes nothing and is its status."""
    answer = requests.post(f"{stock.base_url}/verify", json=sent.body, timeout=TIMEOUT_S)
    if answer.status_code != requests.codes.ok:
        return str(answer.status_code)
    found = answer.json()
    return "" if found["isValid"] else str(found["invalidReason"])


def _lower(sent: Sent) -> None:
    sent.both("payTo", sent.requirements["payTo"].lower())


def _recovery_id(sent: Sent) -> None:
    sent.signature = sent.signature[:64] + bytes((sent.signature[64] - 27,))


def _more(sent: Sent) -> None:
    sent.payload["extensions"] = {"bazaar": {"info": {}, "schema": {}}}
    sent.requirements["extra"]["paymentFlow"] = "upfront"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("change", [lambda _: None, _lower, _recovery_id, _more], ids=["plain", "lower", "v", "more"])
async def test_what_we_take_they_take(
    ours: Bed, stock: SandboxProcess, payer: Draft, version: int, change: object
) -> None:
    """In every spelling that stock clients use."""
    assert callable(change)
    sent = payer.sign(version)
    change(sent)
    assert (await ours.reason(sent), theirs(stock, sent)) == ("", "")


@pytest.mark.parametrize("version", [1, 2])
async def test_contract_wallets_are_judged_alike(
    ours: Bed, stock: SandboxProcess, shared_automine_base: LocalBase, version: int
) -> None:
    """Its owner's word is taken by both, another's by neither."""
    at = checksum(parse_address(f"0x{0xD0 + version:040x}"))
    shared_automine_base.place_contract_wallet(at, Draft(OWNER).sign(2).authorization["from"])
    shared_automine_base.mint(at, 1_000_000)
    good, bad = Draft(OWNER, sender=at).sign(version), Draft("0x" + "d3" * 32, sender=at).sign(version)
    assert (await ours.reason(good), theirs(stock, good)) == ("", "")
    assert await ours.reason(bad) != ""
    assert theirs(stock, bad) != ""


async def test_what_they_refuse_we_refuse_and_where_we_are_stricter_is_written_down(
    ours: Bed, stock: SandboxProcess, payer: Draft
) -> None:
    """Every kind of a wrong payment: ours refuses all, theirs all but those in STRICTER."""
    taken = set()
    for kind, version in CASES:
        sent = broken(kind, version, payer.key)
        assert await ours.reason(sent) == kind.reason
        if theirs(stock, sent) == "":
            taken.add((kind.name, version))
    assert taken == STRICTER


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", [each for each in KINDS if each.name in ALIKE], ids=name_of)
async def test_a_refusal_has_their_code(
    ours: Bed, stock: SandboxProcess, payer: Draft, kind: Kind, version: int
) -> None:
    """Sellers branch on it, whoever's facilitator they ask."""
    sent = broken(kind, version, payer.key)
    assert theirs(stock, sent) == kind.reason == await ours.reason(sent)


async def test_a_poor_payer_is_told_alike(ours: Bed, stock: SandboxProcess) -> None:
    """By the chain's own word."""
    sent = Draft("0x" + "d7" * 32).sign(2)
    assert theirs(stock, sent) == await ours.reason(sent) == "invalid_exact_evm_insufficient_balance"


def test_the_kinds_are_many() -> None:
    """At least thirty-five, of which each is refused before anybody could spend gas on it."""
    assert len({kind.name for kind in KINDS}) >= 35
