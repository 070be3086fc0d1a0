"""Bytes exchanged between coupled tiles, from the overlaps of their windows and read boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ddgm_dist.core.units import format_bytes
from ddgm_dist.planning.tiling import Tile, window_support

__all__ = ["State", "Traffic", "traffic"]

Range = tuple[int, int]
# Place of the states of coupled tiles; ``none`` if no tiles are coupled.
State = Literal["none", "memory", "store"]


@dataclass(frozen=True)
class Traffic:
    """Bytes moved in one iteration over all tiles; zero when none is coupled.

    Attributes
    ----------
    exchanged
        Pieces for other tiles through the object store, when states stay in the workers' memory.
        Pieces between tiles of one worker count too, though they do not leave it.
    written, read
        Chunks of all tiles, when states go through the store; chunks that each tile reads, its own
        and its neighbours'. The first iteration reads none, the last blend does.
    """

    exchanged: int = 0
    written: int = 0
    read: int = 0

    def describe(self, state: State, kept: int, workers: int) -> str:
        """Text on what is moved in one iteration, for people.

        Parameters
        ----------
        state
            Place of the states of coupled tiles.
        kept
            Tiles that each worker keeps, where they stay in memory.
        workers
            Number of workers.
        """
        if state == "none":
            return "nothing is moved between tiles"
        if state == "memory":
            return (
                f"{format_bytes(self.exchanged)} through the object store; states are resident, "
                f"{kept} tiles on each of {workers} workers"
            )
        return (
            f"{format_bytes(self.written)} written and {format_bytes(self.read)} read "
            "through the store; states are streamed"
        )

    def to_dict(self, state: State) -> dict[str, int]:
        """Bytes that are moved where states are kept there; 0 for those that are not."""
        return {
            "exchanged": self.exchanged if state == "memory" else 0,
            "read": self.read if state == "store" else 0,
            "written": self.written if state == "store" else 0,
        }


def traffic(groups: Sequence[Sequence[Tile]], field: int, margin: int, block: int) -> Traffic:
    """Bytes moved in one iteration.

    Parameters
    ----------
    groups
        Coupled tiles; each group is a grid.
    field, margin
        Field of the volume and margin of the tiles, columns.
    block
        Rows of a checkpoint's chunk.
    """
    if all(len(group) == 1 for group in groups):
        return Traffic()
    exchanged = written = read = 0
    for group in groups:
        depth = group[0].write_box.shape[0]
        across = list({t.write_box.start[2]: t for t in group}.values())
        along = list({t.write_box.start[1]: t for t in group}.values())
        windows = [window_support(t, field, margin) for t in across]
        columns = _overlaps(windows, [_range(t, 2) for t in across])
        rows = _overlaps([_range(t, 1, own=True) for t in along], [_range(t, 1) for t in along])
        # A piece is the product of two overlaps; those of a tile with itself stay where they are.
        every = sum(columns.values()) * sum(rows.values())
        own = sum(n for (i, j), n in columns.items() if i == j) * sum(
            n for (i, j), n in rows.items() if i == j
        )
        exchanged += 4 * depth * (every - own)
        # Whole chunks: as wide as the widest window, as high as a block.
        support = max(b - a for a, b in windows)
        heights = [_range(t, 1, own=True) for t in along]
        stored = sum(-(-b // block) - a // block for a, b in heights)
        fetched = sum(
            -(-min(heights[i][1], b) // block) - max(heights[i][0], a) // block
            for i, j in rows
            for a, b in [_range(along[j], 1)]
        )
        written += 4 * depth * block * support * stored * len(across)
        read += 4 * depth * block * support * fetched * len(columns)
    return Traffic(exchanged, written, read)


def _range(tile: Tile, axis: int, *, own: bool = False) -> Range:
    box = tile.write_box if own else tile.read_box
    return box.start[axis], box.stop[axis]


def _overlaps(senders: Sequence[Range], receivers: Sequence[Range]) -> dict[tuple[int, int], int]:
    """Extent of each overlap that is not empty; both are sorted, and overlap only near by."""
    found = {}
    first = 0
    for j, (start, stop) in enumerate(receivers):
        while senders[first][1] <= start:
            first += 1
        for i in range(first, len(senders)):
            if senders[i][0] >= stop:
                break
            found[i, j] = min(senders[i][1], stop) - max(senders[i][0], start)
    return found
