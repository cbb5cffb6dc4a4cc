"""What must hold between sections: names that exist, witnesses that differ, wallets that can sign what vendors may ask.

Must not start anything.  Theory: a contradiction that is found at the start costs nothing; found at a purchase it costs an
agent's time, and found by a vendor it may cost money.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from contracts.codec import ZERO_ADDRESS, ContractError
from contracts.networks import Network
from gateway.core.money import format_amount, to_usd
from gateway.settings.lines import KeyPath
from gateway.settings.model import ChainConfig, Settings, VendorConfig, VendorKind, WalletConfig

Finding = tuple[KeyPath, str, str]


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield (key, what is wrong, what to write) for every contradiction between sections."""
    if not str(settings.data_dir).isprintable():  # a NUL, say, which no system call takes
        yield ("data_dir",), "must be printable, as every path", 'write it as "/var/lib/gateway"'
    yield from _chains(settings)
    yield from _tokens(settings)
    yield from _wallets(settings)
    for vendor in settings.vendors.values():
        yield from _vendor(settings, vendor)
    yield from _between_vendors(settings)


def _chains(settings: Settings) -> Iterator[Finding]:
    seen: dict[int, str] = {}
    for chain in settings.chains.values():
        place = ("chains", chain.name)
        if chain.chain_id in seen:
            yield (*place, "chain_id"), f"chains.{seen[chain.chain_id]} has it too", "describe each chain once"
        seen[chain.chain_id] = chain.name
        yield from _witnesses(chain)


def _witnesses(chain: ChainConfig) -> Iterator[Finding]:
    hosts: set[str] = set()
    for number, url in enumerate(chain.rpc):
        place = ("chains", chain.name, "rpc", str(number))
        try:
            parts = urlsplit(url.reveal())
            host = f"{parts.hostname}:{parts.port}" if parts.hostname else ""
        except ValueError:
            host = ""
        if not host:
            yield place, "has no host, or a malformed port", 'write it as "https://host/path"'
        elif host in hosts:
            yield place, "is at the same host as another, so it is not a second witness", "name another provider"
        hosts.add(host)


def _tokens(settings: Settings) -> Iterator[Finding]:
    networks = {network.chain_id for network in settings.networks()}
    seen: dict[str, str] = {}
    for each in settings.tokens.values():
        place = ("tokens", each.name)
        try:
            token = each.token
        except ContractError as error:
            yield place, str(error), "describe the contract as it is on chain"
            continue
        if token.asset_id in seen:
            yield place, f"is the same contract as tokens.{seen[token.asset_id]}", "describe each token once"
        seen[token.asset_id] = each.name
        if each.enabled and token.chain_id not in networks:
            yield place, f"is on chain {token.chain_id}, which no [chains] table describes", "add the chain"
        name = Network(token.chain_id).v1_name
        if token.standard == "tip20" and name is not None:
            yield place, f"is a tip20 token, and chain {token.chain_id} ({name}) has none", "write a chain like Tempo's"


def _wallets(settings: Settings) -> Iterator[Finding]:
    seen: dict[bytes, str] = {}
    for wallet in settings.wallets.values():
        place = ("wallets", wallet.name)
        if wallet.address in seen:
            yield (*place, "address"), f"wallets.{seen[wallet.address]} has it too", "describe each wallet once"
        seen[wallet.address] = wallet.name
        yield from token_names(settings, place, wallet.tokens)
        yield from _fees(settings, wallet)


def _fees(settings: Settings, wallet: WalletConfig) -> Iterator[Finding]:
    """On a chain like Tempo's the wallet itself pays the network: what the chain may ask for, the guard must let pass."""
    place = ("wallets", wallet.name)
    known = [settings.tokens[name] for name in wallet.tokens if name in settings.tokens]
    used = {token.on_chain for token in known if token.is_tip20}
    for chain in (each for each in settings.chains.values() if each.chain_id in used):
        if chain.highest_fee_base > wallet.max_fee_base:
            fee = format_amount(chain.highest_fee_base)
            what = f"is below the {fee} that gas and max_fee_gwei of chains.{chain.name} come to"
            yield (*place, "max_fee"), what, "raise it, or lower those"
        if chain.payment_valid_for_s > wallet.max_window_s:
            what = f"is below the {chain.payment_valid_for_s} s for which a payment on chains.{chain.name} is valid"
            yield (*place, "max_window_s"), what, "raise it"


def token_names(settings: Settings, place: KeyPath, names: tuple[str, ...]) -> Iterator[Finding]:
    """Yield a finding for each name in a table's `tokens` that is no enabled token's."""
    for number, name in enumerate(names):
        found = settings.tokens.get(name)
        if found is None:
            known = ", ".join(settings.tokens) or "none"
            yield (*place, "tokens", str(number)), f"there is no [tokens] table of that name ({known})", "add it"
        elif not found.enabled:
            yield (*place, "tokens", str(number)), f"tokens.{name} is not enabled", "remove it, or enable the token"


def _vendor(settings: Settings, vendor: VendorConfig) -> Iterator[Finding]:
    place = ("vendors", vendor.name)
    yield from token_names(settings, place, vendor.tokens)
    yield from _payees(settings, vendor)
    if settings.server.public_url == vendor.base_url:
        yield (*place, "base_url"), "is our own public_url", "write the vendor's own address"
    here = {settings.server.host, "127.0.0.1", "localhost", "[::1]", "::1"}
    if settings.server.port and vendor.base_url.port == settings.server.port and vendor.base_url.host in here:
        yield (*place, "base_url"), "is our own host and port", "write the vendor's own address"
    if vendor.wallet is None:
        return
    wallet = settings.wallets.get(vendor.wallet)
    if wallet is None:
        known = ", ".join(settings.wallets) or "none"
        yield (*place, "wallet"), f"there is no [wallets] table of that name ({known})", "add it"
        return
    for number, name in enumerate(vendor.tokens):
        if name not in wallet.tokens:
            yield (
                (*place, "tokens", str(number)),
                f"wallets.{wallet.name} may not pay with it",
                "add it to the wallet's tokens",
            )
    yield from _rails(settings, vendor)
    yield from _reach(settings, vendor, wallet)


def _rails(settings: Settings, vendor: VendorConfig) -> Iterator[Finding]:
    """A token that the vendor's rails cannot move is a purchase that fails after the agent was quoted."""
    for number, name in enumerate(vendor.tokens):
        token = settings.tokens.get(name)
        if token is None:
            continue
        place = ("vendors", vendor.name, "tokens", str(number))
        if token.is_tip20 and "mpp" not in vendor.kind.rails:
            what = f"a tip20 token is paid by MPP alone, and kind {vendor.kind.value} speaks x402"
            yield place, what, "write an EIP-3009 token such as base-usdc"
        elif vendor.kind is VendorKind.DROPMPP and not token.is_tip20:
            yield place, "kind dropmpp is paid on Tempo", "write a tip20 token such as tempo-pathusd"


def _between_vendors(settings: Settings) -> Iterator[Finding]:
    vendors = list(settings.vendors.values())
    for number, vendor in enumerate(vendors):
        place = ("vendors", vendor.name)
        for other in vendors[:number]:
            if other.base_url == vendor.base_url and other.egress != vendor.egress:
                what = f"vendors.{other.name} has this base_url with other allow_…, max_connections or …_timeout_s"
                yield (*place, "base_url"), what, "write the same ones: the two share their connections"
        others = [other for other in vendors if other.base_url != vendor.base_url]
        for at, realm in enumerate(vendor.realms):
            host_of = next((other for other in others if realm.lower() in other.hosts), None)
            if host_of is not None:  # what the one is shown would open the wallet's things at the other
                what = f"is the host of vendors.{host_of.name}"
                yield (*place, "realms", str(at)), what, "name only this vendor's own hosts"


def _payees(settings: Settings, vendor: VendorConfig) -> Iterator[Finding]:
    own = {wallet.address: f"our own wallets.{wallet.name}" for wallet in settings.wallets.values()}
    own |= {each.address: f"the token contract tokens.{each.name}" for each in settings.tokens.values() if each.address}
    own[ZERO_ADDRESS] = "the zero address"
    for number, payee in enumerate(vendor.payees):
        if payee in own:
            yield ("vendors", vendor.name, "payees", str(number)), f"is {own[payee]}", "write the vendor's own address"


def _reach(settings: Settings, vendor: VendorConfig, wallet: WalletConfig) -> Iterator[Finding]:
    """A ceiling or a window that the guard would refuse anyway is a purchase that fails after the agent was quoted."""
    most_base = 0
    for name in vendor.tokens:
        token = settings.tokens.get(name)
        if token is not None:
            most_base = max(most_base, to_usd(min(token.max_value_base, wallet.max_value_base), token.rate_ppm))
    place = ("vendors", vendor.name)
    ceilings: dict[KeyPath, int] = {(*place, "ceiling"): vendor.ceiling_base}
    for route in vendor.routes.values():
        if route.ceiling_base is not None:
            ceilings[*place, "routes", route.name, "ceiling"] = route.ceiling_base
        if route.window_max_s is not None and route.window_max_s > wallet.max_window_s:
            what = f"is above the {wallet.max_window_s} s that wallets.{wallet.name} signs for"
            yield (*place, "routes", route.name, "window_max_s"), what, "lower it, or raise the wallet's max_window_s"
    for key, ceiling_base in ceilings.items():
        if most_base and ceiling_base > most_base:
            what = f"is above the {format_amount(most_base)} that wallets.{wallet.name} signs for at most"
            yield key, what, "lower it, or raise max_value of wallet and token"
