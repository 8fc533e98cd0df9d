"""One module a kind of registration: its payload, its key and its invariants."""
