"""The demo: chain, vendor and gateway as real processes, an agent that spends money, and books that must balance.

It knows the gateway only as everybody does: its command line, its HTTP API, and the chain.
"""
