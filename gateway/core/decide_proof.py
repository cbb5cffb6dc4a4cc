"""Whether a wallet may prove its identity to a vendor.

Must not know how a proof is signed.  Theory: a proof costs nothing and grants control over what the wallet owns, so it is
stopped by the same freezes as money, kept before it leaves, and given to a challenge once (P3, P8, P13).
"""

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, RecordProof, Refused, Result


def decide_proof(book: Book, command: RecordProof) -> Result:
    """Keep a proof of identity before it leaves: by whom, for which agent's call, and to which challenge, once."""
    wallet = chart.wallet("0x" + command.wallet.hex())
    frozen = book.frozen((f"vendor:{command.vendor}", f"account:{command.account_id}", wallet))
    if frozen is not None:
        return Refused("frozen", f"the operator has frozen this {frozen.scope.partition(':')[0]}")
    if book.has_challenge(command.vendor, command.challenge_id):
        return Refused("challenge_repeated", f"{command.vendor} sent a challenge that was answered before")
    book.rows.challenges[command.vendor, command.challenge_id] = command.at_ms
    content = {
        "wallet": "0x" + command.wallet.hex(),
        "vendor": command.vendor,
        "route": command.route,
        "account_id": command.account_id,
        "key_id": command.key_id,
        "request_id": command.request_id,
        "challenge_id": command.challenge_id,
        "realm": command.realm,
        "chain_id": command.chain_id,
    }
    book.journal(command.at_ms, "proof.signed", None, content)
    return Done()
