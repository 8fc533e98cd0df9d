"""What an operator is.

``step(state, batch) -> Effects``: no ports, no Faust, no asyncio, no clock of its own. The kernel hands it records in one
total order, the same in every run: by receive time, then upstream, then order within the upstream. So what an operator
emits depends only on the records and their receive times, never on where a batch or a commit happened to cut.

Times inside a step, all in ms since the epoch:

``received``
    of a record: when intake received it (of a derived input: when it was derived). Non-decreasing through all batches.
``batch.clock``
    every record with ``received < clock`` has been delivered by the end of this batch; later ones have ``>= clock``.
A timer due at ``d`` fires when a record with ``received >= d`` is reached (before that record) or at the end of the batch if
``d <= clock``. Either way its effects are the same, and their ``at`` is ``d``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from streams.kernel.state import Changes, State

__all__ = ["Batch", "Effects", "Emit", "Operator", "pane_tick"]

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in delivery order, as parallel columns, and the clock after them.

    ``values[i]`` is a whole CloudEvent as JSON bytes. ``scopes[i]`` is (enterprise, site, division) as stamped by intake.
    ``origins[i]`` names the canonical record, ``topic/partition/offset`` (derived inputs: the event id).
    ``known[i]`` is the greatest receive time among the record's causes (of an accepted record its own); empty means equal to
    ``received``. Derived inputs need it, because what a timer derived is known earlier than it was derived.
    """

    clock: int
    types: Sequence[str]
    received: Sequence[int]
    keys: Sequence[str]
    values: Sequence[bytes]
    scopes: Sequence[tuple[str, str, str]]
    origins: Sequence[str]
    known: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.types)

    def known_at(self, row: int) -> int:
        """Greatest receive time among the causes of one record."""
        return self.known[row] if self.known else self.received[row]

    def decode(self, decoders: Mapping[str, msgspec.json.Decoder[Any]]) -> Iterator[tuple[int, Any]]:
        """(row, decoded event) of each record whose type has a decoder, in order."""
        for row, type_ in enumerate(self.types):
            decoder = decoders.get(type_)
            if decoder is not None:
                yield row, decoder.decode(self.values[row])


@dataclass(frozen=True, slots=True)
class Emit:
    """One derived event.

    Attributes:
        type: a family with ``writer=OPERATOR``.
        identity: key, window and pane; with operator and version they make the event's id. The same identity is never
            emitted twice.
        time: event time, ms.
        at: when it became derivable: receive time of the record, or due time of the timer, that made it. Non-decreasing
            through the step.
        known_at: greatest receive time among the causes.
        data: the payload, a mapping that the family's model accepts.
        cause: origins or ids of the causes (few), or a range ``first..last``.
        corrects: id of the event that this one corrects.
        scope: enterprise, site, division for the record headers.
    """

    type: str
    identity: tuple[str | int, ...]
    time: int
    at: int
    known_at: int
    data: Mapping[str, Any]
    cause: str = ""
    corrects: str = ""
    scope: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, slots=True)
class Effects:
    """What a step did. ``changes`` is the checkpoint's delta."""

    events: Sequence[Emit] = ()
    changes: Changes = field(default_factory=dict)


class Operator(Protocol):
    """A deterministic state machine over an ordered stream; holds configuration only."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int:
        """Part of every derived id. Raise it when the same input would now give other output."""
        ...

    @property
    def inputs(self) -> frozenset[str]:
        """Event types it takes. Reference events reach it through ``state.reference`` instead."""
        ...

    @property
    def emits(self) -> frozenset[str]:
        """Event types it may emit. From here follows who writes a derived topic, whose clock its readers wait for."""
        ...

    @property
    def tables(self) -> Mapping[str, type[msgspec.Struct]]:
        """Its state tables: name to row type. Keys are text."""
        ...

    def step(self, state: State, batch: Batch) -> Effects: ...


PANE_MS = 1_000
"""Panes close on whole seconds of receive time: a record's receive time is itself a tick, so the grid alone decides which
records share a pane, whatever the batches were."""


def pane_tick(received: int) -> int:
    """The tick that closes the pane of a record received at ``received``: the next whole second after it."""
    return (received // PANE_MS + 1) * PANE_MS
