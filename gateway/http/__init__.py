"""The outgoing HTTP client: where requests may go, what they may carry, and what is known of their fate."""
