"""Addressed noise: a function of (seed, iteration, voxel), on any device, in any order.

Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror & Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), then Box-Muller. There is no state, so a tile gets the
same noise on any worker, in any order, however often it asks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import MAX_COLUMN

__all__ = [
    "LATTICE_STREAM",
    "NOISE_STREAM",
    "ROW_LATTICE_STREAM",
    "addressed_integer",
    "addressed_noise",
    "threefry",
]

NOISE_STREAM = 0
LATTICE_STREAM = 1
ROW_LATTICE_STREAM = 2

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF
# Columns are offset so that the padded domain, which starts below zero, has positive addresses.
_COLUMN_OFFSET = MAX_COLUMN


def _signed(value: int) -> int:
    """32 bits read as two's complement, for torch has no unsigned 32-bit arithmetic."""
    value &= _MASK
    return value - (1 << 32) if value >= 1 << 31 else value


def threefry(key: tuple[int, int], counter0: Tensor, counter1: Tensor) -> tuple[Tensor, Tensor]:
    """Threefry-2x32-20 of int32 counters; returns two int32 tensors of random bits."""
    schedule = (key[0] & _MASK, key[1] & _MASK, (_PARITY ^ key[0] ^ key[1]) & _MASK)
    a = counter0 + _signed(schedule[0])
    b = counter1 + _signed(schedule[1])
    for block in range(5):
        for r in range(4):
            bits = _ROTATIONS[(block % 2) * 4 + r]
            a.add_(b)
            # int32 shifts right arithmetically: mask the copies of the sign bit away.
            low = b.bitwise_right_shift(32 - bits).bitwise_and_((1 << bits) - 1)
            b.bitwise_left_shift_(bits).bitwise_or_(low).bitwise_xor_(a)
        a.add_(_signed(schedule[(block + 1) % 3]))
        b.add_(_signed(schedule[(block + 2) % 3] + block + 1))
    return a, b


def _key(seed: int, iteration: int, stream: int) -> tuple[int, int]:
    """A 64-bit key from a 64-bit seed, an iteration and a stream."""
    words = torch.tensor([iteration], dtype=torch.int32), torch.tensor([stream], dtype=torch.int32)
    a, b = threefry((seed & _MASK, (seed >> 32) & _MASK), *words)
    return int(a) & _MASK, int(b) & _MASK


def addressed_noise(
    seed: int, iteration: int, box: Box, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise of a box of voxels.

    Parameters
    ----------
    seed
        Seed of the run, 64 bits.
    iteration
        n, from 0.
    box
        Global voxels; z below 2^15, y below 2^16, x within 2^30 of zero. A
        :class:`~ddgm_dist.core.geometry.Geometry` is never larger.

    Returns
    -------
    Tensor
        Float32 ``(z, y, x)``; the part of any larger box's noise that lies in this one.
    """
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    key = _key(seed, iteration, NOISE_STREAM)
    # Two normals per counter: the voxels 2j and 2j+1 along z share one.
    pairs = torch.arange(z0 // 2, (z1 + 1) // 2, dtype=torch.int32, device=device)
    columns = torch.arange(x0, x1, dtype=torch.int32, device=device) + _COLUMN_OFFSET
    noise = torch.empty((2 * len(pairs), y1 - y0, x1 - x0), dtype=torch.float32, device=device)
    shape = (len(pairs), len(columns))
    for row in range(y0, y1):  # a row at a time: the rounds then run in cache
        counter1 = (pairs + _signed(row << 15))[:, None].expand(shape)
        a, b = threefry(key, columns.expand(shape).contiguous(), counter1.contiguous())
        # 24 bits, centred in their cells: never 0, so the logarithm is finite.
        u = (a.bitwise_right_shift(8).bitwise_and_(0xFFFFFF).float() + 0.5) * 2.0**-24
        v = b.bitwise_right_shift(8).bitwise_and_(0xFFFFFF).float() * (2 * math.pi * 2.0**-24)
        radius = u.log_().mul_(-2).sqrt_()
        noise[0::2, row - y0] = radius * torch.cos(v)
        noise[1::2, row - y0] = radius * torch.sin(v)
    first = z0 - 2 * (z0 // 2)
    return noise[first : first + z1 - z0]


def addressed_integer(seed: int, iteration: int, bound: int, *, stream: int) -> int:
    """An integer in ``[0, bound)``, a function of (seed, iteration, stream)."""
    return _key(seed, iteration, 16 + stream)[0] * bound >> 32
