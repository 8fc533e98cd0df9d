"""One module a family (or a few that make one subject). Each exports its payload models and ``FAMILIES``.

Owns the members of a payload and their labels. Does not own the list of families (``hengliu.events.catalog``), topics
(``hengliu.events.topics``) or names of codes (``hengliu.reference.codes``).
"""
