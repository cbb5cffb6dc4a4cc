"""The x402 facilitator: what verifies others' payments and has them collected, ours in this process or another's by URL."""
