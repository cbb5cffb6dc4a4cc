"""The compiled contracts and how they are called: ABI encoding for the few fixed shapes that the sandbox needs.

Must not know the chain. Theory: every argument is one 32-byte word; that of `bytes` is an offset to its tail.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

BASE_USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
_BUILD = Path(__file__).parent / "contracts" / "build"
_VRS = "uint8,bytes32,bytes32"
_AUTHORIZATION = "address,address,uint256,uint256,uint256,bytes32"


@dataclass(frozen=True)
class Contract:
    """A committed artifact: the code to place, and the selectors by signature."""

    runtime_bytecode: str
    selectors: dict[str, str]
    abi: list[dict[str, Any]]

    @classmethod
    def load(cls, name: str) -> Self:
        """Return the artifact `contracts/build/<name>.json`."""
        artifact = json.loads((_BUILD / f"{name}.json").read_text())
        return cls(artifact["runtimeBytecode"], artifact["selectors"], artifact["abi"])

    def call(self, signature: str, *arguments: object) -> str:
        """Return the 0x calldata of the function with this signature; raise KeyError when the contract has none."""
        types = signature[signature.index("(") + 1 : -1]
        return "0x" + self.selectors[signature] + encode(types.split(",") if types else [], arguments).hex()


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """What an EIP-3009 signature covers. Amounts in base units, times in Unix seconds, hex texts with 0x."""

    sender: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str

    def words(self) -> tuple[object, ...]:
        """Return the six fields in the contract's order."""
        return self.sender, self.to, self.value, self.valid_after, self.valid_before, self.nonce


def encode(types: list[str], arguments: tuple[object, ...]) -> bytes:
    """Return the ABI encoding of the arguments; raise ValueError when one does not fit its type."""
    head, tail = b"", b""
    for kind, argument in zip(types, arguments, strict=True):
        if kind == "bytes":
            content = _bytes(argument)
            head += (32 * len(types) + len(tail)).to_bytes(32, "big")
            tail += len(content).to_bytes(32, "big") + content + bytes(-len(content) % 32)
        else:
            head += _word(kind, argument)
    return head + tail


def _word(kind: str, argument: object) -> bytes:
    if kind in {"address", "bytes32"}:
        content, size = _bytes(argument), 20 if kind == "address" else 32
        if len(content) != size:
            raise ValueError(f"{kind} takes {size} bytes, not {len(content)}")
        return content.rjust(32, b"\0")
    if not isinstance(argument, int):
        raise ValueError(f"{kind} takes an integer")  # noqa: TRY004 -- one error type for whatever does not encode
    return argument.to_bytes(32, "big")


def _bytes(argument: object) -> bytes:
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, str) and argument.startswith("0x"):
        return bytes.fromhex(argument[2:])
    raise ValueError("bytes or 0x text expected")


def signed_call(token: Contract, function: str, words: tuple[object, ...], signature: bytes, overload: str) -> str:
    """Return the calldata of one of the token's signed functions.

    `function` is its name without arguments; `overload` is "vrs" (65 bytes only), "bytes", or "auto": "vrs" if it fits.
    """
    fields = _AUTHORIZATION if function.endswith("WithAuthorization") else "address,bytes32"
    if overload == "bytes" or (overload == "auto" and len(signature) != 65):
        return token.call(f"{function}({fields},bytes)", *words, signature)
    if len(signature) != 65:
        raise ValueError("the v,r,s overload takes 65 bytes")
    r, s, v = signature[:32], signature[32:64], signature[64]
    return token.call(f"{function}({fields},{_VRS})", *words, v, r, s)
