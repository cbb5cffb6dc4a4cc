"""The development token is Circle's, as far as a payment can tell: every fact of the reference, asserted on chain."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from token_payer import Payer, sign_message

from sandbox.chain import LocalBase, Reverted, RpcError
from sandbox.devtoken import BASE_USDC, Contract, encode, signed_call

USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
CANCELED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
APPROVAL = "0x8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925"
OVERLOADS = ["vrs", "bytes"]
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
INVALID = "FiatTokenV2: invalid signature"
USED_OR_CANCELED = "FiatTokenV2: authorization is used or canceled"
PAUSED = "Pausable: paused"
BLACKLISTED = "Blacklistable: account is blacklisted"
FUNDS_SHORT = "ERC20: transfer amount exceeds balance"
WALLET = "0x00000000000000000000000000000000000A11E7"
TOKEN = Contract.load("DevUSDC")
ZERO: dict[str, object] = {"address": bytes(20), "bytes32": bytes(32), "uint256": 0, "uint8": 0}


@pytest.fixture
def payer(automine_base: LocalBase) -> Payer:
    """A funded account on a fresh automining chain."""
    return Payer(automine_base)


def word(address: str) -> str:
    """Return an address as a log's topic."""
    return "0x" + address[2:].lower().rjust(64, "0")


def text(answer: bytes) -> str:
    """Return the string that a view answered."""
    return answer[64 : 64 + int.from_bytes(answer[32:64], "big")].decode()


def topics(receipt: dict[str, Any]) -> list[list[str]]:
    """Return the topics of each log, after checking that the token emitted it."""
    assert {log["address"] for log in receipt["logs"]} == {BASE_USDC.lower()}
    return [log["topics"] for log in receipt["logs"]]


def answered_or_explained(chain: LocalBase, request: dict[str, str]) -> bool:
    """Whether a call returns, or reverts with a text."""
    try:
        return bool(chain.call(request["to"], request["data"]))
    except RpcError as error:
        return error.reason is not None


def refused(reason: str, action: Callable[..., object], *arguments: object, **options: object) -> None:
    """Assert that the transaction is mined, fails, and gives exactly this reason."""
    with pytest.raises(Reverted) as caught:
        action(*arguments, **options)
    assert caught.value.reason == reason


def test_the_domain_is_that_of_usdc_on_base(automine_base: LocalBase) -> None:
    """Name, version, decimals and the EIP-712 domain equal the real token's, so signatures are interchangeable."""
    assert text(automine_base.token_call("name()")) == "USD Coin"
    assert text(automine_base.token_call("version()")) == "2"
    assert text(automine_base.token_call("symbol()")) == "USDC"
    assert automine_base.token_call("decimals()")[-1] == 6
    assert int(automine_base.rpc("eth_chainId"), 16) == 8453
    separator = "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"
    assert automine_base.token_call("DOMAIN_SEPARATOR()").hex() == separator


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TRANSFER_WITH_AUTHORIZATION", "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"),
        ("RECEIVE_WITH_AUTHORIZATION", "d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8"),
        ("CANCEL_AUTHORIZATION", "158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429"),
        ("PERMIT", "6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9"),
    ],
)
def test_the_type_hashes(shared_automine_base: LocalBase, name: str, expected: str) -> None:
    """The contract hashes the four messages by the published type hashes."""
    assert shared_automine_base.token_call(f"{name}_TYPEHASH()").hex() == expected


@pytest.mark.parametrize(
    ("signature", "selector"),
    [
        (
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
            "e3ee160e",
        ),
        ("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", "cf092995"),
        ("receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)", "ef55bec6"),
        ("receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", "88b7ab63"),
        ("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)", "5a049a70"),
        ("cancelAuthorization(address,bytes32,bytes)", "b7b72899"),
        ("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", "d505accf"),
        ("permit(address,address,uint256,uint256,bytes)", "9fd5a6cf"),
        ("authorizationState(address,bytes32)", "e94a0102"),
        ("name()", "06fdde03"),
        ("version()", "54fd4d50"),
        ("DOMAIN_SEPARATOR()", "3644e515"),
        ("balanceOf(address)", "70a08231"),
        ("paused()", "5c975abb"),
        ("isBlacklisted(address)", "fe575a87"),
    ],
)
def test_the_selectors(shared_automine_base: LocalBase, signature: str, selector: str) -> None:
    """Each function answers to the published selector, in the artifact and in the code on chain."""
    assert TOKEN.selectors[signature] == selector
    # Zero arguments reach the function: it answers, or says why not. A selector that is not there has no word for it.
    kinds = signature[signature.index("(") + 1 : -1].split(",") if not signature.endswith("()") else []
    arguments = encode(kinds, tuple(b"" if kind == "bytes" else ZERO[kind] for kind in kinds))
    request = {"to": BASE_USDC, "data": "0x" + selector + arguments.hex()}
    assert answered_or_explained(shared_automine_base, request)


def test_an_unknown_selector_reverts_without_a_word(shared_automine_base: LocalBase) -> None:
    """There is no fallback that would swallow a call."""
    request = {"to": BASE_USDC, "data": "0xdeadbeef" + "00" * 32}
    with pytest.raises(RpcError, match="revert"):
        shared_automine_base.call(request["to"], request["data"])
    assert not answered_or_explained(shared_automine_base, request)


@pytest.mark.parametrize("overload", OVERLOADS)
def test_an_authorization_moves_the_money_once(payer: Payer, overload: str) -> None:
    """The relayer's transaction moves the payer's tokens, marks the nonce, emits Used then Transfer; once."""
    authorization, signature = payer.transfer()
    receipt = payer.chain.transfer_with_authorization(authorization, signature, overload=overload)
    assert payer.chain.balance_of(payer.payee) == 9_990_000
    assert payer.chain.balance_of(payer.address) == 10_000
    assert payer.chain.authorization_state(payer.address, authorization.nonce)
    assert topics(receipt) == [
        [USED, word(payer.address), authorization.nonce],
        [TRANSFER, word(payer.address), word(payer.payee)],
    ]
    assert int(receipt["logs"][1]["data"], 16) == 9_990_000
    assert receipt["from"] == payer.chain.relayer
    assert 60_000 < int(receipt["gasUsed"], 16) < 100_000
    for again in OVERLOADS:
        refused(USED_OR_CANCELED, payer.chain.transfer_with_authorization, authorization, signature, overload=again)
    assert payer.chain.balance_of(payer.payee) == 9_990_000


def test_a_nonce_belongs_to_its_authorizer(payer: Payer) -> None:
    """Another payer may use the same nonce, and other amounts under a used nonce are refused."""
    authorization, signature = payer.transfer()
    payer.chain.transfer_with_authorization(authorization, signature)
    refused(USED_OR_CANCELED, payer.chain.transfer_with_authorization, *payer.transfer(value=1))
    other, key = payer.chain.dev_account(2)
    payer.chain.mint(other, 5)
    theirs, _ = payer.transfer(sender=other, value=5)
    payer.chain.transfer_with_authorization(theirs, sign_message("TransferWithAuthorization", key, *theirs.words()))
    assert payer.chain.balance_of(other) == 0


@pytest.mark.parametrize(
    ("offset_s", "reason"),
    [
        (0, "FiatTokenV2: authorization is not yet valid"),
        (1, None),
        (99, None),
        (100, "FiatTokenV2: authorization is expired"),
    ],
)
@pytest.mark.parametrize("overload", OVERLOADS)
def test_time_bounds_are_strict_both_ways(payer: Payer, overload: str, offset_s: int, reason: str | None) -> None:
    """At validAfter it is too early and at validBefore too late; the seconds between are good."""
    valid_after = payer.chain.head()["timestamp"] + 1000
    signed = payer.transfer(valid_after=valid_after, valid_before=valid_after + 100)
    payer.chain.set_next_block_time(valid_after + offset_s)
    if reason is None:
        payer.chain.transfer_with_authorization(*signed, overload=overload)
    else:
        refused(reason, payer.chain.transfer_with_authorization, *signed, overload=overload)
    assert payer.chain.head()["timestamp"] == valid_after + offset_s
    assert payer.chain.authorization_state(payer.address, signed[0].nonce) == (reason is None)


@pytest.mark.parametrize("overload", OVERLOADS)
def test_cancelled_is_not_used(payer: Payer, overload: str) -> None:
    """A cancellation sets the same state as a use but emits Canceled, moves nothing, and bars every later use."""
    receipt = payer.chain.cancel_authorization(*payer.cancellation(), overload=overload)
    assert topics(receipt) == [[CANCELED, word(payer.address), payer.authorization.nonce]]
    assert payer.chain.authorization_state(payer.address, payer.authorization.nonce)
    refused(USED_OR_CANCELED, payer.chain.transfer_with_authorization, *payer.transfer())
    refused(USED_OR_CANCELED, payer.chain.cancel_authorization, *payer.cancellation())
    assert payer.chain.balance_of(payer.payee) == 0


def test_a_cancellation_after_use_loses(payer: Payer) -> None:
    """Whichever comes first wins: a used authorization cannot be cancelled."""
    payer.chain.transfer_with_authorization(*payer.transfer())
    refused(USED_OR_CANCELED, payer.chain.cancel_authorization, *payer.cancellation())


@pytest.mark.parametrize("overload", OVERLOADS)
def test_only_the_authorizer_can_cancel(payer: Payer, overload: str) -> None:
    """A cancellation that another key signed changes nothing."""
    address, nonce, _ = payer.cancellation()
    foreign = sign_message("CancelAuthorization", payer.chain.dev_account(2)[1], address, nonce)
    refused(INVALID, payer.chain.cancel_authorization, address, nonce, foreign, overload=overload)
    assert not payer.chain.authorization_state(address, nonce)


def test_an_authorization_outlives_neither_its_funds_nor_its_fields(payer: Payer) -> None:
    """More than the balance, a changed field and a foreign signer are each refused with the token's own text."""
    refused(FUNDS_SHORT, payer.chain.transfer_with_authorization, *payer.transfer(value=10_000_001))
    _, signature = payer.transfer()
    dearer, _ = payer.transfer(value=9_990_001)
    refused(INVALID, payer.chain.transfer_with_authorization, dearer, signature)
    assert not payer.chain.authorization_state(payer.address, payer.authorization.nonce)


def test_nothing_goes_to_the_zero_address_or_to_the_token(payer: Payer) -> None:
    """Circle's two guards against lost money."""
    nobody = "0x" + "00" * 20
    refused("ERC20: transfer to the zero address", payer.chain.transfer_with_authorization, *payer.transfer(to=nobody))
    refused(BLACKLISTED, payer.chain.transfer_with_authorization, *payer.transfer(to=BASE_USDC))


@pytest.mark.parametrize("overload", OVERLOADS)
def test_pause_stops_transfers_and_cancellations(payer: Payer, overload: str) -> None:
    """While paused neither a use nor a cancellation goes through; afterwards the authorization is still good."""
    payer.chain.set_paused(True)
    assert payer.chain.token_call("paused()")[-1] == 1
    refused(PAUSED, payer.chain.transfer_with_authorization, *payer.transfer(), overload=overload)
    refused(PAUSED, payer.chain.cancel_authorization, *payer.cancellation(), overload=overload)
    payer.chain.set_paused(False)
    payer.chain.transfer_with_authorization(*payer.transfer(), overload=overload)


@pytest.mark.parametrize("overload", OVERLOADS)
@pytest.mark.parametrize("side", ["address", "payee"])
def test_the_blacklist_bars_both_sides_but_not_a_cancellation(payer: Payer, side: str, overload: str) -> None:
    """A blacklisted payer or payee stops the transfer; a blacklisted payer can still cancel, as at Circle."""
    account = getattr(payer, side)
    payer.chain.set_blacklisted(account)
    assert payer.chain.token_call("isBlacklisted(address)", account)[-1] == 1
    refused(BLACKLISTED, payer.chain.transfer_with_authorization, *payer.transfer(), overload=overload)
    payer.chain.cancel_authorization(*payer.cancellation(), overload=overload)
    payer.chain.set_blacklisted(account, False)
    payer.chain.transfer_with_authorization(*payer.transfer(nonce="0x" + "60" * 32), overload=overload)


@pytest.mark.parametrize("overload", OVERLOADS)
def test_the_higher_s_is_refused(payer: Payer, overload: str) -> None:
    """The mirrored signature recovers to the same key and is refused all the same, so a signature has one form."""
    authorization, signature = payer.transfer()
    high_s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    mirrored = signature[:32] + high_s.to_bytes(32, "big") + bytes([55 - signature[64]])
    reason = "ECRecover: invalid signature 's' value"
    refused(reason, payer.chain.transfer_with_authorization, authorization, mirrored, overload=overload)


@pytest.mark.parametrize("overload", OVERLOADS)
@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_v_is_27_or_28(payer: Payer, overload: str, v: int) -> None:
    """The parity forms 0 and 1 that some SDKs send are refused by the chain."""
    authorization, signature = payer.transfer()
    reason = "ECRecover: invalid signature 'v' value"
    odd = signature[:64] + bytes([v])
    refused(reason, payer.chain.transfer_with_authorization, authorization, odd, overload=overload)


def test_signatures_that_are_none(payer: Payer) -> None:
    """A length other than 65 and an r that is no point each have their text."""
    authorization, signature = payer.transfer()
    for wrong in (b"", signature[:64], signature + b"\0"):
        reason = "ECRecover: invalid signature length"
        refused(reason, payer.chain.transfer_with_authorization, authorization, wrong, overload="bytes")
    no_point = bytes(32) + signature[32:]
    refused("ECRecover: invalid signature", payer.chain.transfer_with_authorization, authorization, no_point)


@pytest.mark.parametrize("overload", OVERLOADS)
def test_a_contract_wallet_is_asked_by_erc_1271(payer: Payer, overload: str) -> None:
    """For a payer with code its own answer counts, through both overloads, for a transfer and for a cancellation."""
    owner, key = payer.chain.dev_account(2)
    payer.chain.place_contract_wallet(WALLET, owner)
    payer.chain.mint(WALLET, 20_000_000)
    authorization, by_other = payer.transfer(sender=WALLET)
    refused(INVALID, payer.chain.transfer_with_authorization, authorization, by_other, overload=overload)
    by_owner = sign_message("TransferWithAuthorization", key, *authorization.words())
    payer.chain.transfer_with_authorization(authorization, by_owner, overload=overload)
    assert payer.chain.balance_of(payer.payee) == 9_990_000
    nonce = "0x" + "77" * 32
    cancellation = sign_message("CancelAuthorization", key, WALLET, nonce)
    payer.chain.cancel_authorization(WALLET, nonce, cancellation, overload=overload)
    assert payer.chain.authorization_state(WALLET, nonce)


def test_a_contract_wallet_may_want_more_than_65_bytes(payer: Payer) -> None:
    """A signature of another length reaches the wallet through the bytes overload."""
    (owner, key), (cosigner, second_key) = payer.chain.dev_account(2), payer.chain.dev_account(3)
    payer.chain.place_contract_wallet(WALLET, owner, cosigner)
    payer.chain.mint(WALLET, 20_000_000)
    authorization, _ = payer.transfer(sender=WALLET)
    first, second = (sign_message("TransferWithAuthorization", k, *authorization.words()) for k in (key, second_key))
    for wrong in (first, first + first, second + first):
        refused(INVALID, payer.chain.transfer_with_authorization, authorization, wrong, overload="bytes")
    payer.chain.transfer_with_authorization(authorization, first + second)
    assert payer.chain.balance_of(payer.payee) == 9_990_000


@pytest.mark.parametrize("overload", OVERLOADS)
def test_an_account_with_delegated_code_no_longer_signs_by_key(payer: Payer, overload: str) -> None:
    """Once an account has code (EIP-7702), its own ECDSA signature is refused: there is no fallback to recovery."""
    wallet = "0x00000000000000000000000000000000000C0DE5"
    payer.chain.place_code(wallet, Contract.load("DevContractWallet"))
    payer.chain.rpc("anvil_setCode", payer.address, "0xef0100" + wallet[2:])
    refused(INVALID, payer.chain.transfer_with_authorization, *payer.transfer(), overload=overload)
    payer.chain.rpc("anvil_setCode", payer.address, "0x")
    payer.chain.transfer_with_authorization(*payer.transfer(), overload=overload)


@pytest.mark.parametrize("overload", OVERLOADS)
def test_receive_with_authorization_is_for_the_payee_alone(payer: Payer, overload: str) -> None:
    """Only the payee may submit it, and a transfer's signature does not serve for it."""
    authorization, transfer_signature = payer.transfer()
    signature = sign_message("ReceiveWithAuthorization", payer.key, *authorization.words())

    def receive(sender: str, signed: bytes) -> dict[str, Any]:
        data = signed_call(TOKEN, "receiveWithAuthorization", authorization.words(), signed, overload)
        return payer.chain.receipt(payer.chain.send(BASE_USDC, data, sender=sender))

    refused("FiatTokenV2: caller must be the payee", receive, payer.chain.relayer, signature)
    refused(INVALID, receive, payer.payee, transfer_signature)
    assert topics(receive(payer.payee, signature))[0] == [USED, word(payer.address), authorization.nonce]
    assert payer.chain.balance_of(payer.payee) == 9_990_000


@pytest.mark.parametrize("overload", OVERLOADS)
def test_permit(payer: Payer, overload: str) -> None:
    """A permit counts in the very second of its deadline, only once, and lets the spender take what it says."""
    spender, _ = payer.chain.dev_account(2)
    deadline = payer.chain.head()["timestamp"] + 1000

    def permit(nonce: int, value: int = 700) -> dict[str, Any]:
        signature = sign_message("Permit", payer.key, payer.address, spender, 700, nonce, deadline)
        words = payer.address, spender, value, deadline
        data = (
            TOKEN.call("permit(address,address,uint256,uint256,bytes)", *words, signature)
            if overload == "bytes"
            else TOKEN.call(
                "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
                *(*words, signature[64], signature[:32], signature[32:64]),
            )
        )
        return payer.chain.receipt(payer.chain.send(BASE_USDC, data))

    refused("EIP2612: invalid signature", permit, 0, value=701)
    payer.chain.set_next_block_time(deadline)
    assert topics(permit(0)) == [[APPROVAL, word(payer.address), word(spender)]]
    assert int.from_bytes(payer.chain.token_call("nonces(address)", payer.address), "big") == 1
    payer.chain.set_next_block_time(deadline)
    refused("EIP2612: invalid signature", permit, 0)
    payer.chain.set_next_block_time(deadline + 1)
    refused("FiatTokenV2: permit is expired", permit, 1)
    take = TOKEN.call("transferFrom(address,address,uint256)", payer.address, spender, 700)
    payer.chain.receipt(payer.chain.send(BASE_USDC, take, sender=spender))
    assert payer.chain.balance_of(spender) == 700
    again = payer.chain.send(BASE_USDC, take, sender=spender)
    refused("ERC20: transfer amount exceeds allowance", payer.chain.receipt, again)


def test_a_plain_transfer_emits_no_authorization(payer: Payer) -> None:
    """ERC-20's own transfer moves money with a Transfer log alone, and obeys balance, pause and blacklist."""
    spend = TOKEN.call("transfer(address,uint256)", payer.payee, 1)

    def transfer(data: str = spend) -> dict[str, Any]:
        return payer.chain.receipt(payer.chain.send(BASE_USDC, data, sender=payer.address))

    assert topics(transfer()) == [[TRANSFER, word(payer.address), word(payer.payee)]]
    refused(FUNDS_SHORT, transfer, TOKEN.call("transfer(address,uint256)", payer.payee, 10_000_000))
    payer.chain.set_blacklisted(payer.payee)
    refused(BLACKLISTED, transfer)
    payer.chain.set_paused(True)
    refused(PAUSED, transfer)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (TOKEN.call("initialize(address)", WALLET), "FiatToken: contract is already initialized"),
        (TOKEN.call("mint(address,uint256)", WALLET, 1), "FiatToken: caller is not a minter"),
        (TOKEN.call("configureMinter(address,uint256)", WALLET, 1), "FiatToken: caller is not the masterMinter"),
        (TOKEN.call("pause()"), "Pausable: caller is not the pauser"),
        (TOKEN.call("blacklist(address)", WALLET), "Blacklistable: caller is not the blacklister"),
        (TOKEN.call("updatePauser(address)", WALLET), "Ownable: caller is not the owner"),
    ],
)
def test_roles_are_real(automine_base: LocalBase, call: str, reason: str) -> None:
    """Nobody but the owner creates tokens, pauses, blacklists or hands out roles."""
    stranger, _ = automine_base.dev_account(0)
    refused(reason, automine_base.receipt, automine_base.send(BASE_USDC, call, sender=stranger))


def test_a_minter_keeps_to_its_allowance(automine_base: LocalBase) -> None:
    """Supply grows by what is minted, within what the master minter allowed."""
    minter, _ = automine_base.dev_account(0)
    automine_base.act(BASE_USDC, TOKEN.call("configureMinter(address,uint256)", minter, 5))
    mint = TOKEN.call("mint(address,uint256)", minter, 3)
    automine_base.receipt(automine_base.send(BASE_USDC, mint, sender=minter))
    over = automine_base.send(BASE_USDC, mint, sender=minter)
    refused("FiatToken: mint amount exceeds minterAllowance", automine_base.receipt, over)
    automine_base.receipt(automine_base.send(BASE_USDC, TOKEN.call("burn(uint256)", 1), sender=minter))
    assert int.from_bytes(automine_base.token_call("totalSupply()"), "big") == 2
    assert automine_base.balance_of(minter) == 2


def test_topics_are_those_of_the_published_events(automine_base: LocalBase) -> None:
    """The constants above are the hashes of the event signatures, and dev accounts are what their keys say."""
    for topic, event in (
        (USED, "AuthorizationUsed(address,bytes32)"),
        (CANCELED, "AuthorizationCanceled(address,bytes32)"),
        (TRANSFER, "Transfer(address,address,uint256)"),
        (APPROVAL, "Approval(address,address,uint256)"),
    ):
        assert topic == "0x" + keccak(text=event).hex()
    address, key = automine_base.dev_account(0)
    assert Account.from_key(key).address.lower() == address.lower()
