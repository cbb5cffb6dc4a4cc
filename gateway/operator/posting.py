"""A command to the store whose refusal is a problem.

Must not know any command.  Theory: whoever asks gets either what was done or a problem of the one list; there is no third.
"""

from gateway.core.commands import Command, Done, Refused
from gateway.core.problems import Problem
from gateway.operator.services import Services


async def post(services: Services, command: Command) -> Done:
    """Commit a command. Raises Problem for a refusal."""
    result = await services.store.post(command)
    if isinstance(result, Refused):
        raise Problem(result.code, result.detail)
    if not isinstance(result, Done):
        raise TypeError(f"an operator's command ended {result!r}")
    return result
