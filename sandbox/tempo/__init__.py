"""A local Tempo: anvil's Tempo network with pathUSD, behind a shim that makes its JSON-RPC the real node's.

The shim is also where tests break the RPC: it drops, delays, falsifies and refuses answers method by method. It knows
nothing of vendors, and of payments only what a TIP-20 transfer looks like.
"""
