"""A coal city that sends its readings over HTTP, and its own ledger of what the platform must then show.

Owns: the plan of a city (sites, devices, trucks, roads), its physical course, the bytes its devices send, the irregularities
planted in them, and the expectation of every figure. Does not own, and never imports, anything that measures: no operator, no
projection. It knows the platform as a device does, by ``hengliu.events`` and ``POST /v1/events``.
"""
