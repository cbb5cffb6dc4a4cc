// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A contract wallet that is out to harm whoever asks it for its word
/// @notice ERC-1271: the first byte of the signature says what it does. 1 burns all gas, 2 answers much, 3 is valid.
/// @dev Placed by `anvil_setCode`, hence no constructor.
contract DevHostileWallet {
    bytes4 private constant ERC1271_MAGIC = 0x1626ba7e;
    bytes4 private constant INVALID = 0xffffffff;

    function isValidSignature(bytes32, bytes calldata signature) external pure returns (bytes4) {
        if (signature[0] == 0x01) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (signature[0] == 0x02) {
            assembly {
                return(0, 100000)
            }
        }
        return signature[0] == 0x03 ? ERC1271_MAGIC : INVALID;
    }
}
