"""Use cases: they read top to bottom as design 4 and talk to ports only."""
