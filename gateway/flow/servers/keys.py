"""SSH keys: kept once for an account, and known to a vendor from the first server there that is made with them.

Must not know vendors' wires or HTTP.  Theory: a key is registered at a vendor under one claim, so that however many orders
need it at once and whenever the process dies, it is registered (and, where that costs, paid for) once; the vendor's id is
durable before any order names it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from gateway.core.kept import SSH_KEY
from gateway.core.money import format_amount, parse_amount
from gateway.core.openssh import PublicKeyError, parse_public_key
from gateway.core.problems import Problem
from gateway.core.server import SshKey
from gateway.flow.locks import Locks
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.keeping import CHANGES_MAX, Keeping, bumped
from gateway.flow.servers.runner import Runner, Who
from gateway.server_ports import Action, Ask, Feature, ServerVendor

KEYS_MAX = 200  # of an account
GONE = frozenset({"deleted", "destroyed", "gone"})  # what the book calls a key that a vendor has no more

OK = 200

Update = Callable[[SshKey], SshKey]

log = structlog.get_logger()


class KeyPrices:
    """What it costs that a vendor learns of keys. Nothing is registered by asking."""

    def __init__(self, keeping: Keeping, runner: Runner) -> None:
        self._keeping, self._runner = keeping, runner

    async def of(self, who: Who, vendor: ServerVendor, key_ids: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Return the binding price (USD base units) of each key that the vendor does not know yet and takes money for.

        Raises Problem: not_found naming `ssh_keys`, and whatever refuses the price: then it is not registered either.
        """
        priced = []
        for key_id in key_ids:
            key = await key_of(self._keeping, who.account_id, key_id)
            if await known_ref(self._keeping, vendor.name, key) is not None or await self._is_paid(key, vendor.name):
                continue
            reply = await self._runner.ask(who, vendor.name, _registration(vendor, key), quote_only=True)
            if reply.rest is not None:
                await reply.rest.close()
            if reply.status != OK:
                raise Problem("price_untold", f"{vendor.name} answered {reply.status} where it was asked to take a key")
            price_base = parse_amount(json.loads(reply.body)["price"], allow_zero=True)
            if price_base:
                priced.append((key.id, price_base))
        return tuple(priced)

    async def _is_paid(self, key: SshKey, vendor_name: str) -> bool:
        """A registration that was begun is not paid for again, unless it is proven to have come to nothing."""
        claimed = await self._keeping.store.claimed(key.account_id, _claim(key, vendor_name))
        payment_id = None if claimed is None else claimed.payment_id
        payment = None if payment_id is None else await self._keeping.store.payment(payment_id)
        return claimed is not None and (payment is None or not payment.reclaimable)


class Keys:
    """The use case."""

    def __init__(self, doing: Doing) -> None:
        self._doing, self._keeping, self._locks = doing, doing.keeping, Locks()
        self._prices = KeyPrices(doing.keeping, doing.runner)

    def parse(self, account_id: str, name: str, public_key: str) -> SshKey:
        """Return the record that a public key would be kept as. Raises Problem("input_refused") for what is no public key."""
        try:
            key = parse_public_key(public_key)
        except PublicKeyError as error:
            raise Problem("input_refused", str(error), "public_key") from None
        now_ms = self._keeping.clock.now_ms()
        return SshKey(self._keeping.new_id("sshk"), account_id, name, key.line, key.fingerprint, now_ms)

    async def add(self, key: SshKey) -> tuple[SshKey, bool]:
        """Keep a key; say whether it is new. A key that the account has already keeps its first name.

        Raises Problem("bad_request") for one too many.
        """
        lock = self._locks.of(key.account_id)
        async with lock:
            kept = await self._keeping.store.record(SSH_KEY, key.id)
            if isinstance(kept, SshKey):  # a repeat, after a crash between the answer and the record
                return kept, False
            own = await self._keeping.store.ssh_keys(key.account_id)
            same = next((each for each in own if each.fingerprint == key.fingerprint), None)
            if same is not None:
                return same, False
            if len(own) >= KEYS_MAX:
                raise Problem("bad_request", f"an account has at most {KEYS_MAX} SSH keys")
            await self._keeping.put(key, "added", name=key.name)
            return key, True

    async def get(self, account_id: str, key_id: str) -> SshKey:
        """Return an account's key that was not deleted. Raises Problem("not_found")."""
        return await key_of(self._keeping, account_id, key_id)

    # at vendors

    async def refs(
        self, who: Who, vendor: ServerVendor, key_ids: tuple[str, ...], *, max_charge_base: int | None = None
    ) -> tuple[str, ...]:
        """Return the vendor's own ids of these keys, registering there what it does not know yet.

        All together they cost at most `max_charge_base` (USD base units), and none is registered where that is too
        little. Raises Problem: not_found, capability_missing, price_above_max_charge, and what the vendor's call raises.
        """
        self._doing.require(vendor.name, Feature.SSH_KEYS)
        for key_id in key_ids:  # all of them, before any is paid for
            await self.get(who.account_id, key_id)
        if max_charge_base is not None:
            await self._require_within(who, vendor, key_ids, max_charge_base)
        refs, left_base = list[str](), max_charge_base
        for key_id in key_ids:
            ref, charge_base = await self._doing.whole(self._ref(who, vendor, key_id, left_base))
            refs.append(ref)
            left_base = None if left_base is None else max(0, left_base - charge_base)
        return tuple(refs)

    async def _require_within(self, who: Who, vendor: ServerVendor, key_ids: tuple[str, ...], most_base: int) -> None:
        prices = await self._prices.of(who, vendor, key_ids)
        total_base = sum(price_base for _, price_base in prices)
        if total_base > most_base:
            told = f"{format_amount(total_base)}, and at most {format_amount(most_base)} may be charged"
            raise Problem(
                "price_above_max_charge", f"to register the SSH keys at {vendor.name} costs {told}", "ssh_keys"
            )

    async def _ref(self, who: Who, vendor: ServerVendor, key_id: str, most_base: int | None) -> tuple[str, int]:
        """Return the vendor's id of a key, and what was charged for it now."""
        lock = self._locks.of(key_id)
        async with lock:
            key = await self.get(who.account_id, key_id)
            known = await known_ref(self._keeping, vendor.name, key)
            if known is not None:
                return known, 0
            ask, claim = _registration(vendor, key), _claim(key, vendor.name)
            done = await self._doing.run_ask(
                who, vendor, ask, Action.KEY_ADD, "", claim=claim, max_charge_base=most_base
            )
            if not done.heard.key_ref:
                raise Problem("action_unknown", f"{vendor.name} took the SSH key and does not say how it names it")
            await self._install(key, vendor.name, done.heard.key_ref)
            return done.heard.key_ref, 0 if done.replayed else done.charge_base or 0

    async def _install(self, key: SshKey, vendor_name: str, ref: str) -> SshKey:
        """Keep how a vendor names a key; "" for not at all any more."""

        def installed(before: SshKey) -> SshKey:
            others = {name: each for name, each in before.installed if name != vendor_name}
            now = {**others, vendor_name: ref} if ref else others
            return replace(before, installed=tuple(sorted(now.items())))

        return await self._change(key, installed, "installed" if ref else "removed", vendor=vendor_name)

    async def delete(self, who: Who, key_id: str) -> SshKey:
        """Delete a key, at every vendor that knows it first. Machines that were made with it go on letting it in.

        Where a vendor does not delete it the key stays, without the vendors that did: ask again. Raises Problem:
        not_found, and what a vendor's call raises.
        """
        return await self._doing.whole(self._delete(who, key_id))

    async def _delete(self, who: Who, key_id: str) -> SshKey:
        lock = self._locks.of(key_id)
        async with lock:
            key = await self.get(who.account_id, key_id)
            for vendor_name, ref in key.installed:
                vendor = self._doing.vendors.get(vendor_name)
                if vendor is None:  # it is configured no more, and nobody can ask it
                    log.warning("ssh_key.left", key_id=key.id, vendor=vendor_name)
                    continue
                await self._delete_at(who, vendor, ref)
                key = await self._install(key, vendor_name, "")
            now_ms = self._keeping.clock.now_ms()
            return await self._change(key, lambda before: replace(before, deleted_at_ms=now_ms), "deleted")

    async def _delete_at(self, who: Who, vendor: ServerVendor, ref: str) -> None:
        ask = vendor.ask(Action.KEY_DELETE, "", {}, {"key": ref})
        try:
            await self._doing.run_ask(who, vendor, ask, Action.KEY_DELETE, "")
        except Problem as problem:
            if problem.code != "not_found":
                raise

    async def _change(self, key: SshKey, update: Update, event: str, **detail: object) -> SshKey:
        for _ in range(CHANGES_MAX):
            before = await self._keeping.store.record(SSH_KEY, key.id)
            assert isinstance(before, SshKey), "what was kept is found"
            after = bumped(update(before), before.version)
            if await self._keeping.put(after, event, **detail):
                return after
        raise Problem("internal", "this SSH key changes faster than it can be changed")


async def key_of(keeping: Keeping, account_id: str, key_id: str) -> SshKey:
    """Return an account's key that was not deleted. Raises Problem("not_found")."""
    found = await keeping.store.record(SSH_KEY, key_id)
    if not isinstance(found, SshKey) or found.account_id != account_id or found.deleted_at_ms is not None:
        raise Problem("not_found", f"there is no SSH key {key_id[:40]} of yours", "ssh_keys")
    return found


async def known_ref(keeping: Keeping, vendor_name: str, key: SshKey) -> str | None:
    """Return how a vendor names a key, None where it does not know it, or not any more."""
    ref = dict(key.installed).get(vendor_name)
    thing = None if ref is None else await keeping.store.resource(vendor_name, ref)
    return None if thing is not None and thing.state in GONE else ref


def _registration(vendor: ServerVendor, key: SshKey) -> Ask:
    return vendor.ask(Action.KEY_ADD, "", {}, {"name": key.id, "public_key": key.public_key})


def _claim(key: SshKey, vendor_name: str) -> str:
    """Return the claim of a registration: what was deleted at the vendor is registered anew, under another one."""
    gone = dict(key.installed).get(vendor_name)
    return f"key {key.id} {vendor_name}" + ("" if gone is None else f" {gone}")
