"""Vendors: one module for each, plus the generic x402 vendor that configuration alone describes. Pure: no I/O, no clock."""
