"""Readers of single values: each takes what TOML gave and returns what the program works with, or says what to write.

Must not know which setting it reads, and never repeats a value in a message: it may hold a secret.  Theory: text becomes
an amount, an address or an origin once, at the start, and is never parsed again.
"""

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from contracts.codec import Address, CodecError, parse_address
from gateway.chains.finality import Finality
from gateway.core.money import AmountError, parse_amount
from gateway.http.egress import Network, Origin
from gateway.settings.table import At, BadValue, Reader, Spoiled
from wallets.passphrase import PassphraseError, PassphraseSource, SourceKind, parse_passphrase_source
from wallets.secret import Secret

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

UNIX_PATH_MAX_BYTES = 107  # sun_path of Linux, less the closing NUL


def text(value: object, _at: At) -> str:
    """Read a non-empty printable text."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadValue("must be a text of at least one printable character", 'write it in quotes: "…"')
    return value


def flag(value: object, _at: At) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise BadValue("must be true or false", "write true or false without quotes")
    return value


def integer(low: int, high: int) -> Reader[int]:
    """Return a reader of whole numbers from low to high."""

    def read(value: object, _at: At) -> int:
        if type(value) is not int or not low <= value <= high:
            raise BadValue(f"must be a whole number from {low} to {high}", f"write a number such as {low}")
        return value

    return read


def seconds(low: float, high: float) -> Reader[float]:
    """Return a reader of a time in seconds, whole or not."""

    def read(value: object, _at: At) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadValue(f"must be seconds from {low} to {high}", f"write a number such as {low}")
        return float(value)

    return read


def amount(value: object, _at: At) -> int:
    """Read an amount above zero as base units."""
    return _amount(value, allow_zero=False)


def amount_or_zero(value: object, _at: At) -> int:
    """Read an amount that may be zero as base units."""
    return _amount(value, allow_zero=True)


def _amount(value: object, *, allow_zero: bool) -> int:
    try:
        return parse_amount(value, allow_zero=allow_zero)
    except AmountError as error:
        raise BadValue(str(error), 'write it in quotes, such as "9.99"') from None


def fraction(value: object, _at: At) -> int:
    """Read a part of one as parts per million: "0.05" is five percent."""
    base = _amount(value, allow_zero=True)
    if base > 1_000_000:  # noqa: PLR2004 - parts per million
        raise BadValue("must not be above one", 'write a decimal such as "0.05" for five percent')
    return base


def address(value: object, _at: At) -> Address:
    """Read an address; a mixed-case one must have its right checksum."""
    try:
        return parse_address(value)
    except CodecError as error:
        raise BadValue(str(error), 'write "0x" and 40 hex digits, best with their checksum') from None


def origin(value: object, at: At) -> Origin:
    """Read scheme, host and port."""
    try:
        return Origin.parse(text(value, at))
    except ValueError:
        raise BadValue(
            "must be a scheme, a host and a port and nothing else", 'write it as "https://host" or "https://host:port"'
        ) from None


def network(value: object, at: At) -> Network:
    """Read a network of addresses."""
    try:
        return ipaddress.ip_network(text(value, at))
    except ValueError:
        raise BadValue("must be a network of addresses", 'write it as "10.0.0.0/8" or "fd00::/8"') from None


def url(value: object, at: At) -> Secret[str]:
    """Read an http(s) URL of an RPC endpoint; it stays a secret, for providers put keys into paths."""
    written = text(value, at)
    if not written.isascii() or not written.startswith(("https://", "http://")) or " " in written:
        raise BadValue("must be an http or https URL", 'write it as "https://host/path"')
    return Secret(written)


def secret(value: object, at: At) -> Secret[str]:
    """Read a text that is nobody else's to see; best it comes from the environment."""
    return Secret(text(value, at))


def path(value: object, at: At) -> Path:
    """Read a path; a relative one starts at data_dir."""
    written = text(value, at)
    return (at.source.data_dir / written).absolute()


def socket_path(value: object, at: At) -> Path:
    """Read the path of a Unix socket, which the system keeps short."""
    found = path(value, at)
    if len(bytes(found)) > UNIX_PATH_MAX_BYTES:
        raise BadValue(
            f"a socket's whole path must be at most {UNIX_PATH_MAX_BYTES} bytes",
            'write a shorter one: "/run/…/operator.sock"',
        )
    return found


def passphrase(value: object, at: At) -> PassphraseSource:
    """Read where the passphrase comes from."""
    try:
        source = parse_passphrase_source(text(value, at))
    except PassphraseError as error:
        raise BadValue(str(error), 'write "env:NAME", "file:/path" or "credential:name"') from None
    if source.kind is SourceKind.FILE:
        return PassphraseSource(SourceKind.FILE, str(path(source.name, at)))
    return source


def finality(value: object, at: At) -> Finality:
    """Read when a block counts as final."""
    try:
        return Finality.parse(text(value, at))
    except ValueError as error:
        raise BadValue(str(error), 'write "finalized", or "confirmations:10"') from None


def choice(kind: type[E]) -> Reader[E]:
    """Return a reader of one of an enumeration's values."""

    def read(value: object, _at: At) -> E:
        if not isinstance(value, str) or value not in set(kind):
            listed = ", ".join(f'"{one}"' for one in kind)
            raise BadValue(f"must be one of {listed}", "choose one")
        return kind(value)

    return read


def several(read: Reader[T], *, at_least: int = 0) -> Reader[tuple[T, ...]]:
    """Return a reader of a list without repeats."""

    def read_all(value: object, at: At) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) < at_least:
            raise BadValue(f"must be a list of at least {at_least}", 'write ["…"]')
        found: list[T] = []
        spoiled = False
        for number, each in enumerate(value):
            place = at.below(str(number))
            if each in value[:number]:
                at.source.fault(place.path, "stands in the list twice", "remove one of the two")
                spoiled = True
                continue
            try:
                found.append(read(each, place))
            except BadValue as bad:
                at.source.fault(place.path, bad.what, bad.write)
                spoiled = True
        if spoiled:
            raise Spoiled
        return tuple(found)

    return read_all


def mapping(read: Reader[T]) -> Reader[Mapping[str, T]]:
    """Return a reader of free names, such as the vendor's own item names, to values."""

    def read_all(value: object, at: At) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise BadValue("must be a table of names and values", "write one name = value a line")
        found: dict[str, T] = {}
        for name, each in value.items():
            try:
                found[name] = read(each, at.below(name))
            except BadValue as bad:
                at.source.fault((*at.path, name), bad.what, bad.write)
        if found.keys() != value.keys():
            raise Spoiled
        return found

    return read_all
