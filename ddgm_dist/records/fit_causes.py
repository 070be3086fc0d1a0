"""Likely causes of a residual that is not noise, the likeliest first."""

from __future__ import annotations

from typing import Literal

__all__ = ["Beam", "likely_causes"]

# Origin of the beam that data are a logarithm of: the mean of the views, what was given or seen beside
# the specimen; or nothing is known of a logarithm.
Beam = Literal["estimated", "given", "unknown"]

# Values that are no line integrals leave this much of the contrast and more: counts and inverted
# contrast all of it, a constant of the specimen's own mean 0.54 to 0.58. Of misaligned series none
# did. docs/verdict.md has the measurements.
_NO_INTEGRALS = 0.5

_ALIGNMENT = "the views are not aligned, or the tilt axis is wrong"
_VALUES = (
    "the values are counts, their contrast is inverted, or the beam was estimated wrongly "
    "(ingest --counts I0)"
)
_BEAM = "the beam was estimated wrongly (give its counts: ingest --counts I0)"
_GIVEN = "the beam is not that of ingest --counts, or the contrast is inverted"
_INVERTED = "the contrast is inverted"
_ORDER = "angles have wrong signs, or another order than the views"
_THICKNESS = "the thickness is too small"
_SINGLE = "single views are bad (ingest --exclude leaves them out)"


def likely_causes(misfit: float, beam: Beam, *, bad: bool) -> tuple[str, ...]:
    """Causes in order, by what was measured.

    Parameters
    ----------
    misfit
        Part of the residual that pixels share, as a fraction of the contrast.
    beam
        Origin of the beam that the data are a logarithm of.
    bad
        True if few views fit far worse than the others.
    """
    values = {"estimated": _BEAM, "given": _GIVEN, "unknown": _VALUES}[beam]
    if misfit >= _NO_INTEGRALS:
        causes = [values, _ORDER, _ALIGNMENT, _THICKNESS]
    else:
        causes = [_ALIGNMENT, values, _ORDER, _THICKNESS]
    if beam == "estimated":
        causes.append(_INVERTED)
        if bad:  # right after the views
            causes.remove(values)
            causes.insert(0, values)
    return (_SINGLE, *causes) if bad else (*causes, _SINGLE)
