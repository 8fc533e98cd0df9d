"""Intake: the one way in. Owns strict parsing, validation, scope, dedup, receive times and quarantine.

Does not own: who may connect (``hengliu.rights`` says who a token is, the API asks it), HTTP, and what events mean
(operators). One task a partition; nothing is answered before it is committed.
"""
