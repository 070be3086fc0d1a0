"""Doses or exposure times of all views, filled in where some of them are not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exposures", "find_exposures"]

# Doses per time that differ by less, as a share of their median, are those of one beam.
_STEADY = 0.05


@dataclass(frozen=True)
class Exposures:
    """Exposures of all views.

    Attributes
    ----------
    values
        Doses or times, all above 0.
    what
        ``dose`` or ``exposure time``.
    filled
        Indices of the views whose own is not known.
    how
        Where those come from, for a message.
    """

    values: tuple[float, ...]
    what: str
    filled: tuple[int, ...] = ()
    how: str = ""


def find_exposures(
    doses: Sequence[float | None], times: Sequence[float | None], angles: Sequence[float]
) -> Exposures | None:
    """Doses where any is known, else times; None where neither is.

    Doses that are not known follow the times, if the known ones are proportional to them. Else they are
    interpolated over the angle, in their logarithm. Times never stand in for doses that are known to
    differ from them.

    Parameters
    ----------
    doses, times
        One for each view; None or not above 0 where it is not known.
    angles
        Tilt of each view, degrees.
    """
    dose, time = _known(doses), _known(times)
    if np.isfinite(dose).any():
        missing = np.isnan(dose)
        steady = None
        if missing.any() and np.isfinite(time).all() and np.count_nonzero(~missing) > 1:
            steady = _proportion(dose[~missing], time[~missing])
        if steady is None:
            return _interpolated(dose, angles, "dose")
        values = np.where(missing, steady * time, dose)
        return Exposures(
            tuple(values.tolist()),
            "dose",
            tuple(np.flatnonzero(missing).tolist()),
            "the exposure times",
        )
    return _interpolated(time, angles, "exposure time") if np.isfinite(time).any() else None


def _known(values: Sequence[float | None]) -> NDArray[np.float64]:
    """The values as numbers; NaN for those that are not known."""
    return np.array([np.nan if v is None or not 0 < v < np.inf else v for v in values], np.float64)


def _proportion(dose: NDArray[np.float64], time: NDArray[np.float64]) -> float | None:
    """Dose per time; None if it is not the same for all views."""
    rates = dose / time
    usual = float(np.median(rates))
    return usual if np.all(np.abs(rates - usual) <= _STEADY * usual) else None


def _interpolated(values: NDArray[np.float64], angles: Sequence[float], what: str) -> Exposures:
    missing = np.isnan(values)
    at = np.asarray(angles, dtype=np.float64)
    known = np.flatnonzero(~missing)[np.argsort(at[~missing], kind="stable")]
    filled = np.exp(np.interp(at, at[known], np.log(values[known])))
    return Exposures(
        tuple(np.where(missing, filled, values).tolist()),
        what,
        tuple(np.flatnonzero(missing).tolist()),
        "those of other views by the angle" if missing.any() else "",
    )
