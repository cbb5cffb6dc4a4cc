"""An account's endpoints: made, changed, tested, their secrets rotated, and stopped where nothing arrives any more.

Must not know HTTP or what events say.  Theory: a secret is shown once and sealed; while a new one is being rolled out the old
one signs as well, so no receiver ever refuses what is genuine; and an address is judged when it is named and at every
connection, for what a name means is its owner's to change.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Protocol

from gateway.core.kept import HOOK
from gateway.core.problems import Problem
from gateway.core.server import Hook
from gateway.core.webhook import SECRET_BYTES, make_secret
from gateway.flow.servers.keeping import CHANGES_MAX, Keeping, bumped
from gateway.http.port import NotSent
from gateway.ports import Entropy
from wallets.secret import Secret

BY_OWNER: Final = "disabled by its owner"
USED_MAX: Final = 32  # digests of earlier secrets: a rotation that is repeated later than that is a new one


@dataclass(frozen=True, slots=True)
class HookSettings:
    """How much one account may have of it, and how much is sent at once.

    At most `at_once` attempts are under way, `at_once_per_endpoint` of them at one. A secret that was replaced signs for
    `secret_overlap_s` more. What became of a delivery is kept for `deliveries_kept_s` after its end.
    """

    hooks_per_account: int = 20
    streams_per_account: int = 20
    at_once: int = 32
    at_once_per_endpoint: int = 4
    secret_overlap_s: int = 86_400
    deliveries_kept_s: int = 30 * 86_400


class Answered(Protocol):
    """What came back from an endpoint."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def retry_after_s(self) -> int | None:
        """For how long it asked to be left alone."""
        ...


class Posting(Protocol):
    """Posts to endpoints, and to public addresses only (gateway.http.courier)."""

    async def check(self, url: str) -> None:
        """Raise NotSent unless a post to this URL could leave now."""
        ...

    async def post(self, url: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Answered:
        """Post once. Raises NotSent or SentUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What an agent asks for: each member None where it is to stay as it is."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    description: str | None = None
    disabled: bool | None = None


class Hooks:
    """The endpoints of every account."""

    def __init__(self, keeping: Keeping, posting: Posting, entropy: Entropy, settings: HookSettings) -> None:
        self._keeping, self._posting, self._entropy, self._settings = keeping, posting, entropy, settings

    def of_account(self, account_id: str) -> list[Hook]:
        """Return an account's endpoints, oldest first."""
        return sorted(
            (hook for hook in self._keeping.view.hooks.values() if hook.account_id == account_id), key=lambda h: h.id
        )

    def one(self, account_id: str, hook_id: str) -> Hook:
        """Return an endpoint of the account. Raises Problem("not_found")."""
        found = self._keeping.view.hooks.get(hook_id)
        if found is None or found.account_id != account_id:
            raise Problem("not_found", "there is no such webhook of yours")
        return found

    def new_secret(self) -> Secret[str]:
        """Return a secret that nobody knows yet."""
        return make_secret(self._entropy.bytes(SECRET_BYTES))

    def new_id(self) -> str:
        """Return the id of an endpoint that is yet to be made."""
        return self._keeping.new_id("hook")

    async def check_new(self, account_id: str, url: str) -> None:
        """Raise Problem unless the account may have one more, there: webhook_url_refused, bad_request."""
        if len(self.of_account(account_id)) >= self._settings.hooks_per_account:
            raise Problem("bad_request", f"an account has at most {self._settings.hooks_per_account} webhooks")
        await self._check_url(url)

    async def create(self, hook_id: str, account_id: str, asked: Asked, secret: Secret[str], at_ms: int) -> None:
        """Keep a new endpoint; one that was kept before, deleted since or not, stays as it is."""
        if hook_id not in self._keeping.view.hooks:
            sealed = self._seal(hook_id, [[secret.reveal(), None]], [_digest(secret)])
            events, description = asked.events or (), asked.description or ""
            hook = Hook(hook_id, account_id, asked.url or "", sealed, events, description, at_ms)
            await self._keeping.put(hook, "created")  # False: it is kept already

    async def change(self, account_id: str, hook_id: str, asked: Asked) -> Hook:
        """Change an endpoint. Raises Problem: not_found, webhook_url_refused."""
        if asked.url not in (None, self.one(account_id, hook_id).url):
            await self._check_url(asked.url or "")

        def update(hook: Hook) -> Hook | None:
            after = replace(
                hook,
                url=hook.url if asked.url is None else asked.url,
                events=hook.events if asked.events is None else asked.events,
                description=hook.description if asked.description is None else asked.description,
                disabled_reason=_disabled(hook, asked.disabled),
            )
            return None if after == hook else after

        return await self._change(account_id, hook_id, update, "changed")

    async def delete(self, account_id: str, hook_id: str) -> Hook:
        """Delete an endpoint; what is due to it is given up. Raises Problem("not_found")."""
        now_ms = self._keeping.clock.now_ms()
        return await self._change(account_id, hook_id, lambda hook: replace(hook, deleted_at_ms=now_ms), "deleted")

    async def rotate(self, account_id: str, hook_id: str, secret: Secret[str]) -> Hook:
        """Make this the endpoint's secret, unless it was before; the one that it replaces signs for a while longer."""
        until_ms = self._keeping.clock.now_ms() + self._settings.secret_overlap_s * 1000

        def update(hook: Hook) -> Hook | None:
            document = self._open(hook)
            if _digest(secret) in document["used"]:
                return None
            secrets = [[secret.reveal(), None], [document["secrets"][0][0], until_ms]]
            used = [_digest(secret), *document["used"]][:USED_MAX]
            return replace(hook, sealed_secret=self._seal(hook.id, secrets, used))

        return await self._change(account_id, hook_id, update, "rotated")

    async def touch(self, account_id: str, hook_id: str) -> Hook:
        """Leave the row in the journal that is told to this endpoint as a test. Raises Problem("not_found")."""
        return await self._change(account_id, hook_id, lambda hook: hook, "tested")

    async def disable(self, hook: Hook, reason: str) -> None:
        """Stop an endpoint, with the reason for its owner; one that is stopped or gone stays so."""

        def update(now: Hook) -> Hook | None:
            return None if now.disabled_reason else replace(now, disabled_reason=reason)

        try:
            await self._change(hook.account_id, hook.id, update, "disabled")
        except Problem as problem:
            if problem.code != "not_found":  # deleted meanwhile
                raise

    def secrets(self, hook: Hook, now_ms: int) -> tuple[Secret[str], ...]:
        """Return the secrets that sign now, newest first."""
        kept: Iterable[tuple[str, int | None]] = self._open(hook)["secrets"]
        return tuple(Secret(text) for text, until_ms in kept if until_ms is None or now_ms < until_ms)

    def previous_until_ms(self, hook: Hook) -> int | None:
        """Return until when the secret before the newest signs as well, None where there is none."""
        ends = [until_ms for _, until_ms in self._open(hook)["secrets"] if until_ms is not None]
        return max(ends, default=None)

    async def _check_url(self, url: str) -> None:
        try:
            await self._posting.check(url)
        except NotSent as error:
            detail = error.message if error.code == "url_refused" else "its name does not lead to a public address now"
            raise Problem("webhook_url_refused", detail, "url") from error

    async def _change(self, account_id: str, hook_id: str, update: Callable[[Hook], Hook | None], event: str) -> Hook:
        for _ in range(CHANGES_MAX):
            before = self.one(account_id, hook_id)
            after = update(before)
            if after is None:
                return before
            after = bumped(after, before.version)
            if await self._keeping.put(after, event):
                return after
        raise Problem("changed_meanwhile", "this webhook changes faster than it can be changed")

    def _seal(self, hook_id: str, secrets: list[list[Any]], used: list[str]) -> bytes:
        return self._keeping.seal(HOOK, hook_id, {"secrets": secrets, "used": used})

    def _open(self, hook: Hook) -> dict[str, Any]:
        return self._keeping.open(HOOK, hook.id, hook.sealed_secret)


def _disabled(hook: Hook, disabled: bool | None) -> str:  # noqa: FBT001 - an agent's own yes, no or nothing
    if disabled is None:
        return hook.disabled_reason
    return (hook.disabled_reason or BY_OWNER) if disabled else ""


def _digest(secret: Secret[str]) -> str:
    return sha256(secret.reveal().encode("ascii")).hexdigest()
