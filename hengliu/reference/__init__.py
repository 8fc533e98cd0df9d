"""What is looked up and does not come from events: code lists, units, legal limits, and the words of every refusal.

Owns names in both languages, exact conversions and tables of law, each with its source. Does not own the registry of
enterprises, sites and devices (events on topic ``registry``), nor what an operator does with a limit.
"""
