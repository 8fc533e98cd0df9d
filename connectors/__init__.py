"""Connectors: from what others write (files, wire protocols, databases) to events, sent through the API as any device does.

Owns the reading and the mapping. Does not own validation, dedup, scope (the platform's intake) or any sum. Imports
``hengliu.events``, ``hengliu.reference`` and ``hengliu.ports`` alone; a connector is a client and needs no running part of the
platform in its own process.
"""
