"""VRTX Labs: a bearer token from its console, postpaid invoices, idempotency keys, pages, signed webhooks."""

from gateway.vendors.vrtx.vendor import Vrtx

__all__ = ["Vrtx"]
