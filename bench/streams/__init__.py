"""The comparison of stream processors: one job, one topic, one broker. ``bench.streams.hengliu`` is our contestant.

Owns the job, its data, the run and its comparison with a recomputation. Does not own the peers' programs beyond starting them.
"""
