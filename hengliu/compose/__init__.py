"""Composition: the only place that builds adapters and processes.

``adapters`` maps settings to adapters, ``platform`` is one process, ``engines`` starts the servers of the demonstration on
Kafka, ``tokens`` writes its tokens. Nothing else of the project imports ``infra``.
"""
