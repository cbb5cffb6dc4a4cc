// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title Any calls in one transaction, in the shape that is widely deployed for it
/// @notice The benchmark's other contestant: what batches would cost without a contract made for them.
/// @dev Placed by `anvil_setCode`, hence no constructor.
contract DevAggregate {
    struct Call {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    function aggregate3(Call[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            Call calldata one = calls[i];
            (bool success, bytes memory returnData) = one.target.call(one.callData);
            require(success || one.allowFailure, "DevAggregate: call failed");
            results[i] = Result(success, returnData);
        }
    }
}
