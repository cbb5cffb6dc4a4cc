"""What kind of run it is: how many people, how much malice, which disasters; and the gateway's configuration in it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import Config, parse_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contracts.codec import Address

__all__ = ["CAPITAL_BASE", "Plan", "load_config"]

CAPITAL_BASE = 500_000_000
CONFIG = Path(__file__).with_name("config.toml")


@dataclass(frozen=True)
class Plan:
    """What kind of run it is. `crash_at` kills at exactly that point; `crash_chance` at each point by chance."""

    seed: int = 0
    agents: int = 3
    things: int = 5
    malice: float = 1.0
    crash_at: int | None = None
    crash_chance: float = 0.0
    crashes_max: int = 5
    graceful: bool = False
    restore: bool = False
    reorgs: bool = False
    chain_trouble: float = 0.0
    skew_s: int = 0
    capital_base: int = CAPITAL_BASE
    credit_base: int = 60_000_000
    downtime_s: float = 10.0
    operator: bool = True
    faults: Mapping[tuple[str, str], Sequence[str]] | None = None

    @classmethod
    def random(cls, seed: int) -> Plan:
        """Return the plan that a seed stands for."""
        rng = random.Random(f"plan {seed}")
        return cls(
            seed=seed,
            agents=rng.randint(2, 4),
            things=rng.randint(3, 7),
            malice=rng.choice([0.0, 0.5, 1.0, 1.0, 2.0]),
            crash_chance=rng.choice([0.0, 0.003, 0.01, 0.03]),
            graceful=rng.random() < 0.2,
            restore=rng.random() < 0.25,
            reorgs=rng.random() < 0.4,
            chain_trouble=rng.choice([0.0, 0.0, 0.02, 0.1]),
            skew_s=rng.choice([0, 0, 0, -20, 20]),
            capital_base=rng.choice([CAPITAL_BASE, CAPITAL_BASE, 30_000_000]),
            credit_base=rng.choice([60_000_000, 60_000_000, 12_000_000]),
            downtime_s=rng.choice([0.5, 10.0, 60.0]),
        )


def load_config(wallet: Address, pay_to: Address, seller_pay_to: Address) -> Config:
    """Return the gateway's configuration for these addresses."""
    text = CONFIG.read_text(encoding="utf-8")
    text = text.replace("WALLET", "0x" + wallet.hex())
    text = text.replace("VPSAGENT_PAYEE", "0x" + pay_to.hex()).replace("SELLER_PAYEE", "0x" + seller_pay_to.hex())
    return parse_config(text, {"SIMULATION": "x"}, directory=CONFIG.parent)
