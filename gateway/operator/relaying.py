"""The operator's look at who pays gas, and the one transaction that is the operator's own: putting up the batch contract.

Must not know how transactions are made.  Theory: only a running gateway holds the relayers' keys and their nonces, so what
sends goes through it, and never past it.
"""

from collections import Counter
from typing import Any

from contracts.codec import Address, to_hex
from gateway.core.problems import Problem
from gateway.facilitator.engine import NotDeployed
from gateway.operator import describe
from gateway.operator.params import Params
from gateway.operator.services import Relaying, Services
from gateway.paid_ports import Reverted
from gateway.ports import ChainUnavailable
from wallets.guard import SigningRefused

_LARGEST_ID = 2**63 - 1


async def relayers_list(services: Services, _params: Params) -> dict[str, Any]:
    """Return every relayer on every chain: its ether, its next account nonce, and what it has in no final block."""
    relaying = _relaying(services)
    under_way = Counter((relay.chain_id, relay.relayer) for relay in services.store.view.relays.values())
    rows = []
    for name, chain_id, address in relaying.relayers:
        chain = relaying.chains[chain_id]
        rows.append(
            {
                "name": name,
                "chain_id": chain_id,
                "address": describe.address(address),
                "ether_wei": str(await chain.ether_wei(Address(address))),
                "account_nonce": await chain.account_nonce(Address(address)),
                "open_transactions": under_way[chain_id, address],
            }
        )
    return {"relayers": rows}


async def batches_deploy(services: Services, params: Params) -> dict[str, Any]:
    """Put the batch contract up on a chain; it stands there already if no transaction is named."""
    relaying = _relaying(services)
    chain_id = params.number("chain_id", 0, _LARGEST_ID)
    if chain_id not in relaying.chains:
        raise Problem("not_found", f"no relayer serves chain {chain_id}", "chain_id")
    try:
        tx_hash = await relaying.deployer.deploy(chain_id)
    except NotDeployed as problem:
        raise _not_deployed(str(problem), problem.remedy) from None
    except ChainUnavailable as problem:
        raise _not_deployed(f"no endpoint of chain {chain_id} answers: {problem}", "ask again when one does") from None
    except SigningRefused as problem:
        raise _not_deployed(f"the relayer's guard refused: {problem}", "lift the freeze, if it is one") from None
    except Reverted:
        raise _not_deployed("the chain says that it would fail", "see whether other code stands there") from None
    return {
        "changed": tx_hash is not None,
        "contract": describe.address(relaying.batch),
        "tx_hash": None if tx_hash is None else to_hex(tx_hash),
    }


def _not_deployed(why: str, remedy: str) -> Problem:
    """What the operator does is not what an agent would do."""
    return Problem("not_ready", why, extra={"title": "The batch contract was not put up", "remedy": remedy})


def _relaying(services: Services) -> Relaying:
    if services.relaying is None:
        raise Problem("not_ready", "only a running gateway with a [facilitator] table has relayers: start it, then ask")
    return services.relaying
