"""One module a family (or a few that make one subject). Each exports its payload models and ``FAMILIES``."""
