"""VpsAgent: servers for a fixed term, paid with x402 v1 in USDC on Base, collected only when the box is up."""

from gateway.vendors.vpsagent.vendor import VpsAgent

__all__ = ["VpsAgent"]
