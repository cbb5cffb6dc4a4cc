// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A token that is out to harm whoever presents authorizations in batches
/// @notice `value` says what transferWithAuthorization does, so that one batch can hold every kind. It checks nothing and
/// moves nothing.
/// @dev Placed by `anvil_setCode`, hence no constructor.
contract DevHostileToken {
    uint256 private constant BURN_GAS = 1;
    uint256 private constant REVERT_WITH_MUCH = 2;
    uint256 private constant RETURN_MUCH = 3;
    uint256 private constant REVERT_WITH_LONG_TEXT = 4;
    uint256 private constant REVERT_WITH_NOTHING = 5;
    uint256 private constant PANIC = 6;
    uint256 private constant REVERT_WITH_ERROR = 7;
    uint256 private constant REENTER = 8;
    uint256 private constant REENTER_AND_REVERT = 9;
    uint256 private constant REVERT_WITH_A_LYING_TEXT = 10;
    uint256 private constant MUCH = 50_000;

    /// What was presented, and the gas that was left when it was.
    event Presented(bytes32 indexed nonce, uint256 gas);

    error Refused(uint256 why);

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8,
        bytes32,
        bytes32
    ) external {
        uint256 given = gasleft();
        if (value == BURN_GAS) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (value == REVERT_WITH_MUCH) {
            assembly {
                revert(0, MUCH)
            }
        }
        if (value == RETURN_MUCH) {
            assembly {
                return(0, MUCH)
            }
        }
        if (value == REVERT_WITH_LONG_TEXT) revert(string(new bytes(1_000)));
        if (value == REVERT_WITH_NOTHING) revert();
        if (value == PANIC) assert(from == address(0) && to == from && validAfter > validBefore);
        if (value == REVERT_WITH_ERROR) revert Refused(value);
        if (value == REENTER || value == REENTER_AND_REVERT) _reenter(nonce);
        if (value == REENTER_AND_REVERT) revert Refused(value);
        if (value == REVERT_WITH_A_LYING_TEXT) {
            // Error(string) whose length is 2^256-1.
            assembly {
                mstore(0, 0x08c379a000000000000000000000000000000000000000000000000000000000)
                mstore(4, 0x20)
                mstore(0x24, not(0))
                revert(0, 0x44)
            }
        }
        emit Presented(nonce, given);
    }

    /// Calls the batch back with an item of its own, whose nonce is this one's complement.
    function _reenter(bytes32 nonce) private {
        bytes32[5][] memory items = new bytes32[5][](1);
        items[0][2] = ~nonce;
        (bool done,) = msg.sender.call(
            abi.encodeWithSignature("settle(address,uint256,bytes32[5][])", address(this), 10_000, items)
        );
        require(done, "DevHostileToken: could not reenter");
    }
}
