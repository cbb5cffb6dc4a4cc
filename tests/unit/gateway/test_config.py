"""The configuration: every key documented, every fault named with its line, every value as modules take it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.tokens import BASE_USDC
from gateway.config import Config, ConfigError, VendorKind, load_config, parse_config
from gateway.core.inventory import InventoryCap
from gateway.core.routes import Represent
from gateway.core.tariff import Rule
from gateway.settings.model import (
    AccountConfig,
    CatalogueConfig,
    ChainConfig,
    KeystoreConfig,
    LimitsConfig,
    LogConfig,
    RouteOverride,
    ServerConfig,
    ServersConfig,
    StoreConfig,
    TokenConfig,
    VendorConfig,
    WalletConfig,
    WebhooksConfig,
)
from gateway.settings.paid import FacilitatorConfig, RelayerConfig, TillConfig, TopUpsConfig
from gateway.settings.table import keys_of
from gateway.vendor_config import make_account_vendor, make_vendor
from wallets.secret import REDACTED

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config.example.toml"
ENVIRON = {
    "BASE_RPC_1": "https://one.example/key-aaaa",
    "BASE_RPC_2": "https://two.example/key-bbbb",
    "TEMPO_RPC_1": "https://three.example/key-cccc",
    "TEMPO_RPC_2": "https://four.example/key-dddd",
    "FACILITATOR_TOKEN": "token-eeee",
}
TABLES: dict[str, type[Any]] = {
    "": Config,
    "server": ServerConfig,
    "store": StoreConfig,
    "keystore": KeystoreConfig,
    "chains.*": ChainConfig,
    "tokens.*": TokenConfig,
    "wallets.*": WalletConfig,
    "vendors.*": VendorConfig,
    "vendors.*.routes.*": RouteOverride,
    "vendors.*.account": AccountConfig,
    "limits": LimitsConfig,
    "catalogue": CatalogueConfig,
    "servers": ServersConfig,
    "webhooks": WebhooksConfig,
    "tills.*": TillConfig,
    "relayers.*": RelayerConfig,
    "facilitator": FacilitatorConfig,
    "topups": TopUpsConfig,
    "log": LogConfig,
}

MINIMAL = """\
[keystore]
passphrase = "env:PASSPHRASE"

[chains.base]
chain_id = 8453
rpc = ["https://one.example/secret-1", "https://two.example/secret-2"]

[tokens.base-usdc]

[wallets.main]
address = "0x1111111111111111111111111111111111111111"
tokens = ["base-usdc"]
max_value = "100"

[vendors.shop]
kind = "x402"
base_url = "https://shop.example"
wallet = "main"
tokens = ["base-usdc"]
payees = ["0x2222222222222222222222222222222222222222"]
ceiling = "25"

[vendors.shop.routes."/v1"]
ceiling = "5"
window_min_s = 60
window_max_s = 120
"""


def parse(text: str = MINIMAL, **environ: str) -> Config:
    """Return a parsed configuration whose paths start at /srv."""
    return parse_config(text, environ, directory=Path("/srv"))


def problems(text: str, **environ: str) -> tuple[str, ...]:
    """Return what is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        parse(text, **environ)
    return caught.value.problems


def keys_in(document: dict[str, Any], pattern: str) -> Iterator[str]:
    """Yield the keys of every table that a pattern such as "vendors.*.routes.*" names."""
    tables = [document]
    for part in pattern.split(".") if pattern else []:
        inner = [t.values() if part == "*" else [t.get(part, {})] for t in tables]
        tables = [each for group in inner for each in group]
    for table in tables:
        yield from table


def test_the_example_loads_and_its_vendors_can_be_built() -> None:
    """config.example.toml is a working configuration."""
    config = load_config(EXAMPLE, ENVIRON)
    paid, by_account = config.paid_vendors(), config.account_vendors()
    built = [make_vendor(vendor, config.vendor_terms(name)) for name, vendor in paid.items()]
    assert {vendor.name for vendor in built} == {"vpsagent", "images", "compute", "droplets"}
    accounts = [make_account_vendor(vendor, config.account_terms(name)) for name, vendor in by_account.items()]
    assert {vendor.name for vendor in accounts} == {"cryptovps", "litevps", "vrtx"}
    assert {vendor.kind for vendor in config.vendors.values()} == set(VendorKind)
    assert config.vendors["images"].routes["/v1/large"].represent is Represent.NO


@pytest.mark.parametrize("pattern", TABLES)
def test_the_example_holds_exactly_the_keys_that_there_are(pattern: str) -> None:
    """Every key of every settings class stands in the example, and the example holds no other."""
    documented = set(keys_in(tomllib.loads(EXAMPLE.read_text()), pattern))
    assert documented == {key for key in keys_of(TABLES[pattern]) if key}


@pytest.mark.parametrize("pattern", TABLES)
def test_the_manual_names_every_key(pattern: str) -> None:
    """docs/configuration.md has every key in its table's section."""
    manual = (ROOT / "docs/configuration.md").read_text()
    title = re.escape(pattern.replace("routes.*", "routes.<route>").replace("*", "<name>"))
    heading = r"## Top level" if not pattern else rf"#+ `\[{title}\]`"
    section = re.split(r"\n#", re.split(heading, manual)[1])[0]
    tables = {
        "server",
        "store",
        "keystore",
        "chains",
        "tokens",
        "wallets",
        "vendors",
        "limits",
        "log",
        "catalogue",
        "servers",
        "webhooks",
        "tills",
        "relayers",
        "facilitator",
        "topups",
    }
    wanted = {key for key in keys_of(TABLES[pattern]) if key} - (tables if not pattern else set())
    assert {key for key in wanted if f"`{key}`" not in section} == set()


def test_every_fault_is_said_at_once_with_line_and_key() -> None:
    """One run tells everything, each with file, line, key and what to write."""
    text = MINIMAL.replace("chain_id = 8453", "chain_id = 0").replace('ceiling = "25"', "ceiling = 25\ncolour = 1")
    found = problems(text)
    assert [line.split(": ")[:2] for line in sorted(found)] == [
        ["config.toml:21", "vendors.shop.ceiling"],
        ["config.toml:22", "vendors.shop.colour"],
        ["config.toml:5", "chains.base.chain_id"],
    ]
    assert all("; " in line for line in found)


FAULTS = {
    "unknown table": (("[keystore]", "[keystores]\n[keystore]"), "config.toml:1: keystores: unknown key"),
    "unknown key": (("[tokens.base-usdc]", "[tokens.base-usdc]\nrates = 1"), "tokens.base-usdc.rates: unknown key"),
    "missing key": (('max_value = "100"', ""), "config.toml:10: wallets.main.max_value: missing; write max_value = "),
    "float amount": (('ceiling = "25"', "ceiling = 25.0"), "vendors.shop.ceiling: write the amount"),
    "exponent amount": (('ceiling = "25"', 'ceiling = "2e1"'), "vendors.shop.ceiling: write the amount"),
    "zero ceiling": (('ceiling = "25"', 'ceiling = "0"'), "vendors.shop.ceiling: the amount must be more than zero"),
    "bad checksum": (
        ("0x2222222222222222222222222222222222222222", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02914"),
        "payees.0",
    ),
    "payee twice": (
        ('payees = ["0x2', 'payees = ["0x2222222222222222222222222222222222222222", "0x2'),
        "vendors.shop.payees.1: stands in the list twice",
    ),
    "our own payee": (
        ("0x2222222222222222222222222222222222222222", "0x1111111111111111111111111111111111111111"),
        "our own wallets.main",
    ),
    "zero payee": (
        ("0x2222222222222222222222222222222222222222", "0x0000000000000000000000000000000000000000"),
        "is the zero address",
    ),
    "wallet unknown": (
        ('wallet = "main"', 'wallet = "mian"'),
        "config.toml:18: vendors.shop.wallet: there is no [wallets]",
    ),
    "token unknown": (
        ('tokens = ["base-usdc"]\npayees', 'tokens = ["usdc"]\npayees'),
        "vendors.shop.tokens.0: there is no",
    ),
    "token disabled": (
        ("[tokens.base-usdc]", "[tokens.base-usdc]\nenabled = false"),
        "tokens.base-usdc is not enabled",
    ),
    "token without chain": (("chain_id = 8453", "chain_id = 1"), "tokens.base-usdc: is on chain 8453"),
    "built-in described": (
        ("[tokens.base-usdc]", '[tokens.base-usdc]\nsymbol = "X"'),
        "tokens.base-usdc.symbol: is built in",
    ),
    "foreign undescribed": (("[wallets.main]", "[tokens.other]\n[wallets.main]"), "tokens.other: is not built in"),
    "eighteen decimals": (("[tokens.base-usdc]", "[tokens.base-usdc]\ndecimals = 18"), "tokens.base-usdc.decimals"),
    "quorum above endpoints": (("[tokens", "evidence_quorum = 3\n[tokens"), "asks for 3 witnesses, rpc names 2"),
    "one witness twice": (("two.example", "one.example"), "chains.base.rpc.1: is at the same host as another"),
    "plain http endpoint": (("https://two", "http://two"), "chains.base.rpc: plain http can be forged"),
    "endpoint without host": (("https://two.example/secret-2", "https:///secret-2"), "chains.base.rpc.1: has no host"),
    "finality unknown": (
        ("[tokens", 'finality = "safe"\n[tokens'),
        'chains.base.finality: finality: expected "finalized"',
    ),
    "confirmations zero": (("[tokens", 'finality = "confirmations:0"\n[tokens'), "chains.base.finality"),
    "plain http vendor": (("https://shop", "http://shop"), "vendors.shop.base_url: plain http needs allow_plain_http"),
    "private vendor": (
        ("https://shop.example", "https://10.0.0.1"),
        "vendors.shop.base_url: an address that is not public",
    ),
    "vendor with a path": (
        ("https://shop.example", "https://shop.example/api"),
        "vendors.shop.base_url: must be a scheme",
    ),
    "vendor at our own address": (
        ("[keystore]", '[server]\npublic_url = "https://shop.example"\n[keystore]'),
        "vendors.shop.base_url: is our own public_url",
    ),
    "time-outs contradict": (
        ('ceiling = "25"', 'ceiling = "25"\nconnect_timeout_s = 60\ntotal_timeout_s = 60'),
        "vendors.shop.total_timeout_s: is too short for a connect_timeout_s of 60",
    ),
    "total below the first byte's": (
        ('ceiling = "25"', 'ceiling = "25"\ntotal_timeout_s = 30'),
        "vendors.shop.total_timeout_s: is too short for a first_byte_timeout_s of 60",
    ),
    "data_dir that no system call takes": (
        ("[keystore]", 'data_dir = "data\\u0000"\n[keystore]'),
        "data_dir: must be printable",
    ),
    "half a window": (("window_min_s = 60\n", ""), 'vendors.shop.routes."/v1": stands alone'),
    "window upside down": (
        ("window_min_s = 60", "window_min_s = 600"),
        'vendors.shop.routes."/v1".window_min_s: is above',
    ),
    "window above the wallet's": (
        ("window_max_s = 120", "window_max_s = 200000"),
        "is above the 172800 s that wallets.main",
    ),
    "ceiling above the wallet's": (
        ('ceiling = "5"', 'ceiling = "500"'),
        "is above the 100.000000 that wallets.main signs",
    ),
    "wallet twice": (
        (
            "[vendors.shop]",
            MINIMAL[MINIMAL.index("[wallets.main]") : MINIMAL.index("[vendors.shop]")].replace("main", "two")
            + "[vendors.shop]",
        ),
        "wallets.two.address: wallets.main has it too",
    ),
    "kind unknown": (('"x402"', '"x401"'), 'vendors.shop.kind: must be one of "vpsagent", "x402"'),
    "name not allowed": (("[vendors.shop]", "[vendors.Shop]"), "vendors.Shop: this name is not allowed"),
    "drift above one": (
        ('ceiling = "25"', 'ceiling = "25"\nmax_drift = "5"'),
        "vendors.shop.max_drift: must not be above one",
    ),
    "port is a boolean": (("[keystore]", "[server]\nport = true\n[keystore]"), "server.port: must be a whole number"),
    "paid body above body": (
        ("[keystore]", "[server]\nmax_body_bytes = 1024\n[keystore]"),
        "server.max_paid_body_bytes: is above max_body_bytes",
    ),
    "everybody is a proxy": (
        ("[keystore]", '[server]\ntrusted_proxies = ["10.0.0.0/8", "::/0"]\n[keystore]'),
        "server.trusted_proxies: trusts everybody",
    ),
    "proxies in IPv6's clothes": (
        ("[keystore]", '[server]\ntrusted_proxies = ["::/64", "::ffff:10.0.0.0/104"]\n[keystore]'),
        "server.trusted_proxies: names IPv4 addresses written as IPv6",
    ),
    "proxy is no network": (
        ("[keystore]", '[server]\ntrusted_proxies = ["10.0.0.1/8"]\n[keystore]'),
        "server.trusted_proxies.0: must be a network of addresses",
    ),
    "socket path too long": (
        ("[keystore]", f'[server]\noperator_socket = "/{"d" * 120}"\n[keystore]'),
        "server.operator_socket: a socket's whole path",
    ),
    "passphrase in the file": (
        ('"env:PASSPHRASE"', '"hunter2hunter2"'),
        "keystore.passphrase: passphrase source: expected",
    ),
    "not TOML": (("[keystore]", "[keystore"), "config.toml: not TOML: "),
    "a table that is a value": (("[tokens.base-usdc]", "[tokens]\nbase-usdc = 1"), "tokens.base-usdc: must be a table"),
}


ACCOUNT = """
[vendors.lite]
kind = "litevps"
base_url = "https://lite.example"
ceiling = "1"

[vendors.lite.account]
warn_periods = 12
"""
TEMPO = """
[chains.tempo]
chain_id = 4217
rpc = ["https://three.example", "https://four.example"]

[tokens.tempo-pathusd]

[wallets.second]
address = "0x6666666666666666666666666666666666666666"
tokens = ["tempo-pathusd", "base-usdc"]
max_value = "100"

[vendors.drops]
kind = "dropmpp"
base_url = "https://drops.example"
wallet = "second"
tokens = ["tempo-pathusd"]
ceiling = "5"
"""
OTHER_TOKEN = """
[tokens.other]
chain_id = 4217
address = "0x20c0000000000000000000000000000000000042"
standard = "tip20"
symbol = "yUSD"
"""

KIND_FAULTS = {
    "an account with a wallet": (
        ACCOUNT.replace("ceiling", 'wallet = "main"\nceiling'),
        "vendors.lite.wallet: a vendor of kind litevps is paid from an account, never by a challenge; remove wallet",
    ),
    "an account with payees": (
        ACCOUNT.replace("ceiling", 'payees = ["0x2222222222222222222222222222222222222222"]\nceiling'),
        "vendors.lite.payees: a vendor of kind litevps is paid from an account",
    ),
    "an account with prices": (ACCOUNT + '[vendors.lite.prices]\nsmall = "1"\n', "vendors.lite.prices: a vendor"),
    "an account with realms": (ACCOUNT.replace("ceiling", 'realms = ["a"]\nceiling'), "vendors.lite.realms: a vendor"),
    "an account with drift": (ACCOUNT.replace("ceiling", 'max_drift = "1"\nceiling'), "vendors.lite.max_drift: a"),
    "an account with terms": (
        ACCOUNT.replace("ceiling", "terms_ttl_s = 7\nceiling"),
        "vendors.lite.terms_ttl_s: a vendor",
    ),
    "an account with terms for ever": (
        ACCOUNT.replace("ceiling", "terms_ttl_s = 0\nceiling"),
        "vendors.lite.terms_ttl_s: a",
    ),
    "an account with a delivery deadline": (
        ACCOUNT.replace("ceiling", "delivery_deadline_s = 60\nceiling"),
        "vendors.lite.delivery_deadline_s: a vendor of kind litevps is paid from an account",
    ),
    "an account with a dispute cap": (
        ACCOUNT.replace("ceiling", 'dispute_loss_cap = "3"\nceiling'),
        "vendors.lite.dispute_loss_cap: a vendor of kind litevps is paid from an account",
    ),
    "an account over http": (ACCOUNT.replace("https://lite", "http://lite"), "vendors.lite.base_url: plain http needs"),
    "an account at a private address": (
        ACCOUNT.replace("lite.example", "10.1.1.1"),
        "vendors.lite.base_url: an address that",
    ),
    "nothing stops there": (
        ACCOUNT.replace('"litevps"', '"vrtx"').replace("warn_periods = 12", 'when_unfunded = "suspend"'),
        "vendors.lite.account: at vrtx whatever exists is charged until it is destroyed",
    ),
    "months by the minute": (
        ACCOUNT.replace("warn_periods = 12", 'billing_rule = "monthly"'),
        "vendors.lite.account: litevps charges by the minute",
    ),
    "rule unknown": (
        ACCOUNT.replace("warn_periods = 12", 'billing_rule = "weekly"'),
        'vendors.lite.account.billing_rule: must be one of "started_units", "hourly_capped", "monthly"',
    ),
    "credentials in the file": (ACCOUNT + 'password = "hunter2"\n', "vendors.lite.account.password: unknown key"),
    "a wallet with an account": (
        TEMPO + "[vendors.drops.account]\n",
        "vendors.drops.account: a vendor of kind dropmpp is paid from a wallet, not from an account",
    ),
    "no wallet": (TEMPO.replace('wallet = "second"\n', ""), "vendors.drops.wallet: missing: a vendor of kind dropmpp"),
    "no tokens": (
        TEMPO.replace('tokens = ["tempo-pathusd"]\n', ""),
        "vendors.drops.tokens: missing: a vendor of kind dropmpp is paid from a wallet",
    ),
    "a tip20 token by x402": (
        TEMPO.replace('"dropmpp"', '"x402"'),
        "vendors.drops.tokens.0: a tip20 token is paid by MPP alone, and kind x402 speaks x402",
    ),
    "dropmpp on Base": (
        TEMPO.replace('tokens = ["tempo-pathusd"]', 'tokens = ["base-usdc"]'),
        "vendors.drops.tokens.0: kind dropmpp is paid on Tempo",
    ),
    "push without MPP": (
        TEMPO.replace('"dropmpp"', '"x402"').replace("ceiling", "allow_push = true\nceiling"),
        "vendors.drops.allow_push: is about MPP",
    ),
    "another vendor's realm": (
        TEMPO.replace("ceiling", 'realms = ["SHOP.example"]\nceiling'),
        "vendors.drops.realms.0: is the host of vendors.shop",
    ),
    "fee above the wallet's": (
        TEMPO.replace("[tokens.", "max_fee_gwei = 400\n[tokens."),
        "wallets.second.max_fee: is below the 0.400000 that gas and max_fee_gwei of chains.tempo come to",
    ),
    "tip above the fee": (
        TEMPO.replace("[tokens.", "priority_fee_gwei = 41\n[tokens."),
        "chains.tempo.priority_fee_gwei: is above max_fee_gwei",
    ),
    "window below a payment's life": (
        TEMPO.replace("[vendors.", "max_window_s = 20\n[vendors."),
        "wallets.second.max_window_s: is below the 25 s",
    ),
    "a tip20 token on Base": (
        (TEMPO + OTHER_TOKEN).replace("chain_id = 4217\naddress", "chain_id = 8453\naddress"),
        "tokens.other: is a tip20 token, and chain 8453 (base) has none",
    ),
    "a tip20 token with a domain": (
        TEMPO + OTHER_TOKEN + 'domain_name = "Y"\n',
        "tokens.other.domain_name: a tip20 token has no signing domain; remove domain_name",
    ),
    "a tip20 token elsewhere": (
        (TEMPO + OTHER_TOKEN).replace("0x20c0", "0x20c1"),
        "tokens.other.address: is no address of a tip20 token; they begin with 0x20c000000000000000000000",
    ),
    "a token without its domain": (
        (TEMPO + OTHER_TOKEN).replace("tip20", "eip3009"),
        'tokens.other: is an EIP-3009 token, for standard is not "tip20"; write domain_name, domain_version',
    ),
    "one origin, two ways": (
        ACCOUNT + ACCOUNT.replace("vendors.lite", "vendors.more").replace("ceiling", "max_connections = 2\nceiling"),
        "vendors.more.base_url: vendors.lite has this base_url with other allow_…",
    ),
}


@pytest.mark.parametrize("name", KIND_FAULTS)
def test_what_means_nothing_for_a_kind_is_refused(name: str) -> None:
    """A key of the other side, a token that no rail of the kind moves, a fee that the guard would refuse."""
    more, expected = KIND_FAULTS[name]
    found = problems(MINIMAL + more)
    assert any(expected in line for line in found), found
    assert "hunter2" not in "".join(found)


def test_the_blocks_that_the_faults_start_from_are_good() -> None:
    """Each fault above is the only one of its file."""
    config = parse(MINIMAL + ACCOUNT + TEMPO + OTHER_TOKEN)
    assert (set(config.account_vendors()), set(config.paid_vendors())) == ({"lite"}, {"shop", "drops"})
    token = config.token("other")
    assert (token.standard, token.symbol, token.name, token.domain_separator) == ("tip20", "yUSD", "", b"")


@pytest.mark.parametrize(
    ("kind", "written", "rule"),
    [
        ("cryptovps", "", Rule.STARTED_UNITS),
        ("litevps", "", Rule.STARTED_UNITS),
        ("vrtx", "", None),
        ("vrtx", 'billing_rule = "monthly"', Rule.MONTHLY),
        ("cryptovps", 'billing_rule = "hourly_capped"', Rule.CAPPED),
    ],
)
def test_only_vrtx_needs_its_billing_rule_from_the_operator(kind: str, written: str, rule: Rule | None) -> None:
    """What a vendor's document states is the default; what it does not is None, and keeps creates off."""
    text = ACCOUNT.replace("litevps", kind).replace("warn_periods = 12", written)
    assert parse(MINIMAL + text).account_terms("lite").rule is rule
    assert parse(MINIMAL + ACCOUNT.partition("[vendors.lite.account]")[0]).account_terms("lite").warn_periods == 24


def test_an_accounts_terms_are_what_its_table_says() -> None:
    """Amounts as base units, times as seconds, the way out when the money is gone."""
    written = 'warn_periods = 2\nwhen_unfunded = "suspend"\ngrace_s = 60\nlow_balance = "3"\nperiod_s = 600'
    config = parse(MINIMAL + ACCOUNT.replace("warn_periods = 12", written))
    terms = config.account_terms("lite")
    assert (terms.period_s, terms.warn_periods, terms.suspend_first, terms.grace_s) == (600, 2, True, 60)
    assert (terms.ceiling_base, terms.low_balance_base) == (1_000_000, 3_000_000)
    assert (config.account_poll_s("lite"), config.account_wait_s("lite")) == (1.0, 30.0)
    with pytest.raises(ValueError, match="has no wallet"):
        config.vendor_terms("lite")


def test_a_mpp_vendors_rails_realms_and_fees_reach_the_modules() -> None:
    """The wallet may prove itself to the vendor's own names alone, and old proofs only where the operator allows them."""
    more = TEMPO.replace("ceiling", 'realms = ["API.drops.example"]\nlegacy_proofs = true\nceiling')
    config = parse(MINIMAL + more.replace("[tokens.", "gas = 700000\n[tokens."))
    terms = config.vendor_terms("drops")
    own = {"drops.example", "drops.example:443", "api.drops.example"}
    assert (terms.rails, terms.realms) == (("mpp",), frozenset(own))
    assert (terms.allow_push, terms.legacy_proofs) == (False, True)
    policy = config.guard_policy().wallets
    second, main = policy[b"\x66" * 20], policy[b"\x11" * 20]  # type: ignore[index]
    assert second.realms == second.legacy_realms == {(4217, realm) for realm in own}
    assert (main.realms, main.legacy_realms) == (frozenset(), frozenset())  # x402 alone asks for no proof
    assert second.max_fee_base == 200_000
    fees = config.tempo_fees()[4217]
    assert (fees.gas, fees.max_fee_per_gas, fees.max_priority_fee_per_gas) == (700_000, 40 * 10**9, 10**9)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_key(name: str) -> None:
    """Each contradiction stops the start, and the message leads to the key."""
    (old, new), expected = FAULTS[name]
    assert old in MINIMAL
    found = problems(MINIMAL.replace(old, new))
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("secret", ["secret-1", "secret-2", "hunter2"])
def test_no_value_is_repeated_in_a_message_or_a_repr(secret: str) -> None:
    """Provider keys and passphrases written into the file do not come back out of it."""
    faulty = MINIMAL.replace('"env:PASSPHRASE"', '"hunter2"').replace("chain_id = 8453", "chain_id = -1")
    faulty = faulty.replace("https://two", "ftp://two")
    assert secret not in "\n".join(problems(faulty))
    assert secret not in repr(parse())
    assert REDACTED in repr(parse())


def test_an_unset_variable_stops_the_start_and_a_set_one_is_used() -> None:
    """${NAME} is the environment's value, $$ is a plain dollar."""
    text = MINIMAL.replace("https://two.example/secret-2", "https://${HOST}/a$${B}")
    assert problems(text) == (
        "config.toml:6: chains.base.rpc.1: the environment variable HOST is not set; set HOST or write the value here",
    )
    assert parse(text, HOST="two.example").chains["base"].rpc[1].reveal() == "https://two.example/a${B}"


def test_relative_paths_start_at_data_dir_and_that_at_the_file(tmp_path: Path) -> None:
    """A configuration means the same whatever the working directory is."""
    file = tmp_path / "gateway.toml"
    file.write_text('data_dir = "state"\n' + MINIMAL.replace("env:PASSPHRASE", "file:pass"))
    config = load_config(file, {})
    assert config.data_dir == tmp_path / "state"
    assert config.store.path == tmp_path / "state/gateway.db"
    assert config.server.operator_socket == tmp_path / "state/operator.sock"
    assert config.keystore.passphrase.name == str(tmp_path / "state/pass")


@pytest.mark.parametrize("content", [b"\xff", None, b"#" * (1024 * 1024 + 1)])
def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    """Not there, not UTF-8, or far too large."""
    file = tmp_path / "gateway.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        load_config(file, {})


def test_only_a_file_that_is_not_there_is_to_be_written(tmp_path: Path) -> None:
    """Who cannot read what is there must not be told to write it anew."""
    with pytest.raises(ConfigError, match="gateway init"):
        load_config(tmp_path / "gateway.toml", {})
    with pytest.raises(ConfigError, match="read it") as unreadable:
        load_config(tmp_path, {})
    assert "gateway init" not in str(unreadable.value)


def test_the_guard_signs_only_for_the_vendors_of_each_wallet() -> None:
    """Payees are the configuration's and those approved for a vendor of this wallet; ceilings are the lower of two."""
    text = MINIMAL.replace("[tokens.base-usdc]", '[tokens.base-usdc]\nmax_value = "40"')
    text += '[wallets.spare]\naddress = "0x4444444444444444444444444444444444444444"\ntokens = ["base-usdc"]\nmax_value = "7"\n'
    approved = [("shop", 8453, b"\x55" * 20), ("gone", 8453, b"\x66" * 20)]
    policy = parse(text).guard_policy(approved, also_own=[b"\x77" * 20])  # type: ignore[list-item]
    main, spare = policy.wallets[b"\x11" * 20], policy.wallets[b"\x44" * 20]  # type: ignore[index]
    assert main.payees == {b"\x22" * 20, b"\x55" * 20}
    assert main.max_value_base == {BASE_USDC.key: 40_000_000}
    assert (spare.payees, spare.max_value_base) == (frozenset(), {BASE_USDC.key: 7_000_000})
    assert policy.own == {b"\x11" * 20, b"\x44" * 20, b"\x77" * 20}


def test_a_vendors_terms_carry_rates_and_limits() -> None:
    """What flows take of a vendor is its own block, its tokens' rates and the limits."""
    text = MINIMAL.replace("[tokens.base-usdc]", '[tokens.base-usdc]\nrate = "1.02"').replace(
        'ceiling = "25"', 'ceiling = "25"\nmax_drift = "0.05"\ndispute_loss_cap = "3"'
    )
    config = parse(text)
    terms = config.vendor_terms("shop")
    assert (terms.wallet, terms.tokens, terms.payees) == (b"\x11" * 20, (BASE_USDC,), frozenset({b"\x22" * 20}))
    assert terms.rate_ppm == {BASE_USDC.asset_id: 1_020_000}
    assert terms.max_drift_ppm == 50_000
    assert terms.limits.exposure_base == 500_000_000
    assert config.book_rules().dispute_cap_base == {"shop": 3_000_000}


@pytest.mark.parametrize(("written", "cap_base"), [('"5000.5"', 5_000_500_000), ('"0"', 0), (None, None)])
def test_a_tokens_inventory_cap_is_a_rule_of_the_book(written: str | None, cap_base: int | None) -> None:
    """In units of the token; without one there is none, and a token that nobody may name has none."""
    line = "" if written is None else f"\ninventory_cap = {written}"
    config = parse(
        MINIMAL.replace("[tokens.base-usdc]", f"[tokens.base-usdc]{line}")
        + '[tokens.tempo-pathusd]\nenabled = false\ninventory_cap = "7"\n'
    )
    expected = {} if cap_base is None else {BASE_USDC.key: InventoryCap(BASE_USDC.key, BASE_USDC.asset_id, cap_base)}
    assert config.book_rules().inventory_caps == config.inventory_caps() == expected


def test_a_token_may_be_described() -> None:
    """A token that is not built in comes from the configuration, domain and all."""
    described = (
        '[tokens.other]\nchain_id = 8453\naddress = "0x4200000000000000000000000000000000000042"\n'
        'symbol = "XUSD"\ndomain_name = "Other"\ndomain_version = "7"\n'
    )
    token = parse(MINIMAL + described).token("other")
    assert (token.chain_id, token.symbol, token.name, token.version, token.decimals) == (8453, "XUSD", "Other", "7", 6)


PAID = """
[tills.main]
address = "0x6666666666666666666666666666666666666666"
tokens = ["base-usdc"]

[relayers.one]
address = "0x7777777777777777777777777777777777777777"
chains = ["base"]

[facilitator]
tokens = ["base-usdc"]

[topups]
packs = { one = "1" }
"""


def test_being_paid_is_off_unless_it_is_described() -> None:
    """Without the tables there is no facilitator and nothing to buy; with them their addresses are our own."""
    assert (parse().facilitator, parse().topups) == (None, None)
    config = parse(MINIMAL + PAID)
    assert config.topups is not None
    assert config.topups.packs == {"one": 1_000_000}
    assert {bytes([n]) * 20 for n in (0x11, 0x66, 0x77)} == config.own_addresses()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            ('"0x6666666666666666666666666666666666666666"', '"0x1111111111111111111111111111111111111111"'),
            "wallets.main has it",
        ),
        (
            ('"0x7777777777777777777777777777777777777777"', '"0x6666666666666666666666666666666666666666"'),
            "tills.main has it",
        ),
        (
            ('"0x6666666666666666666666666666666666666666"', '"0x2222222222222222222222222222222222222222"'),
            "payee of vendors.shop",
        ),
        (('chains = ["base"]', 'chains = ["bass"]'), "relayers.one.chains.0: there is no [chains]"),
        (('[facilitator]\ntokens = ["base-usdc"]', ""), "nobody collects it"),
        (('packs = { one = "1" }', 'packs = { one = "5000" }'), "outside of min and max"),
        (('packs = { one = "1" }', 'facilitator_url = "http://plain.example/x"'), "facilitator_url"),
        (('packs = { one = "1" }', 'lend_per_account = "1"'), "above lend_cap"),
    ],
)
def test_contradictions_about_being_paid_are_found_at_the_start(change: tuple[str, str], found: str) -> None:
    """One address has one job, and what is offered can be collected."""
    assert change[0] in PAID
    listed = problems(MINIMAL + PAID.replace(*change))
    assert any(found in problem for problem in listed), listed


def test_a_facilitator_of_others_has_an_origin_and_a_path() -> None:
    """Requests go to the URL's origin, below its path."""
    text = MINIMAL + PAID.replace("[topups]", '[topups]\nfacilitator_url = "https://pay.example/x402/"')
    topups = parse(text).topups
    assert topups is not None
    assert (str(topups.facilitator_origin), topups.facilitator_path) == ("https://pay.example", "/x402")
    assert topups.facilitator_egress in parse(text).egress_rules()


@pytest.mark.parametrize("seconds", [1, 5, 300])
def test_a_facilitator_may_be_given_any_time_that_is_documented(seconds: int) -> None:
    """However little it is, a part of it is for connecting."""
    more = f'facilitator_url = "https://pay.example"\nfacilitator_timeout_s = {seconds}'
    topups = parse(MINIMAL + PAID.replace("[topups]", f"[topups]\n{more}")).topups
    assert topups is not None
    assert topups.facilitator_egress is not None
    assert topups.facilitator_egress.timeouts.total_s == seconds
