"""One module a kind of registration: its payload, its key and its invariants.

Does not own what all kinds share (``aggregates.registration``) or the list of them (``aggregates.registry.KINDS``).
"""
