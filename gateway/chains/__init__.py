"""One chain as several JSON-RPC endpoints tell it: what the endpoints agree on is evidence, anything else is unknown."""
