"""dropmpp: prepaid servers of a DigitalOcean reseller, paid with MPP on Tempo; one wallet is the account of all agents."""

from gateway.vendors.dropmpp.vendor import DropMpp

__all__ = ["DropMpp"]
