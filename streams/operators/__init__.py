"""The operators, one module a subject, listed with their groups in ``catalog``.

Owns what derived events follow from which records, and the state for it. Does not own order, commits or dead letters
(``streams.kernel``), nor adding sums up (the warehouse).
"""
