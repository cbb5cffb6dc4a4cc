"""What a vendor account is entered with, and the token that it gives for it.

Must not know how a vendor is asked.  Theory: a token's life is a span, counted by our own clock from before it was asked
for; an instant by the vendor's clock would end it too late, or before it began, when the two differ.
"""

from dataclasses import dataclass, field

from wallets.secret import Secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """One account at a vendor, from configuration. Where no login exists, `secret` is the long-lived token itself."""

    login: str = field(repr=False)
    secret: Secret[str]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a login gave. `lives_s` is the span that the vendor states for it (exp less iat), if it states one."""

    value: Secret[str]
    lives_s: int | None = None
