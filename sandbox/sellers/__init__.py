"""Sellers made of stock reference SDK parts, to be paid unmodified: `v2`, `v1`, an HTTP `facilitator`, and a stock `client`."""
