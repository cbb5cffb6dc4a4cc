"""Real parts: one Tempo, one vendor that checks payments with mppx, one mppx client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dropmpp_harness import DropClient

from sandbox.dropmpp.payer import MppxPayer
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def tempo() -> Iterator[LocalTempo]:
    """One local Tempo; leave its RPC without faults."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture(scope="session")
def mppx(tempo: LocalTempo) -> Iterator[MppxPayer]:
    """The stock client."""
    with MppxPayer(tempo.rpc_url, tempo.chain_id) as payer:
        yield payer


@pytest.fixture(scope="session")
def drop_process(tempo: LocalTempo) -> Iterator[SandboxProcess]:
    """The shared vendor process."""
    with SandboxProcess.start("sandbox.dropmpp", {"rpc_url": tempo.rpc_url}) as process:
        yield process


@pytest.fixture
def drop(drop_process: SandboxProcess, tempo: LocalTempo, mppx: MppxPayer) -> DropClient:
    """The shared vendor with an empty book, and an account that can pay it."""
    tempo.shim.faults.clear()
    client = DropClient(drop_process, tempo, mppx)
    client.admin("POST", "/admin/reset")
    return client
