"""What a vendor can and cannot do, as answers to one list of questions that every vendor module answers.

Must not know any vendor.  Theory: a question that a document leaves open is answered "unknown", never left out; so two
vendors can be compared line by line, and nobody reads a missing answer as a no.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["CAPABILITY_NAMES", "NO", "UNKNOWN", "YES", "Capabilities", "capabilities", "told_by"]

Capabilities = Mapping[str, str]
"""Capability -> YES, NO, UNKNOWN, or a short text that says what of it there is."""

YES: Final = "yes"
NO: Final = "no"
UNKNOWN: Final = "unknown"

CAPABILITY_NAMES: Final = (
    "onboarding_without_human",
    "auth",  # kind, and when it expires
    "charged",  # who is charged how
    "money_on_wire",  # type of amounts in the vendor's own answers
    "meaning_of_402",
    "catalogue",  # which of plans, regions and images can be listed
    "create_idempotency",  # what keeps a repeated create from making a second thing
    "list_servers",
    "bulk",
    "power",  # start, stop, reboot
    "destroy",  # and when it stops the bill
    "extend",
    "snapshots",
    "ssh_keys",
    "root_password",
    "cloud_init",
    "exec",  # commands, files, jobs
    "webhooks",
    "rate_limit",
    "async_states",
)


def capabilities(answers: Mapping[str, str]) -> Capabilities:
    """Return the answers, read-only and in the list's order. Raises ValueError for a missing, foreign or empty one."""
    missing = [name for name in CAPABILITY_NAMES if not answers.get(name)]
    foreign = sorted(answers.keys() - set(CAPABILITY_NAMES))
    if missing or foreign:
        raise ValueError(f"capabilities: no answer to {missing}, no question for {foreign}")
    return MappingProxyType({name: answers[name] for name in CAPABILITY_NAMES})


def told_by(module: object) -> dict[str, str]:
    """Return what a vendor's module answers, in the list's order; "unknown" to everything where it answers nothing."""
    answers: Capabilities = getattr(module, "capabilities", {})
    return {name: answers.get(name, UNKNOWN) for name in CAPABILITY_NAMES}
