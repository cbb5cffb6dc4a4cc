// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title Many EIP-3009 authorizations in one transaction
/// @notice Has no owner, no storage, no balance and no rights: what it can do is what anybody can do with a signed
/// authorization, which is to present it to its token. The only function that it ever calls on a foreign contract is
/// transferWithAuthorization(…, v, r, s), without ether, so nobody can use it as a proxy for anything else.
/// Tokens or ether sent here are lost: there is nothing that could send them on.
///
/// An item is five words:
///
///     from (20 bytes) value (12)
///     to (20) validAfter (5) validBefore (6) v (1)
///     nonce
///     r
///     s
///
/// The answer holds one outcome an item, in their order, without separators:
///
///     01                        the token took it
///     00 length (1 byte) data   the token reverted; the first bytes of its revert data, at most 228
///     02                        not tried, for want of gas (`simulate` alone)
///
/// 01 means that the call did not fail. What proves a payment is the token's own AuthorizationUsed and Transfer.
///
/// Items are independent: each may use `itemGas` and no more, of its answer at most 228 bytes are copied, and its revert
/// ends with it. Reentering is harmless, because between two items there is nothing here that could be changed.
contract SettlementBatch {
    /// There is no contract at this address; a call to it would succeed and pay nobody.
    error NoToken(address token);
    /// Not every item could have been given `itemGas`, so none was tried.
    error TooLittleGas(uint256 needed);

    uint256 private constant ITEM_BYTES = 160;
    uint256 private constant MAX_REASON = 228; // Error(string) with 160 bytes of text
    uint256 private constant ITEM_OVERHEAD = 1_000; // what an item costs around its call; a test holds it to that
    uint256 private constant FIXED_OVERHEAD = 2_000; // what there is to do before the first item and after the last one
    bytes4 private constant TRANSFER_WITH_AUTHORIZATION = 0xe3ee160e;

    /// @notice Presents each item to `token` and says what became of it. Never fails for an item's sake.
    /// @dev Gas is checked once, before the first item: either each of them gets `itemGas`, whatever its neighbours burn, or
    /// nothing happens at all. Were the last ones left out instead, a payer who burns gas could keep his neighbours out.
    function settle(address token, uint256 itemGas, bytes32[5][] calldata items) external returns (bytes memory) {
        _requireToken(token);
        // Only the last call can meet the rule of 63/64: before it, more than a 64th is held back for those to come.
        uint256 needed = items.length * (itemGas + ITEM_OVERHEAD) + itemGas / 63 + FIXED_OVERHEAD;
        if (gasleft() < needed) revert TooLittleGas(needed);
        (uint256 buffer, uint256 start) = _memory();
        uint256 end = start;
        uint256 item = _offset(items);
        for (uint256 last = item + items.length * ITEM_BYTES; item < last; item += ITEM_BYTES) {
            end = _present(token, itemGas, item, buffer, end);
        }
        _answer(start, end);
    }

    /// @notice For eth_call: what would become of each item if it alone were settled. Nothing of it stays, not even for the
    /// next item; `settle` by eth_call says what becomes of them in a row.
    function simulate(address token, uint256 itemGas, bytes32[5][] calldata items) external returns (bytes memory) {
        _requireToken(token);
        (uint256 buffer, uint256 start) = _memory();
        uint256 end = start;
        uint256 item = _offset(items);
        bytes4 selector = this.attempt.selector;
        for (uint256 last = item + items.length * ITEM_BYTES; item < last; item += ITEM_BYTES) {
            assembly ("memory-safe") {
                mstore(buffer, selector)
                mstore(add(buffer, 0x04), token)
                mstore(add(buffer, 0x24), itemGas)
                calldatacopy(add(buffer, 0x44), item, ITEM_BYTES)
                pop(call(gas(), address(), 0, buffer, 0xe4, 0, 0))
                switch returndatasize()
                case 0 {
                    mstore8(end, 2)
                    end := add(end, 1)
                }
                default {
                    returndatacopy(end, 0, returndatasize())
                    end := add(end, returndatasize())
                }
            }
        }
        _answer(start, end);
    }

    /// @notice One item of `simulate`: presents it and reverts always; what it reverts with is the item's outcome.
    function attempt(address token, uint256 itemGas, bytes32[5] calldata item) external {
        (uint256 buffer, uint256 start) = _memory();
        uint256 end = start + 1;
        if (gasleft() < itemGas + itemGas / 63 + ITEM_OVERHEAD + FIXED_OVERHEAD) {
            assembly ("memory-safe") {
                mstore8(start, 2)
            }
        } else {
            uint256 place;
            assembly ("memory-safe") {
                place := item
            }
            end = _present(token, itemGas, place, buffer, start);
        }
        assembly ("memory-safe") {
            revert(start, sub(end, start))
        }
    }

    function _requireToken(address token) private view {
        if (token.code.length == 0) revert NoToken(token);
    }

    function _offset(bytes32[5][] calldata items) private pure returns (uint256 place) {
        assembly ("memory-safe") {
            place := items.offset
        }
    }

    /// Free memory: first the call data of an item, then two words of the answer's head, then the outcomes, which grow.
    function _memory() private pure returns (uint256 buffer, uint256 start) {
        assembly ("memory-safe") {
            buffer := mload(0x40)
            start := add(buffer, 0x180)
        }
    }

    /// Presents the item that begins at `item` in the call data, writes its outcome at `end`, and returns the new end.
    function _present(address token, uint256 itemGas, uint256 item, uint256 buffer, uint256 end)
        private
        returns (uint256 newEnd)
    {
        assembly ("memory-safe") {
            let payer := calldataload(item)
            let payee := calldataload(add(item, 0x20))
            mstore(buffer, TRANSFER_WITH_AUTHORIZATION)
            mstore(add(buffer, 0x04), shr(96, payer))
            mstore(add(buffer, 0x24), shr(96, payee))
            mstore(add(buffer, 0x44), and(payer, 0xffffffffffffffffffffffff))
            mstore(add(buffer, 0x64), and(shr(56, payee), 0xffffffffff))
            mstore(add(buffer, 0x84), and(shr(8, payee), 0xffffffffffff))
            calldatacopy(add(buffer, 0xa4), add(item, 0x40), 0x20)
            mstore(add(buffer, 0xc4), and(payee, 0xff))
            calldatacopy(add(buffer, 0xe4), add(item, 0x60), 0x40)
            switch call(itemGas, token, 0, buffer, 0x124, 0, 0)
            case 0 {
                let length := returndatasize()
                if gt(length, MAX_REASON) { length := MAX_REASON }
                mstore8(end, 0)
                mstore8(add(end, 1), length)
                returndatacopy(add(end, 2), 0, length)
                newEnd := add(end, add(length, 2))
            }
            default {
                mstore8(end, 1)
                newEnd := add(end, 1)
            }
        }
    }

    /// Returns the outcomes as ABI-encoded `bytes`. Past their end memory was never written, so the padding is zero.
    function _answer(uint256 start, uint256 end) private pure {
        assembly ("memory-safe") {
            mstore(sub(start, 0x40), 0x20)
            mstore(sub(start, 0x20), sub(end, start))
            return(sub(start, 0x40), add(0x40, and(add(sub(end, start), 0x1f), not(0x1f))))
        }
    }
}
