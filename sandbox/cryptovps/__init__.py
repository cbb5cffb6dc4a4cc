"""CryptoVPS as a real HTTP server: the sandbox's stand-in for the vendor, from its public document.

E-mail and password, tokens of 15 minutes, a prepaid balance in decimal texts, servers by the started hour. It runs in
its own process; time for it is the business clock, and `faults` lists the ways in which it can be told to misbehave.
"""
