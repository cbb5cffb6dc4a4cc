"""The operator's calls: one function each, run by the server behind its socket, or by the CLI when no server runs."""
