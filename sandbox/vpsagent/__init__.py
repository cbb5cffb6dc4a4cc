"""VpsAgent as a real HTTP server: the sandbox's stand-in for the vendor, from its public document.

It runs in its own process and its own interpreter, checks payments with PyPI `x402` against a real chain, and settles
them on chain only when a TCP connect to the box succeeds. It knows nothing of the gateway; `faults` lists the ways in
which it can be told to misbehave.
"""
