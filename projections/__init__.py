"""Tables of the warehouse, how they are fed from the log exactly once, and the named queries that read them.

Owns: the declaration of every table (``catalog.tables``), the row mapping from records (``family_table``, ``tables/``), the
projection protocol (``projector``, ``docs/protocols/projection.md``), creating and migrating tables (``migrate``), and all
SQL that answers questions (``queries``), with the rights filter in one place.

Does not own: the engines (``infra``), what events mean (``hengliu.events``), any sum or join that needs order or state
(``streams``), or who may ask (``api``).
"""
