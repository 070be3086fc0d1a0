"""Plans: tiles partition the volume, fit its shards, and what cannot work is refused."""

import math
import pickle
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.units import MIB, format_bytes
from ddgm_dist.errors import PlanError
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.planning.config import PlanConfig
from ddgm_dist.planning.make_plan import make_plan
from ddgm_dist.planning.memory import CACHE
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.restored_start import RestorerTraits
from ddgm_dist.planning.tiling import blend_half_width, widest_read
from ddgm_dist.volumes.layout import VolumeLayout

MakeProblem = Callable[..., Problem]


def planned(problem: Problem, tile_rows: int | None = None, **others: Any) -> Plan:
    keys = PlanConfig(tile_rows=tile_rows)
    return make_plan(
        problem,
        keys,
        length=period(problem.geometry, widest_read(problem.geometry, problem.config)),
        **others,
    )


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "thickness": draw(st.integers(1, 40)),
        "rows": draw(st.integers(1, 40)),
        "field": draw(st.one_of(st.integers(1, 400), st.integers(1000, 1500))),
        "tilt": draw(st.sampled_from([5.0, 45.0, 70.0, 84.0])),
        "boundary": draw(st.sampled_from(["extended", "vacuum"])),
        "rows_per_call": draw(st.integers(1, 6)),
        "tile_columns": draw(st.one_of(st.none(), st.integers(16, 500))),
        "margin": draw(st.one_of(st.none(), st.integers(1, 200))),
        "planes": draw(st.sampled_from([("zx",), ("zx", "zx"), ("zy",), ("zx", "yx")])),
        "window_rows": draw(st.sampled_from([16, 24])),
        "overlap_rows": draw(st.sampled_from([0, 8])),
    }


@settings(max_examples=150, deadline=None)
@given(keys=problems(), split=st.one_of(st.none(), st.integers(1, 8)))
def test_tiles_partition_the_volume(
    make_problem: MakeProblem, keys: dict[str, Any], split: int | None
) -> None:
    problem = make_problem(**keys)
    try:
        plan = planned(problem, None if split is None else split * problem.rows_per_call)
    except PlanError as error:
        if error.argument != "tile_columns":
            raise
        return
    g = problem.geometry
    first, last = g.domain
    layout = VolumeLayout(plan.shape, plan.shard, plan.chunk)  # refuses shards of part chunks
    owned = np.zeros((g.rows, g.field), int)
    for tile in plan.tiles:
        own, read = tile.write_box, tile.read_box
        owned[own.y, own.x] += 1
        assert layout.covers_whole_shards(own)
        assert (own.start[0], own.stop[0]) == (0, g.thickness)
        assert own.start[1] % problem.rows_per_call == 0
        assert read.contains(own)
        if problem.lattice_rows is None:
            assert own.y == read.y  # tiles are coupled along x alone
        else:
            assert read.y.start == max(0, own.y.start - problem.halo)
            assert read.y.stop == min(g.rows, own.y.stop + problem.halo)
            assert read.y.start % problem.rows_per_call == 0
        assert first <= read.start[2]
        assert read.stop[2] <= last
        assert read.shape[2] <= widest_read(problem.geometry, problem.config)
    assert (owned == 1).all()
    assert len({tile.name for tile in plan.tiles}) == len(plan.tiles)
    half = blend_half_width(plan.margin)
    assert [tile.name for tile in plan.tiles] == sorted(tile.name for tile in plan.tiles)
    strips = groupby(plan.tiles, key=lambda tile: tile.write_box.y.start)
    strips = [tuple(strip) for _, strip in strips]
    assert plan.groups == (tuple(strips) if problem.halo == 0 else (tuple(plan.tiles),))
    for strip in strips:
        assert strip[0].read_box.start[2] == first
        assert strip[-1].read_box.stop[2] == last
        for left, right in pairwise(strip):
            # Both know the blending zone around their cut, and what lies beyond it.
            assert left.read_box.stop[2] >= left.write_box.stop[2] + half
            assert right.read_box.start[2] <= right.write_box.start[2] - half
    coupled = max(len(group) for group in plan.groups) > 1
    assert plan.order == ("step-major" if coupled else "tile-major")
    assert (plan.traffic.exchanged > 0) == coupled


def test_tiles_with_a_restored_start_read_farther(make_problem: MakeProblem) -> None:
    keys = {"field": 2000, "tile_columns": 256}
    traits = RestorerTraits("f" * 64, 16, 2)
    zero = planned(make_problem(**keys))
    restored = planned(make_problem(**keys, start="restored", traits=traits))
    assert restored.margin == zero.margin + 112
    chosen = planned(make_problem(**keys, start="restored", traits=traits, margin=100))
    assert chosen.margin == 100


@settings(max_examples=100, deadline=None)
@given(keys=problems())
def test_advice_on_narrow_tiles_can_be_followed(
    make_problem: MakeProblem, keys: dict[str, Any]
) -> None:
    problem = make_problem(**keys)
    try:
        planned(problem)
    except PlanError as error:
        advice = re.search(r"try (\d+)", error.hint)
        assert advice
        planned(make_problem(**{**keys, "tile_columns": int(advice[1])}))


@pytest.mark.parametrize(("field", "chunk"), [(1023, 16), (1024, 64)])
def test_chunks_are_wider_in_wide_volumes(
    make_problem: MakeProblem, field: int, chunk: int
) -> None:
    assert planned(make_problem(field=field)).chunk == (12, 4, chunk)


def test_a_field_is_not_cut_along_x_unless_asked_or_huge(make_problem: MakeProblem) -> None:
    assert len(planned(make_problem(field=8192)).groups[0]) == 1
    assert len(planned(make_problem(field=8193)).groups[0]) == 3
    cut = planned(make_problem(field=200, tile_columns=100, margin=40))
    assert [t.write_box.x for t in cut.groups[0]] == [slice(0, 112), slice(112, 200)]


def test_refuses_tiles_of_part_blocks(make_problem: MakeProblem) -> None:
    with pytest.raises(PlanError, match=r"tile_rows = 6: .*rows_per_call = 4.*try 8"):
        planned(make_problem(), tile_rows=6)


def test_refuses_too_little_memory_and_says_what_would_fit(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=64, field=2000, thickness=128)
    needs = planned(problem).memory.total
    assert planned(problem, memory=needs).memory.total == needs
    budget = (needs + 320 * MIB) // 2
    with pytest.raises(PlanError, match="memory") as caught:
        planned(problem, memory=budget)
    message = str(caught.value)
    assert "\n" not in message
    advice = re.findall(r"--set (\w+)=(\d+)", message)
    assert {key for key, _ in advice} == {"tile_columns", "window", "rows_per_call"}
    for key, value in advice:
        # Exactly as given it fits, and the next larger choice does not.
        keys = {"rows": 64, "field": 2000, "thickness": 128}
        assert planned(make_problem(**keys, **{key: int(value)}), memory=budget)
        larger = int(value) + {"tile_columns": 1000, "window": 64, "rows_per_call": 1}[key]
        if key != "tile_columns" or larger < 2000:
            with pytest.raises(PlanError, match="memory"):
                planned(make_problem(**keys, **{key: larger}), memory=budget)


def test_several_keys_are_advised_where_none_is_enough_alone(make_problem: MakeProblem) -> None:
    keys = {"rows": 64, "field": 2000, "thickness": 128}
    least = planned(make_problem(**keys, rows_per_call=1, window=256)).memory.total
    with pytest.raises(PlanError, match="memory") as caught:
        planned(make_problem(**keys), memory=least)
    (advice,) = re.findall(r"what fits is ([^;]*);", str(caught.value))
    found = {key: int(value) for key, value in re.findall(r"--set (\w+)=(\d+)", advice)}
    assert len(found) > 1
    assert planned(make_problem(**keys, **found), memory=least)
    with pytest.raises(PlanError, match="give at least"):  # libraries alone take more
        planned(make_problem(**keys), memory=100 * MIB)


def test_what_is_chosen_for_the_memory_never_changes_the_problem(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=512, field=9000, thickness=40)
    roomy, least = planned(problem), planned(problem, tile_rows=4).memory.total
    for budget in (None, roomy.memory.total, least):
        cuts = {t.write_box.start[2] for t in planned(problem, memory=budget).tiles}
        assert cuts == {t.write_box.start[2] for t in roomy.tiles}


def test_states_go_to_the_store_where_they_do_not_fit(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=64, field=9000, tile_columns=1024, thickness=64)
    free = planned(problem)
    assert free.state == "memory"
    everything = free.memory.resident(len(free.groups[0]))
    assert planned(problem, memory=everything).state == "memory"
    tight = planned(problem, memory=everything - 1)
    assert tight.state == "store"
    assert tight.worker_memory <= everything - 1
    # Several workers keep a share each.
    assert planned(problem, memory=everything - 1, workers=4).state == "memory"


def test_a_slice_a_million_wide_is_planned_in_seconds(make_problem: MakeProblem) -> None:
    problem = make_problem(thickness=128, rows=1, field=1_000_000, tilt=60.0)
    began = time.perf_counter()
    plan = planned(problem, memory=2 * 2**30, workers=2)
    assert time.perf_counter() - began < 5
    assert problem.rows_per_call == 1
    assert plan.shard[1] == 1
    assert len(plan.tiles) == len(plan.groups[0]) == 245
    assert plan.worker_memory < 2 * 2**30
    assert plan.halo < 0.2


def test_coupled_tiles_shrink_to_fit_the_memory(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=512, field=2000, tile_columns=640, thickness=40)
    roomy, least = planned(problem), planned(problem, tile_rows=4)
    budget = (roomy.memory.total + least.memory.total) // 2
    tight = planned(problem, memory=budget)
    assert len(tight.tiles) > len(roomy.tiles)
    assert tight.memory.total <= budget
    # Tiles that were asked for are not silently made smaller.
    with pytest.raises(PlanError, match="memory"):
        planned(problem, tile_rows=roomy.tiles[0].write_box.shape[1], memory=budget)


def test_memory_of_a_tile_does_not_depend_on_the_volume(make_problem: MakeProblem) -> None:
    """Uncoupled tiles keep one block; more rows are more work. Only the cache fills up."""
    few, many, more = (planned(make_problem(rows=n, field=900)).memory for n in (4, 30_000, 60_000))
    assert many.total == more.total
    assert many.total - few.total == CACHE - few.parts()["cache"]


@pytest.mark.parametrize("coupled", [False, True])
def test_the_description_tells_the_facts(make_problem: MakeProblem, coupled: bool) -> None:
    keys = {"tile_columns": 64, "margin": 32} if coupled else {}
    plan = planned(make_problem(field=192, N=7, **keys))
    text = plan.describe()
    facts = [
        "12 x 8 x 192",
        f"tiles           {len(plan.tiles)} ({len(plan.groups)} along y",
        plan.order,
        "iterations      7",
        f"denoiser calls  {plan.denoiser_calls}",
        str(plan.shard),
        str(plan.chunk),
        f"worker memory   {format_bytes(plan.worker_memory)}",
        *(f"{name} {format_bytes(size)}" for name, size in plan.memory.parts().items()),
        f"halo            {100 * plan.halo:.1f} %",
        f"{format_bytes(plan.traffic.exchanged)} through the object store"
        if coupled
        else "nothing is moved",
        "3 coupled tiles along x" if coupled else "no tile talks to another",
    ]
    assert all(len(line) <= 80 for line in text.splitlines())
    # Lines may break within a fact.
    words = " ".join(text.split())
    assert [fact for fact in facts if " ".join(fact.split()) not in words] == []
    assert all(len(line) < 300 for line in text.splitlines())


def test_planes_along_y_couple_all_tiles(make_problem: MakeProblem) -> None:
    keys = {"planes": ("zx", "zy", "yx"), "rows_per_call": 8}
    (whole,) = planned(make_problem(rows=1000, field=192, **keys)).tiles
    assert whole.write_box.y == slice(0, 1000)
    problem = make_problem(rows=1000, field=192, thickness=40, tile_columns=96, margin=32, **keys)
    plan = planned(problem, tile_rows=304)
    assert len(plan.groups) == 1
    tiles = [(t.write_box.y, t.read_box.y) for t in plan.tiles[::2]]
    assert tiles[:2] == [
        (slice(0, 304), slice(0, 424)),
        (slice(304, 608), slice(184, 728)),
    ]
    text = plan.describe()
    assert "tiles           8 (4 along y, 2 along x)" in text
    assert "step-major: all 4 x 2 tiles are coupled, along y and x" in text
    halo = re.search(r"halo +([\d.]+) %", text)
    assert halo
    solved = sum(t.read_box.size for t in plan.tiles) / (40 * 1000 * 192)
    assert float(halo[1]) == pytest.approx(100 * (solved - 1), abs=0.06)


def test_a_tile_with_a_halo_owns_more_than_it_only_reads(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=4000, field=8000, thickness=200, planes=("zx", "yx"))
    tiles = planned(problem).tiles
    assert len(tiles) > 4
    assert all(t.write_box.shape[1] >= 2 * problem.halo for t in tiles[:-1])
    assert planned(replace(problem, lattice_rows=None)).tiles[0].write_box.shape[1] == 4


def test_work_is_counted(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=8, field=96, N=5)
    plan = planned(problem, itemsize=2)
    reach = problem.geometry.reach
    assert plan.denoiser_calls == 5 * 2  # one window; two blocks of four rows
    assert plan.voxels == 12 * 8 * (96 + 2 * reach)
    assert plan.bytes_read == 3 * 8 * 96 * 2
    assert plan.bytes_written == 4 * 12 * 8 * 96


def test_work_of_all_planes_is_counted(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=200, field=96, N=5, planes=("zx", "zy", "yx"), window_rows=100)
    plan = planned(problem, tile_rows=100)
    x = 96 + 2 * problem.geometry.reach
    zy, yx = problem.slices_per_call("zy"), problem.slices_per_call("yx")
    # Of 96 rows each, shifted by any of 64: on average 2.8 meet a tile's hundred.
    windows = 3
    assert problem.lattice_rows.width == 96
    # Halos are read, but denoised only where a window reaches into them.
    assert plan.denoiser_calls == 2 * (
        2 * 25 + 2 * windows * math.ceil(x / zy) + 1 * windows * math.ceil(12 / yx)
    )
    assert plan.bytes_read == 3 * (188 + 188) * 96 * 4


@pytest.mark.parametrize("neighbours", [0, 1, 3, 6])
def test_the_work_of_a_restored_start_is_counted(
    make_problem: MakeProblem, neighbours: int
) -> None:
    """A call for each block and window; the rows beside each block are read for it."""
    traits = RestorerTraits("f" * 64, 8, neighbours)
    keys: dict[str, Any] = {"rows": 11, "field": 400, "window": 96, "overlap": 16, "N": 5}
    base = make_problem(**keys)
    problem = make_problem(**keys, start="restored", restorer="mine:f", traits=traits)
    cold = planned(base, 8)
    assert cold.restorer_calls == 0
    assert "restorer calls" not in cold.describe()
    for rows in (4, 8, 12):
        plan = planned(problem, rows)
        assert plan.denoiser_calls == cold.denoiser_calls
        assert plan.restorer_calls == plan.denoiser_calls / 5
        blocks = [range(y, y + 4) for y in (0, 4, 8)]
        beside = [
            y
            for b in blocks
            for y in range(11)
            if y not in b and b.start - neighbours <= y < b.stop + neighbours
        ]
        assert plan.bytes_read == cold.bytes_read + 3 * 400 * 4 * len(beside)
        assert f"restorer calls  {plan.restorer_calls}" in plan.describe()
        assert plan.memory.total >= planned(base, rows).memory.total


@pytest.mark.parametrize("planes", ["zx", "zx,zy"])
def test_a_plan_is_sent_as_its_cuts(make_problem: MakeProblem, planes: str) -> None:
    """Every worker holds one: a hundred thousand tiles are no more than two."""
    keys: dict[str, Any] = {"tile_columns": 64, "margin": 16, "planes": planes}
    many, few = (
        planned(make_problem(rows=rows, field=192, **keys), tile_rows=256) for rows in (60000, 500)
    )
    assert len(many.tiles) > 100 * len(few.tiles)
    sent = pickle.dumps(many)
    assert len(sent) < len(pickle.dumps(few)) + 100
    tiles = pickle.loads(sent).tiles
    every = list(many.tiles)
    assert list(tiles) == every == [tiles[i] for i in range(len(tiles))]
    assert tiles[-1] == every[-1]
    assert list(tiles[3:-2:4]) == every[3:-2:4]
    with pytest.raises(IndexError):
        tiles[len(tiles)]
    # What is kept of those that are asked for has no dictionary.
    assert not hasattr(tiles[0], "__dict__")
    assert not hasattr(tiles[0].read_box, "__dict__")
    assert pickle.loads(pickle.dumps(tiles[5])) == every[5]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"tile_columns": 64, "margin": 32},
        {"planes": ("zx", "yx"), "window_rows": 16, "overlap_rows": 4},
    ],
    ids=["free", "x", "planes"],
)
def test_samples_are_one_more_axis(make_problem: MakeProblem, keys: dict[str, Any]) -> None:
    """Each has the tiles of the only one; groups are of one sample; costs multiply."""
    one = planned(make_problem(rows=30, field=192, **keys), 8)
    plan = planned(make_problem(rows=30, field=192, samples=3, **keys), 8)
    assert list(plan.combined) == list(one.tiles)
    assert one.combined == ()
    assert (len(plan.tiles), plan.units) == (3 * len(one.tiles), 4 * len(one.tiles))
    for k in range(3):
        mine = [tile for tile in plan.tiles if tile.sample == k]
        boxes = [(t.place, t.write_box, t.read_box) for t in mine]
        assert boxes == [(t.name, t.write_box, t.read_box) for t in one.tiles]
    assert [tile.name for tile in plan.tiles] == sorted({tile.name for tile in plan.tiles})
    assert [len(group) for group in plan.groups] == 3 * [len(group) for group in one.groups]
    assert all(len({tile.sample for tile in group}) == 1 for group in plan.groups)
    assert plan.denoiser_calls == 3 * one.denoiser_calls
    assert (plan.work, plan.voxels) == (3 * one.work, 3 * one.voxels)
    assert plan.traffic.exchanged == 3 * one.traffic.exchanged
    assert plan.halo == pytest.approx(one.halo)
    assert plan.bytes_written == 5 * one.bytes_written
    assert plan.worker_memory == one.worker_memory
    assert plan.order == one.order
    assert "samples         3, of which" in plan.describe()
    assert plan.to_dict()["samples"] == 3
