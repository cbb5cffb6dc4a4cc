"""The golden 402s of tests/vectors/meanings: each with who said it, to what, and what it means; and the vendors behind them.

The vendors are the product's own modules, configured as an operator would: one payee each, and prices as their catalogues
state them. `tests/tools/live_meanings.py` says where the answers marked `live` come from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from contracts.codec import Address, parse_address
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.account_ports import AccountTerms, AccountVendor
from gateway.core.commands import AccountLimits
from gateway.core.tariff import Rule
from gateway.flow.explain import GivenAnswer
from gateway.ports import Vendor, VendorTerms
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.dropmpp.routes import create_item, hour_item
from gateway.vendors.generic import GenericVendor
from gateway.vendors.litevps import LiteVps
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vrtx import Vrtx

VECTORS = Path(__file__).parent / "vectors" / "meanings"
PAYEE = parse_address("0x8eCbd65228930060363C70854da7D37D57ffC358", "payee")
MPP_PAYEE = parse_address("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc", "payee")
OWN = Address(b"\x11" * 20)
ORIGIN = "http://127.0.0.1"
LIMITS = AccountLimits(10**12, 1_000, 1_000, 1_000, 86_400_000)
PRICES = {
    ("vpsagent", "catalog"): 10_000,
    ("vpsagent", "sandbox_1h"): 500_000,
    ("dropmpp", create_item("small")): 10_000,
    ("dropmpp", hour_item("small")): 13_400,
}


@dataclass(frozen=True)
class Case:
    """One 402: the request that it answers, the answer, and what is to be made of it."""

    name: str
    about: str
    vendor: str
    method: str
    path: str
    request_body: str
    after_payment: bool
    live: bool
    now_ms: int
    response: Mapping[str, Any]
    expect: Mapping[str, Any]

    @property
    def given(self) -> GivenAnswer:
        """The answer as the flow takes it."""
        headers = CIMultiDict(self.response["headers"])
        return GivenAnswer(self.response["status"], headers, self.response["body"].encode(), self.after_payment)

    @property
    def question(self) -> dict[str, Any]:
        """What POST /v1/explain-402 is asked."""
        return {
            "vendor": self.vendor,
            "method": self.method,
            "path": self.path,
            "request_body": self.request_body,
            "response": self.response,
            "after_payment": self.after_payment,
        }


def load_cases() -> list[Case]:
    """Return every case by name."""
    return [_case(path) for path in sorted(VECTORS.glob("*.json"))]


def _case(path: Path) -> Case:
    document = json.loads(path.read_text(encoding="utf-8"))
    now = datetime.fromisoformat(document.pop("now"))
    return Case(name=path.stem, now_ms=int(now.timestamp()) * 1000, **document)


def paid_vendors() -> dict[str, Vendor]:
    """Return the vendors that ask for their money with a 402. `x402`, `mpp` and `both` are known by configuration alone."""
    return {
        "vpsagent": VpsAgent("vpsagent", ORIGIN, _terms(PAYEE)),
        "dropmpp": DropMpp("dropmpp", ORIGIN, _terms(PAYEE, "mpp", realm="127.0.0.1")),
        "x402": GenericVendor("x402", ORIGIN, _terms(PAYEE), ceiling_base=2_000_000),
        "mpp": GenericVendor("mpp", ORIGIN, _terms(MPP_PAYEE, "mpp", realm="api.example.com"), ceiling_base=2_000_000),
        "both": GenericVendor(
            "both", ORIGIN, _terms(MPP_PAYEE, "mpp", "x402", realm="api.example.com"), ceiling_base=2_000_000
        ),
    }


def account_vendors() -> dict[str, AccountVendor]:
    """Return the vendors that are paid from an account of the operator's."""
    terms = AccountTerms(3600, 90_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=0)
    return {
        "cryptovps": CryptoVps("cryptovps", ORIGIN, terms),
        "litevps": LiteVps("litevps", ORIGIN, terms),
        "vrtx": Vrtx("vrtx", ORIGIN, terms),
    }


def _terms(payee: Address, *rails: Any, realm: str = "") -> VendorTerms:
    return VendorTerms(
        wallet=OWN,
        tokens=(BASE_USDC, MODERATO_PATHUSD),
        payees=frozenset({payee}),
        max_drift_ppm=0,
        rate_ppm={},
        terms_ttl_s=60,
        delivery_deadline_s=600,
        limits=LIMITS,
        rails=rails or ("x402",),
        realms=frozenset({realm} - {""}),
    )
