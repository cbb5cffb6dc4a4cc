"""VRTX Labs as a real HTTP server: the sandbox's stand-in for the vendor, from its public document.

Bearer tokens with an address allow-list, `{data}` and `{error}` envelopes, pages, postpaid invoices, idempotency keys,
signed webhooks. It runs in its own process; time for it is the business clock.
"""
