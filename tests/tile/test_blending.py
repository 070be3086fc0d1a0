"""Coupled tiles are blended by windows that sum to one, in an order of their own."""

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.planning.tiling import Tile, blend_half_width
from ddgm_dist.tile.blending import Piece, blend, blend_window, cut_piece


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Tile], int]:
    """Tiles that partition ``[0, field)`` at random cuts, as wide as blending needs."""
    margin = draw(st.integers(1, 90))
    pad = draw(st.integers(0, 30))
    narrow = 2 * blend_half_width(margin)
    widths = draw(st.lists(st.integers(narrow, narrow + 60), min_size=1, max_size=5))
    cuts = np.cumsum([0, *widths]).tolist()
    field = cuts[-1]
    tiles = []
    for a, b in pairwise(cuts):
        first = -pad if a == 0 else max(-pad, a - margin)
        last = field + pad if b == field else min(field + pad, b + margin)
        tiles.append(
            Tile(f"x{a:06d}", Box((0, 4, a), (3, 6, b)), Box((0, 4, first), (3, 6, last)), 0)
        )
    return tiles, margin


def states(tiles: list[Tile], margin: int, values: torch.Tensor) -> dict[str, Piece]:
    """Each tile's part of ``values``, which lie over the domain, times its window."""
    first, field = tiles[0].read_box.start[2], tiles[-1].write_box.stop[2]
    found = {}
    for tile in tiles:
        start, weight = blend_window(tile, field, margin)
        stop = start + len(weight)
        (z0, y0, _), (z1, y1, _) = tile.write_box.start, tile.write_box.stop
        state = values[..., start - first : stop - first] * weight
        found[tile.name] = Piece(Box((z0, y0, start), (z1, y1, stop)), state)
    return found


def exchanged(tiles: list[Tile], margin: int, values: torch.Tensor) -> list[dict[str, Piece]]:
    """What each tile receives when all hold their part of ``values`` over the domain."""
    mail: list[dict[str, Piece]] = []
    held = states(tiles, margin, values)
    for receiver in tiles:
        pieces = {
            name: cut_piece(state.box, torch.as_tensor(state.values), receiver)
            for name, state in held.items()
        }
        mail.append({name: piece for name, piece in pieces.items() if piece is not None})
    return mail


@settings(max_examples=80, deadline=None)
@given(group=groups())
def test_windows_sum_to_one_over_the_domain(group: tuple[list[Tile], int]) -> None:
    tiles, margin = group
    first, last = tiles[0].read_box.start[2], tiles[-1].read_box.stop[2]
    total = np.zeros(last - first)
    half = blend_half_width(margin)
    for tile in tiles:
        start, weight = blend_window(tile, tiles[-1].write_box.stop[2], margin)
        assert weight.dtype == torch.float32
        assert bool(((weight >= 0) & (weight <= 1)).all())
        # A window lies in what its tile reads, and away from the border of what it knows.
        assert tile.read_box.start[2] <= start
        assert start + len(weight) <= tile.read_box.stop[2]
        core = slice(tile.write_box.start[2] + half - start, tile.write_box.stop[2] - half - start)
        assert bool((weight[core] == 1).all())
        total[start - first : start - first + len(weight)] += weight.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(group=groups(), seed=st.integers(0, 99))
def test_tiles_that_agree_are_left_as_they_are(group: tuple[list[Tile], int], seed: int) -> None:
    tiles, margin = group
    start, stop = tiles[0].read_box.start[2], tiles[-1].read_box.stop[2]
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 2, stop - start, generator=generator)
    for tile, mail in zip(tiles, exchanged(tiles, margin, values), strict=True):
        box = tile.read_box
        expected = values[..., box.start[2] - start : box.stop[2] - start]
        torch.testing.assert_close(blend(box, mail), expected, rtol=1e-5, atol=1e-5)


def test_the_sum_does_not_depend_on_the_order() -> None:
    """Of three terms, floating point tells; windows overlap in twos, but need not forever."""
    box = Box((0, 0, 0), (4, 4, 64))
    noise = np.random.default_rng(0).standard_normal((3, *box.shape)).astype(np.float32)
    pieces = {name: Piece(box, part) for name, part in zip("abc", noise, strict=True)}
    expected = blend(box, pieces)
    for names in permutations("abc"):
        assert torch.equal(blend(box, {name: pieces[name] for name in names}), expected)


def test_neighbours_see_the_same_voxels_afterwards() -> None:
    """What two tiles disagree on is settled for both: their common columns are equal."""
    tiles = [
        Tile("a", Box((0, 0, 0), (1, 1, 64)), Box((0, 0, 0), (1, 1, 96)), 0),
        Tile("b", Box((0, 0, 64), (1, 1, 128)), Box((0, 0, 32), (1, 1, 128)), 0),
    ]
    values = torch.ones(1, 1, 128)
    held = states(tiles, 32, values)
    held["a"] = replace(held["a"], values=torch.as_tensor(held["a"].values) * 0)
    mail = {
        tile.name: {
            name: piece
            for name, state in held.items()
            if (piece := cut_piece(state.box, torch.as_tensor(state.values), tile))
        }
        for tile in tiles
    }
    a, b = (blend(tile.read_box, mail[tile.name])[0, 0] for tile in tiles)
    assert torch.equal(a[32:96], b[:64])
    assert bool((a[:48] == 0).all())
    assert bool((b[80 - 32 :] == 1).all())
    assert bool((b.diff() >= 0).all())
    assert float(b[32 - 1 : 32 + 1].mean()) == pytest.approx(0.5)


def test_read_only_pieces_are_not_written_to() -> None:
    """Arrays from the object store are read-only and shared."""
    box = Box((0, 0, 0), (1, 1, 8))
    values = np.ones((1, 1, 8), np.float32)
    values.setflags(write=False)
    piece = Piece(box, values)
    assert torch.equal(blend(box, {"a": piece, "b": replace(piece)}), torch.full((1, 1, 8), 2.0))
