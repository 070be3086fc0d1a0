"""SerialEM's metadata of images (``.mdoc``, ``.idoc``): angles, doses, frames, the tilt axis.

Thermo Fisher's Tomography writes the same format. Source: SerialEM's help, *File Formats*.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.serialem.axis import tilt_axis, title_number
from ddgm_dist.readers.serialem.sections import Autodoc, Section, parse_autodoc
from ddgm_dist.readers.text import read_text, whole_number

__all__ = ["Mdoc", "MdocSection", "read_mdoc"]

_log = logging.getLogger("ddgm_dist")

_KINDS = ("ZValue", "FrameSet", "Image")
_BINNING = re.compile(r"\bbinning\s*=\s*([^\s,;]+)", re.IGNORECASE)


@dataclass(frozen=True)
class MdocSection:
    """Metadata of one image; None where there is no entry.

    Attributes
    ----------
    z_value
        Index of the image in its stack, from 0; None for frames (``[FrameSet]``) and ``[Image]``.
    image
        Name of the image file of a section ``[Image = name]``.
    tilt_deg
        Tilt angle of the stage.
    exposure_dose, prior_dose
        Electrons per square angstrom of this image, and of all before it.
    exposure_time
        Seconds.
    counts_per_electron
        Counts in the image per electron.
    mean
        Mean of the image, in its units; the last number of MinMaxMean.
    binning
        Binning of the camera.
    pixel_size_nm
        Size of a pixel.
    rotation_deg
        RotationAngle: direction of the image's rotation, from which SerialEM subtracts 90 (or adds
        90, as its user set) to give the tilt axis.
    sub_frame_path, sub_frame_name
        File of the frames as it is written, and its name without folders of POSIX or Windows.
    """

    z_value: int | None
    image: str | None
    tilt_deg: float | None
    exposure_dose: float | None
    prior_dose: float | None
    exposure_time: float | None
    counts_per_electron: float | None
    mean: float | None
    binning: float | None
    pixel_size_nm: float | None
    rotation_deg: float | None
    sub_frame_path: str | None
    sub_frame_name: str | None


@dataclass(frozen=True)
class Mdoc:
    """A file of metadata; None where there is no entry.

    Attributes
    ----------
    path
        The file.
    image_file
        Name of the stack that it belongs to, as it is written.
    image_size
        Columns and rows.
    pixel_size_nm
        Size of a pixel: the global entry, or what all sections agree on.
    voltage_kv
        Accelerating voltage.
    binning
        Binning of the camera: a global entry, a title, or what all sections agree on.
    tilt_axis_deg
        Direction of the tilt axis from the vertical, counter-clockwise, in IMOD's convention.
    tilt_axis_from
        Where the axis comes from and how it was understood; empty if there is none.
    rotation_deg
        RotationAngle of all sections; None if they differ.
    titles
        Titles of the file.
    sections
        One per image, in the order of the file.
    """

    path: Path
    image_file: str | None
    image_size: tuple[int, int] | None
    pixel_size_nm: float | None
    voltage_kv: float | None
    binning: float | None
    tilt_axis_deg: float | None
    tilt_axis_from: str
    rotation_deg: float | None
    titles: tuple[str, ...]
    sections: tuple[MdocSection, ...]

    def by_stack(self, count: int) -> tuple[MdocSection | None, ...]:
        """Sections of the images of a stack, in stored order; None for images without one.

        Images are numbered from 0. A file that numbers them from 1 is understood if it has the last
        image and not image 0; a warning is logged.

        Parameters
        ----------
        count
            Images in the stack.

        Raises
        ------
        InputError
            Sections have no ZValue, or one of no image in the stack.
        """
        numbers = {s.z_value: s for s in self.sections if s.z_value is not None}
        if len(numbers) < len(self.sections) or not numbers:
            raise InputError(
                "mdoc", str(self.path), "has sections without ZValue: it does not describe a stack"
            )
        first = 0
        if min(numbers) >= 1 and max(numbers) == count:
            _log.warning("%s: its ZValues count from 1; SerialEM's count from 0", self.path)
            first = 1
        beyond = sorted(z for z in numbers if not first <= z < first + count)
        if beyond:
            raise InputError(
                "mdoc",
                str(self.path),
                f"describes image {beyond[0]} (ZValue) of a stack of {count} images, {first} to "
                f"{first + count - 1}",
                "give the mdoc file of this stack",
            )
        return tuple(numbers.get(z) for z in range(first, first + count))


def read_mdoc(path: Path) -> Mdoc:
    """Read a metadata file.

    Entries may be in any order, and may be missing.

    Raises
    ------
    InputError
        The file is missing, no text, empty, cut short, or of a montage; two sections have the same
        ZValue; titles contradict each other; or an entry that is read is no number where one belongs.
    """
    text = read_text(path, "mdoc", western=True)
    document = parse_autodoc(text, path)
    if not document.sections and not document.globals.entries:
        raise InputError("mdoc", str(path), "holds no entries")
    _check_kinds(document, path)
    sections = tuple(_section(section) for section in document.sections)
    _check_numbers(document.sections, sections, path)
    top = document.globals
    rotation = _common([s.rotation_deg for s in sections])
    axis, source = tilt_axis(document, path)
    size = top.integers("ImageSize", 2)
    return Mdoc(
        path=path,
        image_file=top.text("ImageFile"),
        image_size=None if size is None else (size[0], size[1]),
        pixel_size_nm=_pixel_size(top) or _common([s.pixel_size_nm for s in sections]),
        voltage_kv=top.number("Voltage"),
        binning=_binning(document, sections, path),
        tilt_axis_deg=axis,
        tilt_axis_from=source,
        rotation_deg=rotation,
        titles=tuple(document.titles),
        sections=sections,
    )


def _check_kinds(document: Autodoc, path: Path) -> None:
    kinds = {section.kind for section in document.sections}
    if "MontSection" in kinds or document.globals.text("Montage") not in (None, "0"):
        raise InputError(
            "mdoc",
            str(path),
            "is of a montage, whose pieces are no views of a tilt series",
            "blend the montage first, with IMOD's blendmont for example",
        )
    for section in document.sections:
        if section.kind not in _KINDS:
            raise InputError(
                "mdoc",
                str(path),
                f"line {section.line}: sections [{section.kind} = ...] are unknown; "
                f"{', '.join(_KINDS)} are read",
            )


def _check_numbers(raw: list[Section], sections: tuple[MdocSection, ...], path: Path) -> None:
    lines: dict[int, int] = {}
    for head, section in zip(raw, sections, strict=True):
        z = section.z_value
        if z is not None and lines.setdefault(z, head.line) != head.line:
            raise InputError(
                "mdoc",
                str(path),
                f"two sections have ZValue {z}, from lines {lines[z]} and {head.line}",
                "remove the one that is not of the image in the stack",
            )


def _section(raw: Section) -> MdocSection:
    z_value = None
    if raw.kind == "ZValue":
        try:
            z_value = whole_number(raw.name)
        except ValueError as error:
            raise InputError("mdoc", str(raw.path), f"line {raw.line}: {error}") from error
    extremes = raw.numbers("MinMaxMean", 3)
    frames = raw.text("SubFramePath")
    return MdocSection(
        z_value=z_value,
        image=raw.name if raw.kind == "Image" else None,
        tilt_deg=raw.number("TiltAngle"),
        exposure_dose=raw.number("ExposureDose"),
        prior_dose=raw.number("PriorRecordDose"),
        exposure_time=raw.number("ExposureTime"),
        counts_per_electron=raw.number("CountsPerElectron"),
        mean=None if extremes is None else extremes[2],
        binning=raw.number("Binning"),
        pixel_size_nm=_pixel_size(raw),
        rotation_deg=raw.number("RotationAngle"),
        sub_frame_path=frames,
        sub_frame_name=None if frames is None else re.split(r"[\\/]", frames)[-1] or None,
    )


def _pixel_size(section: Section) -> float | None:
    """Nanometres; None where the entry is 0, for an unknown size."""
    angstrom = section.number("PixelSpacing")
    if angstrom is not None and angstrom < 0:
        raise InputError(
            "mdoc", str(section.path), f"PixelSpacing is {angstrom:g}: a size cannot be negative"
        )
    return angstrom / 10 if angstrom else None


def _binning(document: Autodoc, sections: tuple[MdocSection, ...], path: Path) -> float | None:
    given = document.globals.number("Binning")
    if given is not None:
        return given
    if found := [m.group(1) for title in document.titles if (m := _BINNING.search(title))]:
        return title_number(found[-1], "binning", path)
    return _common([s.binning for s in sections])


def _common(values: list[float | None]) -> float | None:
    """The value that all have; None if they differ."""
    return values[0] if len({*values}) == 1 else None
