"""Dedup equals a plain set of ids, for any order of ids, any cut into commits, and any restart."""

import random
import sys
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.intake.dedup import CHUNK, DedupPolicy, Seen, Verdict, split_id

DAY = 86_400_000
NOW = 1_772_330_000_000


def digest(content: int) -> bytes:
    return content.to_bytes(4, "big")


class Store:
    """The task's state, as commits leave it."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.written = 0

    def commit(self, seen: Seen) -> None:
        for key, value in seen.take_changes().items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
                self.written += len(value)

    def restored(self, policy: DedupPolicy | None = None) -> Seen:
        seen = Seen(policy)
        seen.restore(self.entries)
        return seen


def test_ids_split_one_to_one() -> None:
    same = ["0", "1", "42", "e1-42", "e1-0042", "e1-00042", "-42", "--42", "a-b-7", "0042", "00042", "e1-0", "e1-00", "9" * 18]
    pairs = [split_id(id_) for id_ in same]
    assert None not in pairs
    assert len(set(pairs)) == len(pairs)
    for natural in ("", "a", "a42", "42a", "e1-", "e1-4x", "9" * 19, "1.5", "-", "٣", "e1-٣", "2026-03-01T00:00:00Z"):
        assert split_id(natural) is None


@settings(max_examples=500, deadline=None)
@given(
    st.text(st.sampled_from("0123456789-ae"), min_size=1, max_size=9),
    st.text(st.sampled_from("0123456789-ae"), min_size=1, max_size=9),
)
def test_ids_that_differ_never_split_alike(one: str, other: str) -> None:
    if one != other and split_id(one) is not None:
        assert split_id(one) != split_id(other)


_ids = st.one_of(
    st.integers(0, 40).map(str),
    st.integers(200, 600).map(lambda n: f"e1-{n}"),
    st.integers(0, 2000).map(lambda n: f"e2-{n * 37}"),
    st.integers(0, 300).map(lambda n: f"{n:05d}"),
    st.integers(0, 10**17).map(str),
    st.integers(0, 60).map(lambda n: f"row {n}x"),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("ab"), _ids, st.integers(0, 1)),
        st.tuples(st.just("commit"), st.just(""), st.just(""), st.just(0)),
        st.tuples(st.just("restart"), st.just(""), st.just(""), st.just(0)),
        st.tuples(st.just("days"), st.just(""), st.just(""), st.sampled_from([1, 20, 33])),
    ),
    min_size=10,
    max_size=200,
)


@settings(max_examples=200, deadline=None)
@given(
    _steps,
    st.sampled_from(
        [
            DedupPolicy(),
            DedupPolicy(max_digest_bytes=64),
            DedupPolicy(open_leaves=1, sweep_chunks=1),
            DedupPolicy(sparse_chunks=2, sparse_ids=3, prefixes=2),
        ]
    ),
)
def test_it_equals_a_set_for_any_order_commits_and_restarts(
    steps: list[tuple[str, str, str, int]], policy: DedupPolicy
) -> None:
    model: dict[tuple[str, str], tuple[int, int]] = {}
    committed = dict(model)
    store, seen, now = Store(), Seen(policy), NOW
    for what, source, id_, number in steps:
        if what == "add":
            seen.sweep(now)
            verdict = seen.add(source, id_, digest(number), now, now - 5 * DAY)
            old = model.get((source, id_))
            if old is None:
                assert verdict is Verdict.NEW
                model[source, id_] = (number, now)
            elif old[0] == number:
                assert verdict is Verdict.DUPLICATE
            elif now - old[1] <= policy.compare_ms and policy.max_digest_bytes > 64:
                assert verdict is Verdict.REUSED
            else:
                assert verdict in (Verdict.DUPLICATE, Verdict.REUSED)
        elif what == "commit":
            store.commit(seen)
            committed = dict(model)
        elif what == "restart":  # what was not committed is gone, in the model as in the state
            seen = store.restored(policy)
            model = dict(committed)
        else:
            now += number * DAY


def test_other_content_is_told_for_32_days_and_then_no_more() -> None:
    for id_ in ("e1-7", "a natural id"):
        seen = Seen()
        assert seen.add("s", id_, digest(1), NOW, NOW) is Verdict.NEW
        last = NOW + 32 * DAY
        seen.sweep(last)
        assert seen.add("s", id_, digest(2), last, NOW) is Verdict.REUSED
        assert seen.add("s", id_, digest(1), last, NOW) is Verdict.DUPLICATE
        # Uncompared by age alone, whether or not the sweep has come by.
        assert seen.add("s", id_, digest(2), last + 1000, NOW) is Verdict.DUPLICATE
        seen.sweep(last + 1000)
        assert seen.add("s", id_, digest(2), last + 1000, NOW) is Verdict.DUPLICATE
    assert seen.digest_bytes == 0


def test_ids_in_order_end_as_one_range() -> None:
    store, seen = Store(), Seen(DedupPolicy(sweep_chunks=10_000))
    for number in range(100 * CHUNK):
        seen.add("urn:dev:org:32473-wb-1", f"e1-{number}", digest(number), NOW, NOW)
    store.commit(seen)
    assert len(store.entries) == 100
    seen.sweep(NOW + 33 * DAY)
    store.commit(seen)
    assert len(store.entries) == 1
    assert seen.chunks == 0
    assert sum(len(k) + len(v) for k, v in store.entries.items()) < 64
    again = store.restored()
    assert again.add("urn:dev:org:32473-wb-1", "e1-25599", digest(0), NOW, NOW) is Verdict.DUPLICATE
    assert again.add("urn:dev:org:32473-wb-1", "e1-25600", digest(0), NOW, NOW) is Verdict.NEW


def test_ids_backwards_and_shuffled_end_as_one_range_too() -> None:
    for seed in range(3):
        numbers = list(range(20 * CHUNK))
        random.Random(seed).shuffle(numbers)
        store, seen = Store(), Seen(DedupPolicy(sweep_chunks=10_000))
        for at, number in enumerate(numbers):
            assert seen.add("s", str(number), digest(number), NOW + at, NOW) is Verdict.NEW
            if at % 500 == 0:
                store.commit(seen)
        seen.sweep(NOW + 33 * DAY)
        store.commit(seen)
        assert len(store.entries) == 1


def test_memory_and_writes_of_many_sources_in_order_stay_small() -> None:
    """The bound per source is what counts: ten thousand sources are two hundred times these fifty."""
    sources = [f"urn:dev:org:32473-wb-{n}" for n in range(50)]
    policy = DedupPolicy(sweep_chunks=10_000, max_digest_bytes=50 * CHUNK * 4)
    store, seen = Store(), Seen(policy)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for first in range(0, 1_000, 50):
        for source in sources:
            for number in range(first, first + 50):
                seen.add(source, f"e1-{number}", digest(number), NOW + first, NOW)
        seen.sweep(NOW + first)
        store.commit(seen)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # 50,000 ids; a set of them would take about 7 MB. Digests are held to one chunk a source by the policy above.
    assert used < 400_000, used
    assert seen.digest_bytes <= policy.max_digest_bytes
    assert sys.getsizeof(store.entries) < 100_000
    assert all(seen.add(s, "e1-17", digest(17), NOW, NOW) is Verdict.DUPLICATE for s in sources)


def test_natural_ids_cost_few_bytes_and_leaves_only_grow() -> None:
    store, seen = Store(), Seen()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(20_000):
        seen.add("s", f"row {number}x", digest(number), NOW, NOW + number // 1000 * DAY)
        if number % 500 == 499:
            store.commit(seen)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / 20_000 < 150, used  # the store of this test included
    days = {key[-12:-8] for key in store.entries}
    assert len(days) >= 20
    assert store.written < 4 * 16 * 20_000
    assert store.restored().natural_ids == 20_000


def test_crowded_digests_go_early_and_ids_stay() -> None:
    seen = Seen(DedupPolicy(max_digest_bytes=4 * CHUNK, sweep_chunks=100))
    for number in range(4 * CHUNK):
        seen.add("s", str(number), digest(number), NOW + number, NOW)
        seen.sweep(NOW + number)
    assert seen.digest_bytes <= 4 * CHUNK + 4 * CHUNK
    assert seen.add("s", "0", digest(99), NOW + 2000, NOW) is Verdict.DUPLICATE
    assert seen.add("s", str(4 * CHUNK - 1), digest(0), NOW + 2000, NOW) is Verdict.REUSED


def test_times_as_ids_cost_no_chunk_each() -> None:
    """A meter read every fifteen minutes whose ids are epoch seconds: no id is near another."""
    store, seen = Store(), Seen()
    ids = [str(1_700_000_000 + 900 * n) for n in range(20_000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for at, id_ in enumerate(ids):
        assert seen.add("s", id_, digest(at), NOW, NOW) is Verdict.NEW
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert seen.chunks == 64
    assert used / len(ids) < 60, used
    store.commit(seen)
    assert len(store.entries) < 400
    for again in (seen, store.restored()):
        assert all(again.add("s", id_, digest(at), NOW, NOW) is Verdict.DUPLICATE for at, id_ in enumerate(ids))
        assert again.add("s", ids[-1], digest(0), NOW, NOW) is Verdict.REUSED


def test_many_prefixes_cost_no_series_each() -> None:
    store, seen = Store(), Seen()
    ids = [f"order {n}-{line}" for n in range(3_000) for line in (1, 2)]
    for at, id_ in enumerate(ids):
        assert seen.add("s", id_, digest(at), NOW, NOW) is Verdict.NEW
    assert seen.chunks == 256
    store.commit(seen)
    assert len(store.entries) < 400
    again = store.restored()
    assert all(again.add("s", id_, digest(at), NOW, NOW) is Verdict.DUPLICATE for at, id_ in enumerate(ids))
    assert again.add("other", "order 9-1", digest(0), NOW, NOW) is Verdict.NEW
