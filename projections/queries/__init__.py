"""All questions that are asked of the warehouse, and the rights filter on each. The API knows these names, never SQL.

Does not own who may ask, paging over HTTP, or any table.
"""

from collections.abc import Mapping

from projections.queries import flow, metering, overview, registry, shipment, stock, warning, weighing
from projections.queries.events import family_query
from projections.queries.query import (
    ERRORS,
    MAX_ROWS,
    Bounds,
    NamedQuery,
    Page,
    QueryColumn,
    QueryError,
    QueryParameter,
    Scope,
    ScopeColumns,
    run_query,
)

__all__ = [
    "ERRORS",
    "MAX_ROWS",
    "QUERIES",
    "Bounds",
    "NamedQuery",
    "Page",
    "QueryColumn",
    "QueryError",
    "QueryParameter",
    "Scope",
    "ScopeColumns",
    "family_query",
    "run_query",
]

QUERIES: Mapping[str, NamedQuery] = {
    query.name: query
    for query in (
        *weighing.QUERIES,
        *shipment.QUERIES,
        *flow.QUERIES,
        *metering.QUERIES,
        *stock.QUERIES,
        *warning.QUERIES,
        *registry.QUERIES,
        *overview.QUERIES,
    )
}
"""Named queries by name. A new one is a declaration beside its subject; ``family_query`` serves any family without one."""
