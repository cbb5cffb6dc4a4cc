"""The store: rows on disk behind one port; SQLite is the embedded default."""
