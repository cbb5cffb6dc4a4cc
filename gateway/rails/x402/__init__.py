"""x402 versions 1 and 2, `exact` on EVM with EIP-3009: the payer's side, and pure."""
