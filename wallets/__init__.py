"""Custody: sealed keys, the guard that every signature passes, and the memory that outlives a restored database.

Knows messages, not prices. Imports ``contracts`` and nothing of ``gateway``.
"""
