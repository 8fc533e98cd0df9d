"""The event model: CloudEvents envelope, event families and the catalogue that lists them.

Owns what an event *is*. Does not own whether one is accepted (``hengliu.intake``) or what follows from it (``streams``).
"""
