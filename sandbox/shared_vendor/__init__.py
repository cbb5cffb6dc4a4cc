"""What the sandbox's account vendors share: business clock, scripted faults, limits, tokens, purse, app shell, admin API.

It knows no vendor: each vendor brings its routes, its wording of errors and its machine, and imports this; never the
other way round.
"""
