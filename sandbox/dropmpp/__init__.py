"""A DigitalOcean reseller as a real HTTP server, from its public document: the sandbox's MPP vendor.

It is written in Node because it checks payments with npm `mppx`, against a real Tempo chain. It knows nothing of the
gateway; `faults.mjs` lists the ways in which it can be told to misbehave. The Python beside it starts it and pays it.
"""
