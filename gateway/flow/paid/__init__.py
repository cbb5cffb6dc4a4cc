"""Being paid: top-ups, receipts, refunds, and what wallets may do without a key. Talks to ports only."""
