"""Use cases: they read top to bottom as DESIGN section 4 and talk to ports only."""
