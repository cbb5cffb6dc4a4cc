"""Ways to pay: each rail turns a vendor's challenge into offers, and an authorization into a credential."""
