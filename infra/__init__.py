"""The adapters of the ports, and nothing else: two event logs, two warehouses, two Faust transports, launchers of real servers.

Owns how a port's words map to one engine, and what an engine does wrong. Does not own which adapter is used:
``hengliu.compose`` builds them, and no other package may import this one. Both adapters of a port run the same suite under
``tests/contract``.
"""
