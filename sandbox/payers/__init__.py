"""Stock payers: clients of x402 and MPP as their makers publish them, each run once on a configuration."""
