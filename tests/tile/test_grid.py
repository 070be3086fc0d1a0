"""Neighbourhoods are those that comparing all pairs finds."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.planning.tiling import Tile, blend_half_width, make_tiles, window_support
from ddgm_dist.tile.grid import TileGrid


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 9),
    tile_rows=st.integers(1, 4),
    halo=st.integers(0, 5),
    columns=st.integers(1, 5),
    margin=st.integers(1, 40),
    extra=st.integers(0, 30),
)
def test_senders_and_receivers(
    rows: int, tile_rows: int, halo: int, columns: int, margin: int, extra: int
) -> None:
    width = 2 * blend_half_width(margin) + extra
    field = width * columns
    geometry = Geometry((0.0,), 1, rows, field)
    tiles = tuple(
        Tile(
            f"y{y:03d}-x{x:05d}",
            Box((0, y, x), (1, min(rows, y + tile_rows), x + width)),
            Box(
                (0, max(0, y - halo), max(0, x - margin)),
                (1, min(rows, y + tile_rows + halo), min(field, x + width + margin)),
            ),
            0 if halo else y,
        )
        for y in range(0, rows, tile_rows)
        for x in range(0, field, width)
    )
    plan = SimpleNamespace(tiles=tiles, margin=margin)
    grid = TileGrid(plan, geometry, 1)  # type: ignore[arg-type]

    def reaches(sender: Tile, receiver: Tile) -> bool:
        start, stop = window_support(sender, field, margin)
        own = sender.write_box
        state = Box((0, own.start[1], start), (1, own.stop[1], stop))
        same = sender.group == receiver.group
        return same and state.intersection(receiver.read_box) is not None

    for tile in tiles:
        assert grid.senders(tile) == [s for s in tiles if reaches(s, tile)]
        assert grid.receivers(tile) == [r for r in tiles if reaches(tile, r)]
        assert grid.support(tile) == window_support(tile, field, margin)
        assert tile in grid.senders(tile)
    every = [key for tile in tiles for key in grid.chunks(tile)]
    assert len(every) == len(set(every)) == columns * rows


def test_samples_touch_only_themselves_and_have_chunks_of_their_own() -> None:
    geometry = Geometry((0.0,), 1, 6, 192)
    tiles = make_tiles(geometry, tile_rows=2, tile_columns=64, margin=32, halo=2, samples=3)
    plan = SimpleNamespace(tiles=tiles, margin=32)
    grid = TileGrid(plan, geometry, 2)  # type: ignore[arg-type]
    every = [key for tile in tiles for key in grid.chunks(tile)]
    assert len(every) == len(set(every)) == 3 * 3 * 3
    assert {int(key.split("/")[0]) for key in every} == set(range(grid.layout.columns))
    for tile in tiles:
        near = [*grid.senders(tile), *grid.receivers(tile)]
        assert {other.sample for other in near} == {tile.sample}
        assert tile in near
