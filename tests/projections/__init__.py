"""Tables, the projector and the named queries, on the real local log and the real embedded engine."""
