"""The noise of a simulated detector, a function of (seed, tilt, row)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError

__all__ = [
    "DETECTOR_STREAM",
    "SHIFT_STREAM",
    "Detector",
    "Exposure",
    "Noise",
    "addressed_random",
    "parse_noise",
]

Floats = NDArray[np.float32]
NoiseKind = Literal["none", "gaussian", "poisson"]

# Streams of random numbers, part of the key: noise and shifts are independent.
DETECTOR_STREAM, SHIFT_STREAM = 1, 2
# Float32 does not resolve more, and numpy draws no counts near 2^63.
MAX_DOSE = 1e12


@dataclass(frozen=True)
class Noise:
    """Noise that the detector adds.

    Attributes
    ----------
    kind
        ``none``, ``gaussian`` or ``poisson``.
    amount
        ``gaussian``: fraction of the noise-free projections' standard deviation.
        ``poisson``: mean expected counts per pixel at zero tilt.
    """

    kind: NoiseKind = "none"
    amount: float = 0.0


def parse_noise(text: str) -> Noise:
    """Read ``none``, ``gaussian:F`` or ``poisson:DOSE``.

    Raises
    ------
    InputError
        If the text is none of these, F is not in 0 to 1e6, or DOSE is not above 0 and at most 1e12.
    """
    hint = "write none, gaussian:0.05 or poisson:1000"
    kind, colon, number = text.strip().partition(":")
    if kind == "none" and not colon:
        return Noise()
    if kind not in ("gaussian", "poisson") or not colon:
        raise InputError("noise", text, "is no kind of noise with its amount", hint)
    try:
        amount = float(number)
    except ValueError:
        raise InputError("noise", text, f"{number!r} is not a number", hint) from None
    if kind == "gaussian":
        if not 0 <= amount <= 1e6:
            raise InputError("noise", text, "the fraction must be from 0 to 1e6", hint)
        return Noise("gaussian", amount)
    if not 0 < amount <= MAX_DOSE:
        raise InputError("noise", text, f"the dose must be above 0 and at most {MAX_DOSE:g}", hint)
    return Noise("poisson", amount)


def addressed_random(seed: int, stream: int, tilt: int, row: int) -> np.random.Generator:
    """A generator for one row of one tilt; Philox counts its 2^128 draws in the two low words."""
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([0, 0, row, tilt], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@dataclass(frozen=True)
class Detector:
    """Turns noise-free projections into recorded ones.

    Attributes
    ----------
    kind
        Kind of the noise.
    scale
        ``gaussian``: its standard deviation; ``poisson``: expected counts per unit of the
        projections.
    seed
        Seed of the noise.
    """

    kind: NoiseKind
    scale: float
    seed: int

    def expose(self, tilts: int, rows: slice) -> Exposure:
        """Start to record ``rows`` (with ``start`` and ``stop``) of this number of tilts."""
        return Exposure(self, tilts, rows)


class Exposure:
    """Records some rows, from their first column to their last, in one piece or in several.

    Random numbers are drawn from left to right, so the result does not depend on the pieces.
    """

    def __init__(self, detector: Detector, tilts: int, rows: slice) -> None:
        self._detector = detector
        self._random = (
            []
            if detector.kind == "none"
            else [
                [
                    addressed_random(detector.seed, DETECTOR_STREAM, tilt, row)
                    for row in range(rows.start, rows.stop)
                ]
                for tilt in range(tilts)
            ]
        )

    def record(self, clean: Floats) -> Floats:
        """The next columns with noise, of noise-free projections ``(tilt, rows, columns)``."""
        kind, scale = self._detector.kind, self._detector.scale
        if kind == "none":
            return clean
        out = np.empty_like(clean)
        for tilt, image in enumerate(clean):
            for i, row in enumerate(image):
                random = self._random[tilt][i]
                if kind == "gaussian":
                    out[tilt, i] = row + scale * random.standard_normal(len(row))
                else:
                    expected = np.maximum(row, 0).astype(np.float64) * scale
                    out[tilt, i] = random.poisson(expected) / scale
        return out
