"""Progress is what is done, however often and in whatever order events come."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.engine.coverage import Coverage

TILES = {"a": 10, "b": 7}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(TILES)), st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_every_iteration_counts_once(steps: list[tuple[str, int]]) -> None:
    coverage = Coverage()
    first = [coverage.add(tile, n, TILES[tile]) for tile, n in steps]
    assert coverage.voxels == sum(TILES[tile] for tile, _ in set(steps))
    assert coverage.voxels + coverage.repeated == sum(TILES[tile] for tile, _ in steps)
    assert sum(first) == len(set(steps))


@given(st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_tile_resumed_from_a_checkpoint_ends_whole(began: int, rng: random.Random) -> None:
    """Whatever the order of its events, and also if it is rolled back to before where it began."""
    steps = list(range(began, 6))
    rng.shuffle(steps)
    coverage = Coverage()
    for n in [*steps, *rng.sample(steps, 1)]:
        coverage.add("a", n, 10)
    # In the order of a shuffled log the credit may exceed the truth only while events are missing.
    assert coverage.done == 60
    assert coverage.repeated == 10
    for n in range(began):
        coverage.add("a", n, 10)
        assert coverage.done == 60
    assert coverage.resumed == 0


@given(STEPS, st.integers(0, 60))
def test_a_tile_that_is_written_is_whole_whatever_events_there_were(
    steps: list[tuple[str, int]], first: int
) -> None:
    """Events are lost with workers, and may come after the receipt."""
    coverage = Coverage()
    for tile, n in steps[:first]:
        coverage.add(tile, n, TILES[tile])
    for tile, voxels in TILES.items():
        coverage.finish(tile, 6 * voxels)
    assert coverage.done == 6 * 17
    for tile, n in steps[first:]:
        coverage.add(tile, n, TILES[tile])
    coverage.finish("a", 60)
    assert coverage.done == 6 * 17
    assert coverage.voxels == sum(TILES[tile] for tile, _ in set(steps))
    coverage.finish("c", 0)  # of a receipt that does not say
    assert coverage.done == 6 * 17
