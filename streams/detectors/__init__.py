"""Online detectors of anomalies in one series of numbers: a load, a level, a rate.

A detector sees each sample once, in time order, and never one that comes later. What it remembers is bounded, stated
(``Detector.state_bytes``) and written as one frozen struct, so that a task can checkpoint it anywhere. ``parts`` and
``evidence`` have what several detectors are made of, each detector is one module, ``catalog`` lists them. docs/detection.md
says what each is worth.

Not here: which meter is watched by which detector (``streams.operators.anomaly``), and reading files (``hengliu.cli.detect``).
"""
