"""The operator kernel: deterministic merge, keyed state, the loop that decodes, steps and commits."""
