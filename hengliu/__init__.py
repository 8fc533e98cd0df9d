"""Hengliu 衡流: an event-sourced ledger and stream processor for regulated physical flows.

This package owns the event model, the ports, intake, the ledger, composition, settings and the command line.
It does not own stream operators (``streams``), tables (``projections``), wire protocols (``connectors``),
adapters (``infra``) or the HTTP surface (``api``).
"""

__version__ = "0.1.0"
