"""Any x402 facilitator by URL, through our own outgoing client; its answers are read strictly and are evidence of nothing.

Must not know what is bought or who asks. Theory: what a stranger answers decides only what we say next, never what is
credited (final blocks do, P14): so an answer that is not exactly one of its shapes, or contradicts the payment that it is
about, is unknown, and unknown is neither taken nor refused. A request that moves money is never sent twice from here.
"""

from typing import Any, Final

from contracts.codec import Address, CodecError, parse_address, parse_bytes32, parse_uint
from contracts.networks import NetworkError, parse_network
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.http.port import Upstream, UpstreamError, UpstreamRequest
from gateway.paid_ports import FacilitatorUnknown, Json, Rejected, Settled
from gateway.rails.x402.payment import payer_of
from gateway.rails.x402.reasons import Reason
from gateway.rails.x402.wire import clean_text
from wallets.secret import Secret

MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_REASON_CHARS: Final = 120
MAX_MESSAGE_CHARS: Final = 300
_OK: Final = 200


class RemoteFacilitator:
    """The port `Facilitator`, spoken to over HTTP.

    `origin` must have an egress rule in `upstream`, which bounds every wait; `path` goes in front of /verify and
    /settle; `token` is sent as Bearer.

    A failure that it tells may be a lie like everything else: whoever sold something waits for the chain all the same.
    """

    def __init__(self, upstream: Upstream, origin: str, path: str, token: Secret[str] | None = None) -> None:
        self._upstream, self._origin, self._path, self._token = upstream, origin, path, token

    async def verify(self, version: int, payload: Json, requirements: Json) -> Rejected | Address:
        """See `Facilitator.verify`."""
        told = await self._post("verify", version, payload, requirements)
        payer = _payer(told, payload)
        if _flag(told, "isValid"):
            if payer is None:
                raise FacilitatorUnknown("it takes a payment that names no payer")
            return payer
        reason = _reason(told, "invalidReason") or Reason.VERIFY_UNKNOWN
        return Rejected(reason, clean_text(told.get("invalidMessage"), MAX_MESSAGE_CHARS), payer)

    async def settle(
        self,
        version: int,
        payload: Json,
        requirements: Json,
        account_id: str,  # noqa: ARG002 - the port's; another's facilitator knows only our token
    ) -> Settled:
        """See `Facilitator.settle`."""
        told = await self._post("settle", version, payload, requirements)
        payer, tx_hash, success = _payer(told, payload), _transaction(told), _flag(told, "success")
        network = _network(told, requirements)
        if not success:
            reason = _reason(told, "errorReason") or Reason.SETTLE_UNKNOWN
            message = clean_text(told.get("errorMessage"), MAX_MESSAGE_CHARS)
            return Settled(False, reason, message, payer, tx_hash, network)
        if tx_hash is None:
            raise FacilitatorUnknown("it collected a payment in no transaction")
        return Settled(True, "", "", payer, tx_hash, network, _amount(told, version, requirements))

    async def _post(self, verb: str, version: int, payload: Json, requirements: Json) -> dict[str, Any]:
        body = dump_json({"x402Version": version, "paymentPayload": payload, "paymentRequirements": requirements})
        headers = [
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
        ]
        if self._token is not None:
            headers.append(("Authorization", f"Bearer {self._token.reveal()}"))
        request = UpstreamRequest("POST", f"{self._path}/{verb}", tuple(headers), body, MAX_ANSWER_BYTES)
        try:
            answer = await self._upstream.send(self._origin, request)
        except UpstreamError as error:
            raise FacilitatorUnknown(f"no answer: {error.code}") from error
        if answer.rest is not None:
            await answer.rest.close()
            raise FacilitatorUnknown("the answer is too long")
        if answer.status != _OK:
            # Also where the body says something: stock facilitators answer 200 to whatever they have decided.
            raise FacilitatorUnknown(f"it answered with status {answer.status}")
        try:
            told = parse_json(answer.body)
        except JsonError as error:
            raise FacilitatorUnknown(f"the answer cannot be read: {error}") from None
        if not isinstance(told, dict):
            raise FacilitatorUnknown("the answer is no object")
        return told


def _flag(told: Json, field: str) -> bool:
    value = told.get(field)
    if not isinstance(value, bool):
        raise FacilitatorUnknown(f"{field} is neither true nor false")
    return value


def _reason(told: Json, field: str) -> str:
    value = told.get(field)
    if value is not None and not isinstance(value, str):
        raise FacilitatorUnknown(f"{field} is no text")
    return clean_text(value, MAX_REASON_CHARS)


def _payer(told: Json, payload: Json) -> Address | None:
    """Return the payer that the payment names. An answer about another's payment is no answer to ours."""
    own, named = payer_of(payload), told.get("payer")
    if named in (None, ""):
        return own
    try:
        payer = parse_address(named)
    except CodecError:
        raise FacilitatorUnknown("payer is no address") from None
    if own is not None and payer != own:
        raise FacilitatorUnknown("the answer is about another payer")
    return payer


def _transaction(told: Json) -> bytes | None:
    value = told.get("transaction")
    if value in (None, ""):
        return None
    try:
        return parse_bytes32(value)
    except CodecError:
        raise FacilitatorUnknown("transaction is no hash") from None


def _network(told: Json, requirements: Json) -> str:
    """Return the network in our spelling. A settlement on another chain is none of ours."""
    own, named = requirements.get("network"), told.get("network")
    if named in (None, "") and told.get("success") is False:
        return own if isinstance(own, str) else ""
    try:
        if parse_network(named) != parse_network(own):
            raise FacilitatorUnknown("the answer is about another network")
    except NetworkError:
        raise FacilitatorUnknown("network cannot be read") from None
    return str(own)


def _amount(told: Json, version: int, requirements: Json) -> int | None:
    """Return the amount that it states, if any. `exact` settles exactly what was asked for."""
    value = told.get("amount")
    if value is None:
        return None
    if value != requirements.get("maxAmountRequired" if version == 1 else "amount"):
        raise FacilitatorUnknown("it collected another amount")
    try:
        return parse_uint(value)
    except CodecError:
        raise FacilitatorUnknown("amount is no number") from None
