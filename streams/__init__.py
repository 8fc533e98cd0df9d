"""Stream processing: the operator kernel, the operators, and the Faust shell around them.

Owns what needs order or state: tickets, joins, detectors, panes of sums. Does not own adding the panes up (the warehouse
does), the log (``hengliu.ports.log``) or what an event is (``hengliu.events``).
"""
