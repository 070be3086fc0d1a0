"""Metadata of a tilt-series store: parsing, checking and dumping."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import Provenance

__all__ = [
    "ARRAY",
    "ATTRIBUTE",
    "MAX_ANGLE_DEG",
    "TiltSeriesMeta",
    "check_meta",
    "dump_meta",
    "parse_meta",
]

KIND, VERSION = "tilt-series", 1
ATTRIBUTE, ARRAY = "ddgm_dist", "projections"
MAX_ANGLE_DEG = 85.0


@dataclass(frozen=True)
class TiltSeriesMeta:
    """Metadata of a tilt series.

    Attributes
    ----------
    angles_deg
        Tilt angle of each projection, degrees, in the order of the array; any order.
    shifts_px
        ``(dy, dx)`` per tilt, pixels: a point lands at row ``y + dy`` and column
        ``x cos + z sin + dx``. None means no shifts.
    pixel_size_nm
        Edge of a detector pixel at the specimen, nanometres; None when unknown.
    thickness_px
        Thickness of the slab to reconstruct, pixels; None when still to be chosen.
    description
        Free text.
    bad_pixels
        ``unmeasured``: pixels that are NaN or infinite are known to be unmeasured. None where that has
        not been stated.
    sigma_y
        Standard deviation of the noise of each tilt, in the unit of the projections, where it is known
        from the counts. None where it is not.
    """

    angles_deg: tuple[float, ...]
    shifts_px: tuple[tuple[float, float], ...] | None = None
    pixel_size_nm: float | None = None
    thickness_px: int | None = None
    description: str = ""
    bad_pixels: Literal["unmeasured"] | None = None
    provenance: Provenance | None = None
    sigma_y: tuple[float, ...] | None = None

    @property
    def views(self) -> ViewNames:
        """Names of the views, by their numbers in the source where the provenance says them."""
        views = [] if self.provenance is None else self.provenance.views
        known = views and len(views) == len(self.angles_deg)
        return ViewNames(self.angles_deg, tuple(v.view for v in views) if known else None)

    @property
    def beam_origin(self) -> Literal["estimated", "given", "unknown"]:
        """Origin of the beam that the projections are a logarithm of; see `Provenance`."""
        return "unknown" if self.provenance is None else self.provenance.beam_origin


def check_meta(meta: TiltSeriesMeta, tilts: int, where: str) -> None:
    """Refuse metadata that cannot belong to ``tilts`` projections.

    Raises
    ------
    InputError
        Angles are missing, not numbers, not as many as tilts or not below 85 degrees. Shifts are not
        as many or not finite. Pixel size or thickness is not positive. The noise is not as many numbers,
        or one is negative. ``where`` names the store or file in the message.
    """
    angles = meta.angles_deg
    if not angles:
        raise InputError("angles_deg", "[]", f"{where} has no tilt angles", "give --angles FILE")
    if len(angles) != tilts:
        raise InputError(
            "angles_deg", f"{len(angles)} angles", f"{where} has {tilts} tilts: one angle for each"
        )
    bad = [i for i, a in enumerate(angles) if not math.isfinite(a)]
    if bad:
        raise InputError(
            "angles_deg",
            angles[bad[0]],
            f"the angle of tilt {bad[0]} (from 0) of {where} is not a number",
        )
    steep = max(range(tilts), key=lambda i: abs(angles[i]))
    if abs(angles[steep]) >= MAX_ANGLE_DEG:
        raise InputError(
            "angles_deg",
            angles[steep],
            f"tilt {steep} (from 0) of {where} must be below {MAX_ANGLE_DEG:g} degrees either way "
            "(a ray along the slab never leaves it)",
            "angles are in degrees; leave out the steepest tilts",
        )
    if meta.shifts_px is not None:
        _check_shifts(meta.shifts_px, tilts, where)
    if meta.sigma_y is not None:
        _check_noise(meta.sigma_y, tilts, where)
    size = meta.pixel_size_nm
    if size is not None and not (math.isfinite(size) and size > 0):
        raise InputError("pixel_size_nm", size, f"of {where} must be positive, or null if unknown")
    if meta.thickness_px is not None and meta.thickness_px < 1:
        raise InputError(
            "thickness_px", meta.thickness_px, f"of {where} must be at least 1, or null if unknown"
        )


def _check_shifts(shifts: Sequence[tuple[float, float]], tilts: int, where: str) -> None:
    if len(shifts) != tilts:
        raise InputError(
            "shifts_px",
            f"{len(shifts)} shifts",
            f"{where} has {tilts} tilts: one [dy, dx] for each",
        )
    for i, shift in enumerate(shifts):
        if not all(math.isfinite(s) for s in shift):
            raise InputError(
                "shifts_px",
                shift,
                f"the shift of tilt {i} (from 0) of {where} is not two finite numbers",
            )


def _check_noise(noise: Sequence[float], tilts: int, where: str) -> None:
    if len(noise) != tilts:
        raise InputError(
            "sigma_y", f"{len(noise)} values", f"{where} has {tilts} tilts: one value for each"
        )
    for i, value in enumerate(noise):
        if not 0 <= value < math.inf:
            raise InputError(
                "sigma_y",
                value,
                f"the noise of tilt {i} (from 0) of {where} must be a number from 0 on",
            )


def parse_meta(attribute: Any, path: str) -> TiltSeriesMeta:
    """The value of the group attribute as metadata (not yet compared with the array).

    Raises
    ------
    InputError
        The attribute is missing, of another kind or version, or a value is of the wrong type.
    """
    if not isinstance(attribute, dict):
        raise InputError(
            "tilts",
            path,
            f"has no group attribute {ATTRIBUTE!r}: it is no tilt series, or writing it was "
            "interrupted",
            "make it again",
        )
    if attribute.get("kind") != KIND:
        raise InputError("tilts", path, f"holds a {attribute.get('kind')!r}, not a {KIND!r}")
    if attribute.get("version") != VERSION:
        raise InputError(
            "tilts",
            path,
            f"is of format version {attribute.get('version')!r}; this release reads {VERSION}",
            "install a newer ddgm-dist",
        )
    angles = _numbers(attribute.get("angles_deg") or [], "angles_deg", path)
    shifts = attribute.get("shifts_px")
    pairs: list[tuple[float, float]] | None = None
    if shifts is not None:
        pairs = []
        for shift in shifts if isinstance(shifts, list) else [shifts]:
            pair = _numbers(shift, "shifts_px", path)
            if len(pair) != 2:
                raise InputError("shifts_px", shift, f"each shift of {path} must be [dy, dx]")
            pairs.append((pair[0], pair[1]))
    size, thickness = attribute.get("pixel_size_nm"), attribute.get("thickness_px")
    if (
        thickness is not None
        and not float(_numbers([thickness], "thickness_px", path)[0]).is_integer()
    ):
        raise InputError("thickness_px", thickness, f"of {path} must be a whole number of pixels")
    noise = attribute.get("sigma_y")
    return TiltSeriesMeta(
        angles_deg=tuple(angles),
        shifts_px=None if pairs is None else tuple(pairs),
        pixel_size_nm=None if size is None else _numbers([size], "pixel_size_nm", path)[0],
        thickness_px=None if thickness is None else int(thickness),
        description=str(attribute.get("description", "")),
        # What a later version may say is not known here, so such pixels are refused as ever.
        bad_pixels="unmeasured" if attribute.get("bad_pixels") == "unmeasured" else None,
        provenance=_provenance(attribute.get("provenance")),
        sigma_y=None if noise is None else tuple(_numbers(noise, "sigma_y", path)),
    )


def _provenance(values: Any) -> Provenance | None:
    """The record of the ingest; None where it is missing, or of a later version."""
    if isinstance(values, dict):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return Provenance.from_dict(values)
    return None


def _numbers(value: Any, name: str, path: str) -> list[float]:
    if not isinstance(value, list | tuple):
        raise InputError(name, value, f"of {path} must be a list of numbers")
    try:
        # null stands for a missing number in JSON
        return [math.nan if v is None else float(v) for v in value]
    except (TypeError, ValueError) as error:
        raise InputError(name, value, f"of {path} must be a list of numbers") from error


def dump_meta(meta: TiltSeriesMeta) -> dict[str, Any]:
    """The value of the group attribute for this metadata; `parse_meta` reverses it."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(meta)))  # lists, as they are read again
    for optional in ("bad_pixels", "provenance", "sigma_y"):
        if values[optional] is None:
            del values[optional]
    return {"kind": KIND, "version": VERSION, **values}
