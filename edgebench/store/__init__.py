"""Records kept: one append-only SQLite file, and the bundles that carry them elsewhere."""
