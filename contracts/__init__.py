"""What is true on chain: assets, networks, typed data, call encodings, logs, and what proves a transfer.

Pure: no I/O, no clock, no keys at rest. Bytes and integers inside; hex text only in ``codec``.
"""
