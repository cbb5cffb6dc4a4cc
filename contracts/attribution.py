"""The memo that ties a Tempo transfer to one MPP challenge, and how a challenge's texts become bytes.

Must not know HTTP headers or transactions. Theory: 32 bytes are tag, version and three truncated hashes (seller's
realm, client, challenge), so that whoever reads the chain finds the payment of a challenge by an indexed topic. The
challenge's part has 56 bits and the seller chooses the challenge: it is for finding, never proof of anything by itself.
"""

from contracts.codec import WORD_BYTES, ContractError
from contracts.keccak import keccak256

TEXT_MAX_BYTES = 4096

_TAG = keccak256(b"mpp")[:4] + b"\x01"
_PARTY_BYTES = 10
_CHALLENGE_BYTES = 7
_ANONYMOUS = bytes(_PARTY_BYTES)
_CLIENT_AT = len(_TAG) + _PARTY_BYTES


class ChallengeTextError(ContractError):
    """A realm, client or challenge id is empty, over-long or not Unicode text."""


def challenge_bytes(text: object, field: str) -> bytes:
    """Return the UTF-8 of a challenge's text, 1 to 4096 bytes of it. Raises ChallengeTextError."""
    if not isinstance(text, str):
        raise ChallengeTextError(f"{field}: expected text, got {type(text).__name__}")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ChallengeTextError(f"{field}: holds half a surrogate pair") from None
    if not 0 < len(data) <= TEXT_MAX_BYTES:
        raise ChallengeTextError(f"{field}: expected 1 to {TEXT_MAX_BYTES} bytes")
    return data


def attribution_memo(realm: str, challenge_id: str, client_id: str | None = None) -> bytes:
    """Return the 32-byte memo of a challenge (mppx's Attribution, version 1); no client id means anonymous.

    Raises ChallengeTextError.
    """
    client = _ANONYMOUS if client_id is None else keccak256(challenge_bytes(client_id, "client_id"))[:_PARTY_BYTES]
    return _TAG + _realm(realm) + client + _challenge(challenge_id)


def is_attribution(memo: bytes) -> bool:
    """Return whether a memo has the tag and the version of MPP."""
    return len(memo) == WORD_BYTES and memo.startswith(_TAG)


def attribution_matches(memo: bytes, realm: str, challenge_id: str) -> bool:
    """Return whether a memo is the attribution of this challenge, by whatever client. Raises ChallengeTextError."""
    ours = memo[len(_TAG) : _CLIENT_AT] == _realm(realm) and memo[-_CHALLENGE_BYTES:] == _challenge(challenge_id)
    return is_attribution(memo) and ours


def _realm(realm: str) -> bytes:
    return keccak256(challenge_bytes(realm, "realm"))[:_PARTY_BYTES]


def _challenge(challenge_id: str) -> bytes:
    return keccak256(challenge_bytes(challenge_id, "challenge_id"))[:_CHALLENGE_BYTES]
