"""Composition: the only place that builds adapters and processes.

``adapters`` maps settings to adapters, ``platform`` is one process, ``engines`` starts the servers of the demonstration on
Kafka, ``tokens`` writes its tokens, ``faults`` says why a command ended. Nothing else of the project imports ``infra``. Does
not own any behaviour: what it starts works the same when a test builds it.
"""
