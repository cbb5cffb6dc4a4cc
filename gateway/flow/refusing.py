"""What follows when the guard refuses a signature: the agent is told little, the operator is asked.

Must not know what was to be signed.  Theory (P8): the guard is the last of several checks that each should have refused
before it, so a refusal says that configuration, code or somebody else's hand differs from what was approved; only a freeze
is the operator's own doing and asks nobody.
"""

import structlog

from contracts.codec import to_hex
from gateway.core.problems import Problem
from gateway.flow.tasks import Tasks
from wallets.guard import Refusal, SigningRefused

log = structlog.get_logger()


async def refusal_to_sign(tasks: Tasks, wallet: bytes, refused: SigningRefused) -> Problem:
    """Return what is told when the guard refuses a wallet's signature; the operator is asked once, the log told each time."""
    if refused.code is Refusal.FROZEN:
        return Problem("frozen", "the operator has frozen purchases")
    log.error("signing.refused", wallet=to_hex(wallet), code=refused.code.value, detail=refused.message)
    await tasks.ask("signing_refused", to_hex(wallet), str(refused))
    return Problem("signing_refused", refused.message)
