"""The laws of operators, as one harness: give it an operator group and a strategy for its input.

``check_laws`` runs the same ordered input whole and cut up, and demands that what is emitted (order, identities, data, times)
and the state that is left are the same; the cuts may fall anywhere, clocks in between included, and the state may be
written to entries and read back into a new store at any of them. To add an operator, add a line to ``CASES`` in
``test_laws.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import derived_id, encode_event, ms_of
from hengliu.events.family import EventData
from streams.kernel.operator import Batch, Emit, Operator
from streams.kernel.reference import KEYS, REFERENCE_TABLES, Reference, Versions
from streams.kernel.state import State, StateStore

__all__ = ["Cut", "Emitted", "Input", "Run", "check_laws", "cuts", "in_receive_order", "reference_of", "run"]

CATALOG = Catalog()
SCOPE = ("m01", "m01", "150303")


@dataclass(frozen=True)
class Input:
    """One record as the kernel hands it over. ``data`` is the payload as JSON-ready members."""

    type: str
    received: int
    time: int
    data: Mapping[str, Any]
    source: str = "urn:dev:org:32473-test"
    id: str = ""
    key: str = ""
    scope: tuple[str, str, str] = SCOPE
    known: int = 0

    @property
    def value(self) -> bytes:
        return encode_event(self.type, self.source, self.id, self.time, self.data)

    @property
    def origin(self) -> str:
        return f"{self.source}#{self.id}"


@dataclass(frozen=True)
class Cut:
    """A batch ends before record ``before``; its clock lies ``clock_share`` of the way to that record's receive time."""

    before: int
    clock_share: float
    restore: bool
    empty_after: bool


@dataclass(frozen=True)
class Emitted:
    """An emitted event with the id that the kernel gives it."""

    operator: str
    id: str
    emit: Emit


@dataclass
class Run:
    """What came out, and the rows that are left, by (operator, table)."""

    emitted: list[Emitted] = field(default_factory=list)
    state: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def of(self, type_: str) -> list[Emitted]:
        return [e for e in self.emitted if e.emit.type == type_]

    def data(self, type_: str) -> list[Mapping[str, Any]]:
        return [e.emit.data for e in self.of(type_)]


def in_receive_order(inputs: Sequence[Input]) -> list[Input]:
    """Sorted by receive time, with ids where none was given."""
    ordered = sorted(inputs, key=lambda i: i.received)
    return [
        i if i.id else Input(i.type, i.received, i.time, i.data, i.source, f"e{n}", i.key, i.scope, i.known)
        for n, i in enumerate(ordered)
    ]


def reference_of(registered: Sequence[EventData]) -> Reference:
    """Reference data that is known before the first record."""
    by_model = {model: (table, key) for table, model, key in KEYS.values()}
    tables: dict[str, dict[str, Versions]] = {name: {} for name in REFERENCE_TABLES}
    for data in registered:
        table, member = by_model[type(data)]
        valid_from = getattr(data, "valid_from", None)
        since = 0 if valid_from is None else ms_of(valid_from)
        key = str(getattr(data, member))
        known = tables[table].get(key, Versions([], []))
        tables[table][key] = known.with_version(since, data.model_dump_json(exclude_none=True).encode())
    return Reference(tables)


def cuts(size: int) -> st.SearchStrategy[list[Cut]]:
    """Any cutting of ``size`` records, with clocks and restores."""
    cut = st.builds(Cut, st.integers(0, size), st.floats(0, 1), st.booleans(), st.booleans())
    return st.lists(cut, max_size=6).map(lambda found: sorted(found, key=lambda c: (c.before, c.clock_share)))


def run(
    operators: Sequence[Operator],
    inputs: Sequence[Input],
    until: int,
    registered: Sequence[EventData] = (),
    cut_at: Sequence[Cut] = (),
    lane: int = 0,
) -> Run:
    """Feed the inputs, cut as told, with a last clock of ``until``; a later operator sees what the earlier ones emit."""
    tables = {(o.name, name): row for o in operators for name, row in o.tables.items()}
    store = StateStore(tables)
    entries: dict[bytes, bytes] = {}
    reference = reference_of(registered)
    out = Run()

    def step(rows: Sequence[Input], clock: int) -> None:
        derived: list[tuple[Emit, str, bytes]] = []
        for operator in operators:
            mine = [(i.type, i.received, i.key, i.value, i.scope, i.origin, i.known or i.received) for i in rows]
            mine += [(e.type, e.at, "", value, e.scope, id_, e.known_at) for e, id_, value in derived]
            mine = sorted((row for row in mine if row[0] in operator.inputs), key=lambda row: row[1])
            columns = list(zip(*mine, strict=True)) if mine else [()] * 7
            effects = operator.step(State(operator.name, store, reference, lane), Batch(clock, *columns))
            store.apply(effects.changes)
            last = 0
            for emit in effects.events:
                id_ = derived_id(operator.name, operator.version, *emit.identity)
                value = encode_event(emit.type, f"/streams/{operator.name}", id_, emit.time, emit.data)
                assert last <= emit.at <= clock, f"{operator.name}: at must not decrease nor pass the clock"
                last = emit.at
                assert emit.known_at <= emit.at
                CATALOG[emit.type].data.model_validate_json(msgspec.json.encode(msgspec.json.decode(value)["data"]))
                derived.append((emit, id_, value))
                out.emitted.append(Emitted(operator.name, id_, emit))

    def checkpoint() -> None:
        for key, blob in store.checkpoint().items():
            if blob is None:
                entries.pop(key, None)
            else:
                entries[key] = blob

    at = 0
    clock = 0
    for cut in cut_at:
        if cut.before < at:
            continue
        floor = max(clock, inputs[cut.before - 1].received if cut.before else 0)
        ceiling = inputs[cut.before].received if cut.before < len(inputs) else until
        clock = floor + int((ceiling - floor) * cut.clock_share)
        step(inputs[at : cut.before], clock)
        at = cut.before
        if cut.restore:
            checkpoint()
            store = StateStore(tables)
            store.restore(entries)
        if cut.empty_after:
            clock = clock + (ceiling - clock) // 2
            step([], clock)
    step(inputs[at:], until)
    checkpoint()
    for key in tables:
        rows = dict(store.table(*key))
        out.state[key] = rows
        again = StateStore(tables)
        again.restore(entries)
        assert dict(again.table(*key)) == rows, "what checkpoints left is not the state"
    return out


def check_laws(
    operators: Sequence[Operator],
    inputs: Sequence[Input],
    until: int,
    registered: Sequence[EventData],
    cut_at: Sequence[Cut],
) -> Run:
    """Assert every law over one input; returns the uncut run for laws of its own operator."""
    whole = run(operators, inputs, until, registered)
    again = run(operators, inputs, until, registered)
    assert again.emitted == whole.emitted, "a replay differs"
    pieces = run(operators, inputs, until, registered, cut_at)
    for operator in operators:
        mine = [e for e in whole.emitted if e.operator == operator.name]
        assert [e for e in pieces.emitted if e.operator == operator.name] == mine, "a cut shows in what is emitted"
    assert pieces.state == whole.state, "a cut shows in the state"
    ids = [e.id for e in whole.emitted]
    assert len(set(ids)) == len(ids), "an identity is emitted twice"
    return whole
