"""Supervised loops: they call use cases again and again, survive what those raise, and drain when asked."""
