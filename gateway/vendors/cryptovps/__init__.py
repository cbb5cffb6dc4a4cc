"""CryptoVPS: servers by the started hour from a prepaid balance, on one account that all agents share."""

from gateway.vendors.cryptovps.vendor import CryptoVps

__all__ = ["CryptoVps"]
