"""LiteVPS: virtual machines by the minute from a prepaid account in USD, with commands, files, snapshots and batches."""

from gateway.vendors.litevps.vendor import LiteVps

__all__ = ["LiteVps"]
