"""Rights around being paid: accounts of wallets, sign-in challenges, sellers' terms, and how far the tills were read.

Must not know signatures or HTTP.  Theory: a wallet opens one account, a challenge is used once, and what a seller may cost is
the operator's decision; all of it is recorded like money.
"""

from gateway.core.book import Book
from gateway.core.commands import Attached, Done, Refused, Result
from gateway.core.decide_incoming import bind_wallet, wallet_refusal
from gateway.core.paid import SellerTerms
from gateway.core.paid_commands import BindWallet, MoveTillCursor, PutSeller, TakeNonce
from gateway.core.paid_facts import MOST_TEXT, is_text, value_refusal

SIGN_IN = "sign-in:"
"""Before the realm of a sign-in challenge, in the table of challenges that vendors' are in too."""


def decide_wallet(book: Book, command: BindWallet) -> Result:
    """Open the account of a wallet that has proven its key, or name the one that it has."""
    known = book.paid.wallet_accounts.get(command.wallet.address)
    if known is not None:
        return Attached(known)
    return wallet_refusal(command) or bind_wallet(book, command.wallet, command.name, command.at_ms)


def decide_nonce(book: Book, command: TakeNonce) -> Result:
    """Use a sign-in challenge up, once (P13)."""
    if len(command.challenge_id) > MOST_TEXT or not is_text(command.challenge_id):
        return Refused("bad_request", "the challenge is too long, or no text")
    place = (SIGN_IN + command.realm, command.challenge_id)
    if book.has_challenge(*place):
        return Refused("challenge_used", "this challenge was used before; ask for a new one")
    book.rows.challenges[place] = command.at_ms
    content = {"realm": command.realm, "challenge_id": command.challenge_id}
    book.journal(command.at_ms, "sign_in.taken", None, content)
    return Done()


def decide_seller(book: Book, command: PutSeller) -> Result:
    """Keep a seller's terms: new ones, their next version, or their end."""
    terms = command.terms
    if terms.account_id not in book.agent_accounts:
        return Refused("not_found", f"there is no account {terms.account_id}")
    kept = book.paid.seller(terms.account_id)
    if terms.version != (0 if kept is None else kept.version) + 1:
        return Refused("changed_meanwhile", f"another change of {terms.account_id}'s terms came first; read them again")
    if terms.window_s < 1 or not 0 <= terms.latency_s < 10**6 or any(len(payee) != 20 for payee in terms.payees):  # noqa: PLR2004 - an address
        return Refused("bad_request", "a window is at least a second, a latency not negative, a payee an address")
    refusal = value_refusal(terms)
    if refusal is not None:
        return refusal
    book.paid.put_seller(terms)
    content = {**seller_content(terms), "by": command.by}
    if terms.ended_at_ms is None:
        book.journal(command.at_ms, "seller.set", None, content)
    else:
        book.journal(command.at_ms, "seller.ended", None, content)
    return Done()


def seller_content(terms: SellerTerms) -> dict[str, object]:
    """Return a seller's terms as the journal writes them."""
    return {
        "account_id": terms.account_id,
        "gas_budget_wei": str(terms.gas_budget_wei),
        "window_s": terms.window_s,
        "latency_s": str(terms.latency_s),
        "payees": ["0x" + payee.hex() for payee in terms.payees],
    }


def decide_till_cursor(book: Book, command: MoveTillCursor) -> Result:
    """Move the cursors of a chain's tills forward, each by itself; none goes back."""
    moved = False
    for till, token in command.places:
        place = (command.chain_id, till, token)
        known = book.paid.till_cursors.get(place)
        if known is None or known[0] < command.block_number:
            book.paid.put_till_cursor(place, (command.block_number, command.block_hash))
            moved = True
    return Done(changed=moved)
