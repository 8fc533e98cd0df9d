"""``warning``: every change of every warning, raised, updated or cleared, in one table.

Three families with the same members make one table, since the question is always "where does this warning stand".
"""

from pathlib import Path

from hengliu.events.catalog import Catalog
from hengliu.events.family import Text
from hengliu.ports.warehouse import TableSchema
from projections.family_table import RowMapping
from projections.table import Table

__all__ = ["CHANGES", "warning_table"]

CHANGES = {"warning.raised": "raised", "warning.updated": "updated", "warning.cleared": "cleared"}
"""Event type to the value of ``change``."""


def warning_table(catalog: Catalog) -> Table:
    """The table, with its members from ``warning.raised``."""
    mapping = RowMapping(catalog["warning.raised"], {"change": CHANGES})
    return Table(
        schema=TableSchema("warning", mapping.columns, order_by=("warning", "known_at")),
        types=frozenset(CHANGES),
        topics=frozenset(catalog[type_].topic for type_ in CHANGES),
        rows=mapping,
        title=Text("预警", "Warnings"),
        migrations=Path(__file__).parent,
        defaults=mapping.defaults,
    )
