"""Ports: what the platform needs from the outside, as protocols and value types.

Imports nothing else of the project. Each port has one contract suite under ``tests/contract`` that every adapter in
``infra`` runs.
"""
