"""Sending a payment's transaction ourselves, for sellers that take only the hash of one that is on chain already.

Must not know what is bought.  Theory (P3, P5): it leaves after its hold is durable, as the bytes that were sealed; a hash
is shown only once a block has the transaction, for a seller that looks too early may refuse it and never look again. What
is seen here decides when to ask the seller, and never what became of the money.
"""

from collections.abc import Mapping

import structlog

from gateway.core.records import Payment
from gateway.ports import Broadcaster, ChainUnavailable, Clock

LOOK_EVERY_S = 0.5
MARGIN_S = 2  # blocks' times and our clock differ

log = structlog.get_logger()


class Pusher:
    """Sends on the chains that have a broadcaster; `broadcasters` is by chain id."""

    def __init__(self, broadcasters: Mapping[int, Broadcaster], clock: Clock) -> None:
        self._broadcasters, self._clock = broadcasters, clock

    def can_send(self, chain_id: int) -> bool:
        """Say whether a transaction of this chain could be sent."""
        return chain_id in self._broadcasters

    async def land(self, payment: Payment, raw: bytes) -> bool:
        """Send it and wait until a block has it and it succeeded; False once that can no longer happen, or it failed.

        Sent again it moves nothing again, so this may be repeated after a crash.
        """
        terms = payment.authorization
        assert terms is not None, "what is sent was promised"
        assert terms.tx_hash is not None, "what we send ourselves has a hash that we know"
        broadcaster = self._broadcasters.get(terms.chain_id)
        if broadcaster is None:  # no longer configured
            return False
        try:
            await broadcaster.send_raw(raw)
        except ChainUnavailable as problem:
            log.warning("push.not_taken", payment_id=payment.id, why=str(problem))
        while True:
            status = await broadcaster.seen(terms.tx_hash)
            if status is not None:
                return status == 1
            if self._clock.now_ms() > (terms.valid_before_s + MARGIN_S) * 1000:
                return False
            await self._clock.sleep(LOOK_EVERY_S)
