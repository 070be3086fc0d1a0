"""Vesicles and mitochondria of the procedural tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.simulation.cells import Capsules, Coordinates, paint
from ddgm_dist.simulation.lattice_noise import directions, hash_lattice, uniform

__all__ = ["add_mitochondria", "bump", "vesicles"]

Floats = NDArray[np.float32]

_VESICLE_SPACING = 12


def vesicles(seed: int, box: Box, share: Floats) -> Floats:
    """Darkening by vesicles: small shells, at most one for each cell of a jittered lattice."""
    n = _VESICLE_SPACING
    start = [a // n for a in box.start]
    stop = [(b - 1) // n + 1 for b in box.stop]
    h = hash_lattice(seed, 20, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    voxels = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    node = np.ix_(*[v // n - s for v, s in zip(voxels, start, strict=True)])
    square = np.zeros(box.shape, np.float32)
    for axis in range(3):
        column = [1, 1, 1]
        column[axis] = -1
        local = (voxels[axis] % n).astype(np.float32).reshape(column)
        # 3.2 voxels from every face: a shell never crosses into the next lattice cell.
        centre = (3.2 + (n - 1 - 6.4) * uniform(h, axis)).astype(np.float32)
        offset = local - centre[node]
        offset *= offset
        square += offset
    shell = np.sqrt(square)
    shell -= (0.4 + 1.2 * uniform(h, 3)).astype(np.float32)[node]
    darkness = bump(shell, 2.0)
    darkness *= np.float32(48.0)
    darkness *= uniform(h, 4).astype(np.float32)[node] < share
    return darkness


def add_mitochondria(
    grey: Floats, cells: Capsules, at: Coordinates, label: NDArray[np.int32], gap: Floats
) -> None:
    """Draw mitochondria into the cells that own them: dark matrix, membrane, faint cristae.

    ``gap`` is the difference of the distances to the voxel's cell and to the next one.
    """
    bodies, owner = _mitochondria_of(cells)
    surface, surface2, which, which2 = paint(bodies, at)
    # A body that sticks out of its own cell may be nearest inside another one.
    own = owner[which] == label
    which = np.where(own, which, which2)
    # Keep the body four voxels from the border of its cell, whatever the two shapes are.
    edge = np.maximum(np.where(own, surface, surface2), np.float32(4.0) - np.float32(0.5) * gap)
    hit = np.nonzero((which > 0) & (owner[which] == label) & (edge < np.float32(1.5)))
    if len(hit[0]) == 0:
        return
    edge, body = edge[hit], which[hit] - 1
    axis = bodies.axis.astype(np.float32)
    along = at.z[hit] * axis[body, 0] + at.y[hit] * axis[body, 1] + at.x[hit] * axis[body, 2]
    along *= np.float32(1 / 7.0)
    stripe = np.abs(np.float32(2.0) * (along - np.floor(along)) - np.float32(1.0))
    matrix = (68.0 + 28.0 * uniform(bodies.key, 30)).astype(np.float32)[body]
    matrix += np.float32(12.0) * (stripe - np.float32(0.5))
    matrix -= np.float32(14.0) * bump(edge + np.float32(1.0), 1.8)
    cover = np.clip(np.float32(0.5) - edge * np.float32(1 / 3.0), np.float32(0), np.float32(1))
    before = grey[hit]
    # The texture below shows through faintly.
    grey[hit] = before + cover * (matrix - before) * np.float32(0.93)


def _mitochondria_of(cells: Capsules) -> tuple[Capsules, NDArray[np.int32]]:
    """Mitochondria of the wider cells, and the label of each one's cell (label 0 owns none)."""
    parts: list[Capsules] = []
    owners = [np.array([-1])]
    for slot in range(2):
        draw = 40 + 20 * slot
        has: NDArray[np.bool_] = (cells.radius > 8.5) & (
            uniform(cells.key, draw) < (0.75, 0.4)[slot]
        )
        home = cells.keep(has)
        h = home.key + np.uint32(slot)
        place = (2.0 * uniform(h, draw + 1) - 1.0) * home.half
        aside = directions(h, draw + 2)
        axis = home.axis + 0.5 * aside
        axis /= np.sqrt(axis[:, 0] ** 2 + axis[:, 1] ** 2 + axis[:, 2] ** 2)[:, None]
        parts.append(
            Capsules(
                centre=home.centre
                + home.axis * place[:, None]
                + aside * (0.4 * home.radius)[:, None],
                axis=axis,
                half=4.0 + 18.0 * uniform(h, draw + 14),
                radius=np.minimum(home.radius * (0.5 + 0.3 * uniform(h, draw + 15)), 24.0),
                key=h,
            )
        )
        owners.append(np.flatnonzero(has) + 1)
    return Capsules.join(parts), np.concatenate(owners).astype(np.int32)


def bump(distance: Floats, width: float) -> Floats:
    """``(1 - (distance / width)**2)**2`` within ``width`` and 0 beyond."""
    value = distance * np.float32(1 / width)
    value *= value
    np.subtract(np.float32(1), value, out=value)
    np.maximum(value, np.float32(0), out=value)
    value *= value
    return value
