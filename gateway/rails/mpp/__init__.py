"""MPP's `charge` on Tempo and on EVM chains, and the identity proof: the payer's side, and pure."""
