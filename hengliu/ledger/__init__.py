"""The ledger: what makes a stored event provable. So far the hash chains that devices send, checked by intake.

Owns how a chain is continued and what breaks it. Does not own whether a broken event is accepted (``hengliu.intake``: it is,
and the break is recorded beside it), nor storage. Transparency logs and receipts are not built yet.
"""
