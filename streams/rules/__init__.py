"""Rules as data: the versions that hold where nobody has published one.

Owns their names, defaults and citations. Does not own applying them (``streams.operators``) or publishing
others (the registry).
"""
