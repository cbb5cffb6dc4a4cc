// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A contract wallet for tests
/// @notice ERC-1271: valid is the owner's 65-byte ECDSA signature or, once there is a co-signer, both signatures in a row
/// (130 bytes, owner first), which only the `bytes` overloads of the token can carry.
/// @dev Placed by `anvil_setCode`, hence no constructor.
contract DevContractWallet {
    bytes4 private constant ERC1271_MAGIC = 0x1626ba7e;
    bytes4 private constant INVALID = 0xffffffff;

    address public owner;
    address public cosigner;

    /// @notice Names the keys, once. A zero `newCosigner` means that the owner signs alone.
    function setup(address newOwner, address newCosigner) external {
        require(owner == address(0), "DevContractWallet: already set up");
        require(newOwner != address(0), "DevContractWallet: no owner");
        owner = newOwner;
        cosigner = newCosigner;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        bool alone = cosigner == address(0);
        if (owner == address(0) || signature.length != (alone ? 65 : 130)) return INVALID;
        if (!_signedBy(owner, digest, signature[:65])) return INVALID;
        if (!alone && !_signedBy(cosigner, digest, signature[65:])) return INVALID;
        return ERC1271_MAGIC;
    }

    function _signedBy(address key, bytes32 digest, bytes calldata signature) private pure returns (bool) {
        return ecrecover(digest, uint8(signature[64]), bytes32(signature[:32]), bytes32(signature[32:64])) == key;
    }
}
