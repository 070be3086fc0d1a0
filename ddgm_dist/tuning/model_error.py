r"""Signs of an error of the model, which the scores of held-out tilts do not show.

Tilts that were held out share the model with those that were not. A candidate that fits what the model
gets wrong predicts them better, while its volume may become worse. So the scores rank by something
else than the error of the volume. Two signs of it are taken from the held-out tilts between the kept
ones, which a volume of the right model predicts up to the noise.

*misfit*: their mean squared residual over what is known not to be explained, noise and discrepancy.

*ends*: an unknown surrounding, such as vacuum beyond the field, is wrong where steep rays cross it. It
leaves a smooth residual at the ends of the measured columns, and less in their middle. So the residual
of steep tilts is averaged over windows of 16 columns, in which noise averages out. *ends* is the mean
square of these averages in the outer sixth on both sides, over that in the middle third or over that of
noise, whichever is larger.

Every candidate leaves some of such an error. One that is only a poor fit leaves more than others do.
So the least over the candidates that were tried on all blocks counts.
docs/tune.md has the measurements behind the limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.records.fit import Fit

__all__ = ["Doubts", "Leftover", "mean_leftover", "smooth_residual"]

# Columns over which a residual is averaged; such averages in an end, at least one.
WINDOW, SHARE = 16, 6
# Tilts from here on cross what lies beyond the field, radians.
STEEP = math.radians(25)
# What a right model leaves, at most.
MOST_ENDS, MOST_MISFIT = 2.0, 4.0


@dataclass(frozen=True)
class Leftover:
    """Residual of held-out tilts between the kept ones, mean squares over what noise leaves.

    Attributes
    ----------
    misfit
        Of all samples; None where no noise is known.
    ends, middle
        Of smooth residuals of steep tilts; None where none is wide enough.
    """

    misfit: float | None
    ends: float | None = None
    middle: float | None = None

    @property
    def excess(self) -> float | None:
        """Excess of the ends over the middle, where noise leaves 1."""
        if self.ends is None or self.middle is None:
            return None
        return self.ends / max(self.middle, 1.0)


def smooth_residual(
    residual: Tensor, measured: Tensor, angle: float, noise: float
) -> tuple[float, float] | None:
    """Mean squares of the averaged residual of one tilt, at the ends and in the middle.

    White noise on the detector gives 1.

    Parameters
    ----------
    residual
        ``S (C b - A x)``, stretched, float ``(rows, length)``.
    measured
        S, broadcastable to it. Windows with a sample that is not measured do not count.
    angle
        Tilt angle, radians.
    noise
        What is known not to be explained, in normalised units.

    Returns
    -------
    tuple of float or None
        None for tilts that are not steep or too narrow, and where no noise is known.
    """
    columns = torch.nonzero((measured > 0).any(dim=0)).flatten()
    count = 0 if len(columns) == 0 else (int(columns[-1]) + 1 - int(columns[0])) // WINDOW
    if abs(angle) < STEEP or count < SHARE or noise <= 0:
        return None
    first = int(columns[0])
    part = slice(first, first + count * WINDOW)
    r = residual.double().cpu()
    whole = (measured.cpu() > 0).expand(r.shape)[:, part].reshape(len(r), count, WINDOW).all(dim=2)
    means = r[:, part].reshape(len(r), count, WINDOW).mean(dim=2)
    square = means.square() * (WINDOW / (noise * noise))
    end, third = count // SHARE, count // 3
    sides = torch.zeros(count, dtype=torch.bool)
    sides[:end] = sides[count - end :] = True
    middle = torch.zeros_like(sides)
    middle[third : count - third] = True
    found = [square[whole & where] for where in (sides, middle)]
    if min(len(values) for values in found) == 0:
        return None
    return float(found[0].mean()), float(found[1].mean())


def mean_leftover(parts: Iterable[Leftover]) -> Leftover:
    """The mean over tilts or blocks; of those that say something."""
    listed = list(parts)
    return Leftover(
        _mean([p.misfit for p in listed]),
        _mean([p.ends for p in listed]),
        _mean([p.middle for p in listed]),
    )


@dataclass(frozen=True)
class Doubts:
    """Signs that the ranking by held-out tilts cannot be trusted.

    Attributes
    ----------
    ends, misfit
        The least over the candidates that were tried on all blocks; None where it is unknown.
    explained
        Verdict of a quick fit of a few rows; None where there is none.
    """

    ends: float | None = None
    misfit: float | None = None
    explained: bool | None = None

    @classmethod
    def of(cls, finalists: Sequence[Leftover], fit: Fit | None) -> Doubts:
        """The doubts that the finalists and a quick fit raise."""
        ends = [one.excess for one in finalists if one.excess is not None]
        misfits = [one.misfit for one in finalists if one.misfit is not None]
        return cls(
            min(ends, default=None),
            min(misfits, default=None),
            None if fit is None else fit.explained,
        )

    @property
    def signs(self) -> tuple[str, ...]:
        """Signs that speak against the model, a clause each."""
        said = []
        if self.ends is not None and self.ends > MOST_ENDS:
            said.append(
                f"at the ends of the blocks, steep held-out tilts leave {self.ends:.1f} times what "
                f"they leave in the middle (a right model at most {MOST_ENDS:g}), as where the "
                "specimen ends beyond the field but within reach of its rays"
            )
        if self.misfit is not None and self.misfit > MOST_MISFIT:
            said.append(
                f"tilts held out between others leave {self.misfit:.1f} times the square of the noise "
                f"(a right model at most {MOST_MISFIT:g})"
            )
        if self.explained is False:
            said.append("a quick fit of a few rows does not explain the data (plan names causes)")
        return tuple(said)

    @property
    def warning(self) -> str | None:
        """The warning and what to do; None where nothing speaks against the model."""
        if not self.signs:
            return None
        remedy = "keep the settings as given, or a preset, and compare the volumes by eye"
        if self.ends is not None and self.ends > MOST_ENDS:
            remedy = (
                "set boundary=vacuum if the specimen lies within the field; otherwise leave out the "
                f"steepest views (ingest --exclude), or {remedy}, above all before you take a larger K"
            )
        elif self.explained is False:
            remedy = f"find the cause and tune again; or {remedy}"
        return (
            f"do not trust this ranking: {'; '.join(self.signs)}. Held-out tilts share such an error "
            f"of the model, so what fits it scores well. What to do: {remedy}"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "trusted": not self.signs,
            "ends": _finite(self.ends),
            "misfit": _finite(self.misfit),
            "explained": self.explained,
            "warning": self.warning,
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
