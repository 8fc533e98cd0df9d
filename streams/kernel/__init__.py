"""The operator kernel: deterministic merge, keyed state, the loop that decodes, steps and commits.

Owns in which order an operator sees records, and that its effects are committed with them. Does not own what an operator does,
which tasks exist (``streams.topology``), or who runs them (``streams.agents``, ``streams.supervisor``).
"""
