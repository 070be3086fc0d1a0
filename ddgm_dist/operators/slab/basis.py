"""The slab operator's matrices and their eigenbasis, per frequency along x.

See :mod:`ddgm_dist.operators.slab.operator` for the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry

__all__ = [
    "SlabBasis",
    "fast_length",
    "fold",
    "from_fourier",
    "norm_squared",
    "period",
    "period_margin",
    "real_matrix",
    "step_factor",
    "to_fourier",
    "unfold",
]

# Frequencies that are computed at a time.
_BLOCK = 64
# Cached step factors: blocks take the same two in turn, of a full run and of the rest.
_FACTORS = 2


def norm_squared(geometry: Geometry) -> float:
    """``||A||^2`` of the slab operator.

    Every entry of ``G_k`` is bounded by the corresponding entry of ``G_0``, which is constant: the
    norm is attained at k = 0 and is ``thickness * sum_t 1 / cos(theta_t)``.
    """
    return geometry.thickness * sum(1 / math.cos(a) for a in geometry.angles)


def fast_length(columns: int) -> int:
    """Smallest even 7-smooth number at least ``columns``, a fast length of the FFT."""
    length = columns + columns % 2
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def period_margin(geometry: Geometry) -> int:
    """Empty columns on each side that keep an isolated specimen's projections from wrapping."""
    return geometry.reach if geometry.boundary == "vacuum" else 0


def period(geometry: Geometry, columns: int) -> int:
    """Period of the Fourier transform for that many columns of volume."""
    return fast_length(columns + 2 * period_margin(geometry))


def step_factor(eigenvalue: Tensor, steps: float, step_size: float) -> Tensor:
    """``(1 - (1 - eta lambda)^K) / lambda``, and ``K eta`` where lambda vanishes.

    A fractional K ends with a step of that fraction of eta, as explicit descent does.
    """
    whole = math.floor(steps)
    fraction = steps - whole
    rate = 1 - step_size * eigenvalue
    left = rate.pow(whole) * (1 - fraction * step_size * eigenvalue)
    small = eigenvalue * step_size * max(steps, 1.0) < 1e-9
    return torch.where(small, steps * step_size, (1 - left) / eigenvalue.clamp(min=1e-300))


class SlabBasis:
    """Matrices of the slab operator and their eigenbasis, per frequency.

    They depend on angles, thickness and period alone, so operators over other columns of the same
    period share them. The eigendecomposition is always made on the CPU in float64, so that every
    device has the same numbers.

    Parameters
    ----------
    geometry
        Geometry of the tilt series.
    length
        Period along x, columns; even.
    device
        Device of the tensors.
    """

    def __init__(self, geometry: Geometry, length: int, device: torch.device | str = "cpu") -> None:
        self.geometry, self.length, self.device = geometry, length, torch.device(device)
        depth = geometry.thickness
        shape = (length // 2 + 1, geometry.tilts, depth)
        self.matrix = torch.empty(shape, device=self.device)
        for part in _frequencies(length):
            self.matrix[part] = real_matrix(geometry, length, part).to(self.device, torch.float32)
        self._eigen: tuple[Tensor, Tensor] | None = None
        self._factors: dict[tuple[float, float], Tensor] = {}

    @property
    def values(self) -> Tensor:
        """Eigenvalues of G, float64 ``(frequency, z)``, ascending along z, not negative."""
        return self._eigenbasis()[0]

    @property
    def vectors(self) -> Tensor:
        """Eigenvectors of G, float32 ``(frequency, z, z)``."""
        return self._eigenbasis()[1]

    def step_factor(self, steps: float, step_size: float) -> Tensor:
        """:func:`step_factor` of the eigenvalues, float32 ``(frequency, z)``."""
        key = steps, step_size
        if key not in self._factors:
            if len(self._factors) >= _FACTORS:
                self._factors.clear()
            factor = step_factor(self._eigenbasis()[0], steps, step_size)
            self._factors[key] = factor.to(torch.float32)
        return self._factors[key]

    def _eigenbasis(self) -> tuple[Tensor, Tensor]:
        if self._eigen is None:
            self._eigen = _eigenbasis(self.geometry, self.length, self.device)
        return self._eigen


def _frequencies(length: int) -> Iterator[slice]:
    """Blocks of frequencies, which keep the float64 temporaries small."""
    count = length // 2 + 1
    for first in range(0, count, _BLOCK):
        yield slice(first, min(first + _BLOCK, count))


def real_matrix(geometry: Geometry, length: int, part: slice) -> Tensor:
    """A in the even/odd basis at some frequencies, float64 ``(frequency, tilt, z)``."""
    depth = geometry.thickness
    half = depth // 2
    k = 2 * math.pi * torch.arange(part.start, part.stop, dtype=torch.float64) / length
    angles = torch.tensor(geometry.angles, dtype=torch.float64)
    z = torch.arange(depth - half, depth, dtype=torch.float64) - (depth - 1) / 2
    phase = k[:, None, None] * torch.tan(angles)[:, None] * z
    centre = torch.ones((*phase.shape[:2], depth - 2 * half), dtype=torch.float64)
    columns = math.sqrt(2) * torch.cos(phase), math.sqrt(2) * torch.sin(phase)
    matrix = torch.cat((centre, *columns), dim=2)
    in_band = k[:, None] <= math.pi * torch.cos(angles) + 1e-12
    return matrix * (in_band * torch.rsqrt(torch.cos(angles)))[:, :, None]


def _eigenbasis(geometry: Geometry, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigenvalues (float64) and eigenvectors (float32) of G per frequency."""
    depth = geometry.thickness
    count = length // 2 + 1
    values = torch.empty((count, depth), dtype=torch.float64)
    vectors = torch.empty((count, depth, depth), device=device)
    threads = torch.get_num_threads()
    # LAPACK rounds differently with the number of threads, and one is fastest at these sizes.
    torch.set_num_threads(1)
    try:
        for part in _frequencies(length):
            matrix = real_matrix(geometry, length, part)
            value, vector = torch.linalg.eigh(matrix.mT @ matrix)
            values[part] = value.clamp(min=0)
            vectors[part] = vector.to(device, torch.float32)
    finally:
        torch.set_num_threads(threads)
    return values.to(device), vectors


def fold(spectrum: Tensor) -> Tensor:
    """Coefficients in the even/odd basis of z; real and imaginary parts side by side."""
    depth, rows = spectrum.shape[1], spectrum.shape[2] // 2
    half = depth // 2
    lower, upper = spectrum[:, :half].flip(1), spectrum[:, depth - half :]
    even = (lower + upper) * math.sqrt(0.5)
    odd = (upper - lower) * math.sqrt(0.5)
    # -i (a + ib) = b - ia
    odd = torch.cat((odd[..., rows:], -odd[..., :rows]), dim=2)
    middle = spectrum[:, half : depth - half]
    return torch.cat((middle, even, odd), dim=1)


def unfold(folded: Tensor) -> Tensor:
    """Inverse of :func:`fold` (it is unitary)."""
    depth, rows = folded.shape[1], folded.shape[2] // 2
    half = depth // 2
    centre = depth - 2 * half
    middle, even, odd = folded[:, :centre], folded[:, centre : centre + half], folded[:, -half:]
    if half == 0:
        return middle
    odd = torch.cat((-odd[..., rows:], odd[..., :rows]), dim=2)
    lower = ((even - odd) * math.sqrt(0.5)).flip(1)
    upper = (even + odd) * math.sqrt(0.5)
    return torch.cat((lower, middle, upper), dim=1)


def to_fourier(y: Tensor) -> Tensor:
    """``(n, rows, length)`` to real ``(frequency, n, 2 rows)``: real parts, then imaginary."""
    spectrum = torch.fft.rfft(y, norm="ortho").permute(2, 0, 1)
    return torch.cat((spectrum.real, spectrum.imag), dim=2)


def from_fourier(spectrum: Tensor, rows: int, length: int) -> Tensor:
    """Inverse of :func:`to_fourier`, ``(n, rows, length)``."""
    parts = torch.complex(spectrum[..., :rows].contiguous(), spectrum[..., rows:].contiguous())
    values: Tensor = torch.fft.irfft(parts.permute(1, 2, 0), n=length, norm="ortho")
    return values
