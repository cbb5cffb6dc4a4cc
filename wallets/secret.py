"""A value that must not be seen: keys, passphrases, vendor credentials, root passwords (P10).

Must not know what the value is for. Theory: redaction by key name misses lists, locals and f-strings, so the type
itself has no readable form; the one way out is ``reveal()``, which is easy to search for.
"""

from typing import Any, Final, Generic, NoReturn, Self, TypeVar

REDACTED: Final = "<secret>"

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """Text or bytes whose repr, str and format are redacted, which cannot be pickled and compares by identity only."""

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value: T = value

    def reveal(self) -> T:
        """Return the value. Call it where the value is used, and bind the result to nothing that lives on."""
        return self.__value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is never serialised")
