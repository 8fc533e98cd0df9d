"""The HTTP surface: events in, named queries out, live frames, health, generated documents, and the pages.

Owns: routes, problem documents, the check of who may ask, connection and body limits, the live hub.
Does not own: validation of events (``hengliu.intake``), SQL and the rights filter (``projections``), the invariants of
commands (``aggregates``), or the building of any adapter (``hengliu.compose`` hands in ``api.deps.Deps``).
"""
