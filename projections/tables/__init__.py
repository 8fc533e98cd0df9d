"""Hand-declared tables, one folder each: declaration and numbered migrations. Raw tables of families are generated.

Owns columns that no single family has. Does not own the list of tables (``projections.catalog``) or queries.
"""
