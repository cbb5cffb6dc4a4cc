"""Signed offers and receipts: the reference extension recovers our address from both, and finds that they belong together."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from topup_rig import TopUpRig, receipt_of, required_of

from contracts.codec import Address, checksum
from contracts.offer_receipt import OfferTerms, ReceiptTerms
from contracts.signature import recover_address
from gateway.flow.paid.attesting import Attestor
from gateway.flow.paid.offers import Offers, TillPrice, mac_of
from gateway.flow.paid.topups import Answered
from gateway.rails.x402.order_ref import OrderMarks
from wallets.secret import Secret

ROOT = Path(__file__).parents[5]
PEER = ROOT / "tests/tools/offer_receipt_peer.mjs"
KEY = Secret(b"\x44" * 32)
PAYER = Address(b"\x11" * 20)
URL = "https://pay.example/v1/topups"
ENTRY = {
    "scheme": "exact",
    "network": "eip155:8453",
    "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "payTo": checksum(Address(b"\x5e" * 20)),
    "amount": "5000000",
}


def peer(given: dict[str, Any]) -> Any:
    """Ask the reference extension."""
    node = shutil.which("node")
    assert node is not None, "the reference extension runs in Node"
    done = subprocess.run(
        [node, str(PEER)], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_reference_extension_reads_what_we_sign() -> None:
    """Offer and receipt recover to the attestor's address, and the receipt is of the offer."""
    attestor, now_s = Attestor(KEY), int(time.time())
    offer = attestor.offer(0, URL, ENTRY, now_s + 300)
    receipt = attestor.receipt(URL, ENTRY["network"], PAYER, b"\xab" * 32, now_s)
    answer = peer({"offers": [offer], "receipt": receipt, "payer": checksum(PAYER)})
    address = checksum(attestor.address)
    assert answer["offers"] == [address]
    assert answer["receipt"] == address
    assert (answer["decoded"]["amount"], answer["decoded"]["acceptIndex"]) == ("5000000", 0)
    assert answer["matches"] is True


def test_no_two_terms_share_a_digest() -> None:
    """Every member is in what is signed."""
    offer = OfferTerms("url", "exact", "eip155:1", "asset", "to", "1", 1)
    receipt = ReceiptTerms("eip155:1", "url", "payer", 1, "tx")
    offers = [
        offer,
        OfferTerms("other", "exact", "eip155:1", "asset", "to", "1", 1),
        OfferTerms("url", "other", "eip155:1", "asset", "to", "1", 1),
        OfferTerms("url", "exact", "eip155:2", "asset", "to", "1", 1),
        OfferTerms("url", "exact", "eip155:1", "other", "to", "1", 1),
        OfferTerms("url", "exact", "eip155:1", "asset", "other", "1", 1),
        OfferTerms("url", "exact", "eip155:1", "asset", "to", "2", 1),
        OfferTerms("url", "exact", "eip155:1", "asset", "to", "1", 2),
    ]
    receipts = [
        receipt,
        ReceiptTerms("eip155:2", "url", "payer", 1, "tx"),
        ReceiptTerms("eip155:1", "other", "payer", 1, "tx"),
        ReceiptTerms("eip155:1", "url", "other", 1, "tx"),
        ReceiptTerms("eip155:1", "url", "payer", 2, "tx"),
        ReceiptTerms("eip155:1", "url", "payer", 1, "other"),
    ]
    assert len({each.digest for each in (*offers, *receipts)}) == len(offers) + len(receipts)


async def test_a_402_and_its_answer_carry_them() -> None:
    """The challenge commits to its terms, the answer to a payment is a receipt; a repeat carries the same one."""
    rig = TopUpRig()
    await rig.open()
    offers = Offers(
        [TillPrice(rig.token, Address(b"\x5e" * 20))],
        rig.rules,
        OrderMarks(mac_of(KEY)),
        "https://pay.example",
        "pay.example",
        rig.clock,
        rig.entropy,
        attestor=Attestor(KEY),
    )
    rig.topups.offers = offers
    offered = await rig.offer()
    info = required_of(offered)["extensions"]["offer-receipt"]["info"]
    (signed,) = info["offers"]
    terms = signed["payload"]
    entry = required_of(offered)["accepts"][0]
    assert {name: terms[name] for name in ("network", "asset", "payTo", "amount")} == {
        name: entry[name] for name in ("network", "asset", "payTo", "amount")
    }
    header = rig.pay_v2(offered)
    first = await rig.topups.serve(rig.wanted(), header, ())
    again = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(first, Answered)
    assert isinstance(again, Answered)
    receipt = receipt_of(first)["extensions"]["offer-receipt"]["info"]["receipt"]
    payload = receipt["payload"]
    digest = ReceiptTerms(
        payload["network"], payload["resourceUrl"], payload["payer"], payload["issuedAt"], payload["transaction"]
    ).digest
    assert checksum(recover_address(digest, bytes.fromhex(receipt["signature"][2:]))) == info["signer"]
    assert receipt_of(again) == receipt_of(first)
    await rig.taking.close(1)
    await rig.close()
