"""Units of length and angle as files name them, and angles whose unit is not named."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddgm_dist.errors import InputError

__all__ = ["angle_unit_deg", "angles_in_degrees", "length_unit_nm"]

_NM = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "picometre": 1e-3,
    "a": 0.1,
    "å": 0.1,
    "ang": 0.1,
    "angstrom": 0.1,
    "angström": 0.1,
    "ångström": 0.1,
    "ångstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
_DEG = {
    "deg": 1.0,
    "degree": 1.0,
    "°": 1.0,
    "angular_degree": 1.0,
    "arc_degree": 1.0,
    "rad": math.degrees(1),
    "radian": math.degrees(1),
    "mrad": math.degrees(1e-3),
    "milliradian": math.degrees(1e-3),
}
_TURN = 2 * math.pi * 1.02
# Radians: a span of a tilt series at the least.
_SPAN = 1.0
_HINT = "write the attribute units of the angles, or give --angles FILE in degrees"


def length_unit_nm(unit: object) -> float | None:
    """Nanometres in a unit of length; None where it is not known.

    Parameters
    ----------
    unit
        Symbol or English name, in the singular or the plural, as text or bytes.

    >>> length_unit_nm("microns"), length_unit_nm("Angstrom"), length_unit_nm("pixel")
    (1000.0, 0.1, None)
    """
    name = _plain(unit)
    if name == "Mm":
        return None  # a million metres; a millimetre is written mm
    return _look_up(_NM, name)


def angle_unit_deg(unit: object) -> float | None:
    """Degrees in a unit of angle; None where it is not known.

    >>> angle_unit_deg("degrees"), angle_unit_deg(b"rad") == 180 / math.pi, angle_unit_deg("")
    (1.0, True, None)
    """
    return _look_up(_DEG, _plain(unit))


def angles_in_degrees(
    values: Sequence[float], unit: object, where: str
) -> tuple[tuple[float, ...], str]:
    """Angles in degrees, by their unit or else by their range, and how that was decided.

    Without a unit, more than two turns as radians must be degrees. Values of at most one turn as
    radians that span at least one radian are radians, if they are not round numbers. Everything
    else has two meanings, and is refused.

    Parameters
    ----------
    values
        One angle for each projection.
    unit
        The attribute that names the unit; None or empty where there is none.
    where
        Name of the array, for messages.

    Raises
    ------
    InputError
        An angle is not finite, the unit is not one of angles, the range contradicts the unit, or
        the unit is not named and the range leaves two meanings.
    """
    bad = [i for i, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        why = f"{len(bad)} of {len(values)} angles are not finite, the first is number {bad[0] + 1}"
        raise InputError("angles", where, why, "give --angles FILE in degrees")
    span = max(values) - min(values) if values else 0.0
    widest = max((abs(value) for value in values), default=0.0)
    shown = f"between {min(values):g} and {max(values):g}" if values else "none"
    if _plain(unit):
        return _by_unit(values, unit, where, (span, widest), shown)
    if widest == 0 or span > 2 * _TURN:
        return tuple(values), f"degrees by their range, {shown}; no unit is named"
    if widest <= _TURN and span >= _SPAN and not _round(values):
        degrees = tuple(math.degrees(value) for value in values)
        return degrees, f"radians by their range, {shown}; no unit is named"
    raise InputError(
        "angles", where, f"lie {shown} and name no unit: they may be degrees or radians", _HINT
    )


def _by_unit(
    values: Sequence[float],
    unit: object,
    where: str,
    extent: tuple[float, float],
    shown: str,
) -> tuple[tuple[float, ...], str]:
    scale, name = angle_unit_deg(unit), _plain(unit)
    if scale is None:
        raise InputError(
            "angles", where, f"are in {name!r}, which is no unit of angle", "give --angles FILE"
        )
    span, widest = extent
    # As few degrees show no depth, and as many radians are more than two turns.
    few = scale == 1 and len({*values}) >= 5 and span >= _SPAN and widest <= _TURN
    if (few and not _round(values)) or (scale > 1 and span > 2 * _TURN):
        other = "radians" if scale == 1 else "degrees"
        raise InputError(
            "angles",
            where,
            f"lie {shown} and name the unit {name!r}: these can only be {other}",
            "correct the attribute units, or give --angles FILE in degrees",
        )
    return tuple(scale * value for value in values), f"by the unit {name!r}"


def _round(values: Sequence[float]) -> bool:
    """Return whether all values have at most two decimals, as degrees have that people choose."""
    return all(abs(100 * value - round(100 * value)) < 1e-4 for value in values)


def _plain(unit: object) -> str:
    """A unit as text, without spaces around it."""
    if isinstance(unit, bytes):
        unit = unit.decode("utf-8", "replace")
    # The micro sign and the angstrom sign have other code points than the letters.
    text = unit if isinstance(unit, str) else ""
    return text.strip().strip("\0").replace("\u00b5", "\u03bc").replace("\u212b", "\u00c5")


def _look_up(table: dict[str, float], name: str) -> float | None:
    key = name.lower()
    return table.get(key, table.get(key.removesuffix("s")) if len(key) > 2 else None)
