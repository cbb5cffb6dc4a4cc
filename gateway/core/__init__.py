"""The pure ring: money, ledger, machines, policy, journal. No await, no clock, no I/O; values in, values out."""
