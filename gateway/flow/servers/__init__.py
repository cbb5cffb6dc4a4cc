"""The use cases of the vendor-neutral API: catalogue, quotes, orders, looks, renewals, fleets, and telling of them."""
