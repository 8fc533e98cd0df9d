"""Aggregates: what people decide, with invariants, as event-sourced objects; and the outbox that publishes their events.

Owns commands and invariants of the registry. Does not own intake (the outbox hands events to it like any device does) nor the
reading side (projections of the registry topic).
"""
