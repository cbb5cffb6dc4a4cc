"""`/v1/ssh-keys`: public keys, kept once and named in orders at any vendor that takes them.

Must not know vendors.  Theory: a key is known by its fingerprint, so the same key comes back as the same record, with or
without an Idempotency-Key; vendors learn of it when a server there is made with it.
"""

from typing import Any

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_object
from gateway.api.once import CREATED, once
from gateway.api.plans import neutral_of
from gateway.api.schemas import TEXT, TIME, named, page, record, several
from gateway.core.apikeys import READ, SPEND
from gateway.core.server import SshKey
from gateway.core.times import utc_text
from gateway.flow.servers.runner import Who
from gateway.store import columns, queries

MAX_BODY_BYTES = 16 * 1024
MAX_NAME_CHARS = 64

_SSH_KEY = record(
    id=TEXT,
    name=TEXT,
    public_key=TEXT,
    fingerprint={**TEXT, "description": "as `ssh-keygen -l` prints it"},
    installed={**several(TEXT), "description": "the vendors that know it"},
    created_at=TIME,
)
SSH_KEY = named("SshKey", _SSH_KEY, examples.SSH_KEY)
BODY = named(
    "SshKeyRequest",
    record(
        name={**TEXT, "minLength": 1, "maxLength": MAX_NAME_CHARS},
        public_key={**TEXT, "description": "one line as ssh-keygen writes it to .pub: ed25519, ecdsa, rsa or sk-*"},
    ),
    examples.SSH_KEY_BODY,
)


async def add_ssh_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Keep a public key; one that the account has already is answered as it was kept. Raises Problem."""
    query_of(exchange.query, frozenset())
    keys = neutral_of(deps).keys
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members = parse_object(body)
    check_members(members, "", (), ("name", "public_key"))
    name, public_key = members["name"], members["public_key"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise bad(f"name is a text of 1 to {MAX_NAME_CHARS} printable characters", "name")
    if not isinstance(public_key, str):
        raise bad("public_key is a text", "public_key")
    parsed = keys.parse(exchange.account_id, name, public_key)

    async def make() -> dict[str, Any]:
        kept, _ = await keys.add(parsed)
        return ssh_key_view(kept)

    return await once(deps, exchange, body, make)


async def list_ssh_keys(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's keys, the newest first. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    parameters = {"account_id": exchange.account_id, "before": asked.before, "limit": asked.limit + 1}
    rows = await deps.store.query(queries.SSH_KEYS_OF_ACCOUNT, parameters)
    entries = [ssh_key_view(columns.ssh_key_from(tuple(row.values()))) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


async def show_ssh_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a key of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    return Told(ssh_key_view(await neutral_of(deps).keys.get(exchange.account_id, exchange.parameters["id"])))


async def delete_ssh_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Delete a key of the account, at vendors too. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    return Told(ssh_key_view(await neutral_of(deps).keys.delete(who, exchange.parameters["id"])))


def ssh_key_view(key: SshKey) -> dict[str, Any]:
    """Return a key as its agent reads it."""
    return {
        "id": key.id,
        "name": key.name,
        "public_key": key.public_key,
        "fingerprint": key.fingerprint,
        "installed": [vendor for vendor, _ in key.installed],
        "created_at": utc_text(key.created_at_ms),
    }


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/ssh-keys",
        "Keep a public key",
        add_ssh_key,
        SSH_KEY,
        scope=SPEND,
        status=CREATED,
        body=BODY,
        problems=("bad_request", "body_oversized", "input_refused", "idempotency_conflict"),
        idempotent_key=True,
    ),
    Endpoint("GET", "/v1/ssh-keys", "The account's SSH keys", list_ssh_keys, page(SSH_KEY), scope=READ, query=PAGE),
    Endpoint("GET", "/v1/ssh-keys/{id}", "An SSH key", show_ssh_key, SSH_KEY, scope=READ, problems=("not_found",)),
    Endpoint(
        "DELETE",
        "/v1/ssh-keys/{id}",
        "Delete an SSH key, at vendors too; machines that were made with it go on letting it in",
        delete_ssh_key,
        SSH_KEY,
        scope=SPEND,
        problems=("not_found", "action_refused", "action_unknown"),
        asks_vendor=True,
    ),
)
