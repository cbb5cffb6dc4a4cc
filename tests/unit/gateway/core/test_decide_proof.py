"""A proof of identity is kept like money: before it leaves, once for a challenge, and never under a freeze."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.commands import Done, Refused
from gateway.store.core import StoreCore
from tests.factories import NOW_MS, WALLET, leaves_nothing, make_identity, open_core, post, seeded


@pytest.fixture
def core() -> StoreCore:
    """A core with an account and a wallet."""
    return seeded(open_core())


def test_a_proof_is_in_the_journal_before_it_leaves(core: StoreCore) -> None:
    """By which wallet, for whose call, to which challenge of whom: nothing of it is missing."""
    assert post(core, make_identity()) == Done()
    body = json.loads(core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()[0])
    assert body == {
        "kind": "proof.signed",
        "at_ms": NOW_MS,
        "payment_id": None,
        "wallet": "0x" + WALLET.hex(),
        "vendor": "dropmpp",
        "route": "list_servers",
        "account_id": "acc_1",
        "key_id": "key_1",
        "request_id": "req_1",
        "challenge_id": "challenge 1",
        "realm": "drop.example",
        "chain_id": 4217,
    }


def test_a_challenge_is_answered_once(core: StoreCore) -> None:
    """Not again, whoever asks, also within one commit; another vendor's challenge of that name is another."""
    results, _ = core.post([make_identity(1), make_identity(1)])
    assert (results[0], isinstance(results[1], Refused)) == (Done(), True)
    again = leaves_nothing(core, replace(make_identity(1), request_id="req_9", account_id="acc_2"))
    assert isinstance(again, Refused)
    assert again.code == "challenge_repeated"
    assert post(core, make_identity(1, vendor="other")) == Done()
    assert post(core, make_identity(2)) == Done()


def test_a_challenge_stays_answered_after_a_restart(tmp_path: Path) -> None:
    """The rows remember what memory does not."""
    core = seeded(open_core(tmp_path))
    post(core, make_identity())
    core.close()
    again = open_core(tmp_path)
    assert isinstance(leaves_nothing(again, make_identity()), Refused)
    again.close()


@pytest.mark.parametrize("scope", ["all", "vendor:dropmpp", "account:acc_1", chart.wallet("0x" + WALLET.hex())])
def test_a_freeze_stops_proofs(core: StoreCore, scope: str) -> None:
    """It costs nothing and grants control: it is stopped like money."""
    freeze = c.SetFreeze(scope, frozen=True, reason="drill", by="me", at_ms=NOW_MS)
    post(core, freeze)
    result = leaves_nothing(core, make_identity())
    assert isinstance(result, Refused)
    assert result.code == "frozen"
    post(core, replace(freeze, frozen=False))
    assert post(core, make_identity()) == Done()
