"""The gateway's API as tools of the Model Context Protocol, for agents that speak it and not HTTP.

Must not know the gateway's inside: it is a client like any other, with the API key that it was given.  Theory: a tool is
one route as data, so the tools say what the API says; whatever may spend needs a cap and an idempotency key, because a
model repeats itself.
"""
