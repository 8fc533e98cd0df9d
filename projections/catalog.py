"""The one list of tables: hand-declared ones, and a generated raw table for every other family."""

from collections.abc import Callable, Collection

from hengliu.events.catalog import Catalog
from projections.family_table import family_table
from projections.table import Table
from projections.tables.warning import CHANGES, warning_table

__all__ = ["HAND_DECLARED", "family_tables", "tables"]

HAND_DECLARED: tuple[tuple[frozenset[str], Callable[[Catalog], Table]], ...] = ((frozenset(CHANGES), warning_table),)
"""(the families that it stands for, how it is made). A new hand-declared table is one line here."""


def tables(catalog: Catalog) -> tuple[Table, ...]:
    """Every table that the log feeds, in a fixed order.

    A hand-declared table replaces the generated ones of its families; it is left out of a catalogue that has none of them.
    """
    covered: set[str] = set()
    made = []
    for types, make in HAND_DECLARED:
        if all(type_ in catalog for type_ in types):
            covered |= types
            made.append(make(catalog))
    return (*made, *family_tables(catalog, covered))


def family_tables(catalog: Catalog, without: Collection[str] = ()) -> tuple[Table, ...]:
    """The generated raw tables of all families but ``without``."""
    return tuple(family_table(f) for f in catalog.families.values() if f.type not in without)
