"""The ledger: what makes a stored event provable, to people who do not trust whoever stores it.

Owns the hash chains of devices (``chain``), the Merkle tree and its proofs (``merkle``), tiles and bundles (``tiles``), keys
and the two suites (``hashes``, ``keys``), signed notes and checkpoints (``note``, ``checkpoint``), what a witness decides
(``witness``), what a leaf says of a record (``leaf``), the index of offsets (``offsets``), receipts (``receipt``) and what one
sealing makes (``sealing``), all without I/O: bytes and functions come in, bytes go out. ``sealer`` is the task around it, on
the ports of log and tiles. Docs: ``docs/protocols/ledger.md``.

Does not own whether a broken chain is accepted (``hengliu.intake``: it is, and the break is recorded beside it), nor where
tiles and keys lie, or how a witness is reached.
"""
