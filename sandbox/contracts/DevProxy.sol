// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title The proxy in front of a token
/// @notice Costs what the proxy in front of Circle's token costs: two storage reads, of who may upgrade and of where the code
/// is, and a delegatecall. For measuring gas: on Base, USDC stands behind such a proxy.
/// @dev Placed by `anvil_setCode`, its two slots by `anvil_setStorageAt`; hence no constructor, and nobody can upgrade it.
contract DevProxy {
    bytes32 private constant ADMIN_SLOT = keccak256("org.zeppelinos.proxy.admin");
    bytes32 private constant IMPLEMENTATION_SLOT = keccak256("org.zeppelinos.proxy.implementation");

    fallback() external payable {
        address admin;
        address implementation;
        (bytes32 adminSlot, bytes32 implementationSlot) = (ADMIN_SLOT, IMPLEMENTATION_SLOT);
        assembly ("memory-safe") {
            admin := sload(adminSlot)
            implementation := sload(implementationSlot)
        }
        require(msg.sender != admin, "DevProxy: the admin cannot call the token");
        assembly {
            calldatacopy(0, 0, calldatasize())
            let done := delegatecall(gas(), implementation, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if done { return(0, returndatasize()) }
            revert(0, returndatasize())
        }
    }
}
