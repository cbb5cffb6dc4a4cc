"""The agents' side of HTTP: the proxy, the prepaid API, and what operations need."""
