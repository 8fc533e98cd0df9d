"""One subject's warnings of one code, each with one life: raised, updated while it lasts, cleared.

For operators that judge a subject again and again. What they keep per subject is one ``Life``; what they say each time is how
bad things are. What is older than the last thing judged says nothing about how things stand now, and changes nothing.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from streams.kernel.operator import Batch, Emit, Operator
from streams.operators.records import warning, warning_id

__all__ = ["UNSEEN", "Change", "Life", "lived", "moment", "told"]

Change = Literal["raised", "updated", "cleared"]


class Life(msgspec.Struct, frozen=True):
    """What is held of a subject.

    ``time`` is that of the last judgement (ms), ``episode`` counts warnings, ``severity`` is that of the open one (empty: none
    is open), ``since`` when the last one began, ``changes`` counts what became of it.
    """

    time: int
    episode: int = 0
    severity: str = ""
    since: int = 0
    changes: int = 0


UNSEEN: Final = Life(0)


def moment(time: int, received: int) -> int:
    """Event time of a reading, for comparing with others: nothing was measured after it was received, and a clock that ran
    ahead must not silence the right readings that follow."""
    return min(time, received)


def lived(life: Life, time: int, severity: str) -> tuple[Change | None, Life]:
    """One more judgement, at ``time``: how bad things are (empty: all is well).

    Returns what becomes of the warning (None: nothing) and the life after it. Better or worse than before is an update.
    """
    if time < life.time:
        return None, life
    if severity == life.severity:
        return None, msgspec.structs.replace(life, time=time)
    if not life.severity:
        return "raised", Life(time, life.episode + 1, severity, time, 0)
    changed = msgspec.structs.replace(life, time=time, severity=severity, changes=life.changes + 1)
    return ("updated" if severity else "cleared"), changed


def told(
    operator: Operator, change: Change, before: Life, life: Life, code: str, subject: str, parameters: Mapping[str, str],
    batch: Batch, row: int, time: int, cause: str, rule: str, rule_version: int,
) -> Emit:  # fmt: skip
    """The warning of a life that ``lived`` changed, at one record of a batch. A cleared one keeps its severity."""
    return warning(
        change,
        warning_id(operator.name, operator.version, subject, life.episode),
        code,
        severity=life.severity or before.severity,
        subject=subject,
        scope=batch.scopes[row],
        parameters=parameters,
        since=life.since,
        time=time,
        at=batch.received[row],
        known_at=batch.known_at(row),
        cause=cause,
        rule=rule,
        rule_version=rule_version,
        sequence=life.changes,
    )
