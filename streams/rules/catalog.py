"""The rules that operators follow when none is registered, as the events that would publish them.

A rule is changed by ``rule.published`` with the same name, a higher version and the parameters that differ from what is here;
a warning names the version that it was judged by (0: the defaults of rule ``tickets``, which no regulation numbers).
"""

from dataclasses import fields

from hengliu.events.families.registry import RulePublished
from hengliu.reference import mass_limits
from streams.operators.tickets import TicketPolicy

__all__ = ["DEFAULT_RULES"]

DEFAULT_RULES: tuple[RulePublished, ...] = (
    RulePublished(
        rule=mass_limits.RULE,
        version=mass_limits.VERSION,
        parameters=dict(mass_limits.LIMITS),
        citation=mass_limits.CITATION,
    ),
    RulePublished(
        rule="tickets",
        version=1,
        parameters={f.name: str(getattr(TicketPolicy(), f.name)) for f in fields(TicketPolicy)},
    ),
)
"""One line a rule. Publishing one as it stands changes no verdict, only the version that warnings name."""
