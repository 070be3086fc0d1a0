"""Texts of the files that stand beside a tilt series, in the form in which programs write them."""

from __future__ import annotations

import numpy as np

VIEWS = 7
ANGLES = [0.0, 3.0, -3.0, 6.0, -6.0, 9.0, -9.0]  # dose-symmetric
AXIS = 84.1


def transforms(views: int = VIEWS) -> np.ndarray:
    """Rows of an .xf file: rotations near the axis, with shifts."""
    rng = np.random.default_rng(5)
    turn = np.radians(AXIS + rng.normal(0, 0.3, views))
    stretch = 1 + rng.normal(0, 1e-3, (4, views))
    c, s = np.cos(turn), np.sin(turn)
    shift = rng.normal(0, 40, (2, views))
    return np.stack([c, s, -s, c, *shift], 1) * np.vstack([stretch, np.ones((2, views))]).T


def xf(views: int = VIEWS) -> str:
    lines = ["".join(f"{a:12.7f}" for a in row[:4]) + "".join(f"{a:12.3f}" for a in row[4:])
             for row in transforms(views)]  # fmt: skip
    return "\n".join(lines) + "\n"


def xtilt(views: int = VIEWS) -> str:
    return "".join(f"{0.01 * i - 0.4:9.2f}\n" for i in range(views))


TILT_COM = """\
# Command file to run Tilt
#
####CreatedVersion#### 4.11.25
#
# THICKNESS is the slices in Z, of unbinned pixels
#
$setenv IMOD_OUTPUT_FORMAT MRC
$tilt -StandardInput
InputProjections ts_ali.mrc
OutputFile ts_full_rec.mrc
IMAGEBINNED 4
TILTFILE ts.tlt
THICKNESS 1200
RADIAL 0.35 0.035
FalloffIsTrueSigma 1
XAXISTILT -0.37
LOG 0.0
SCALE 0.0 250.0
PERPENDICULAR
MODE 1
FULLIMAGE 3838 3710
SUBSETSTART 64 -64
AdjustOrigin
LOCALFILE tslocal.xf
ActionIfGPUFails 1,2
XTILTFILE ts.xtilt
ZFACTORFILE ts.zfac
OFFSET 1.25 -3.5
SHIFT 0.0 -12.5
EXCLUDELIST2 1,7,33-35
EXCLUDELIST 2
$if (-e ./savework) ./savework
"""

NEWST_COM = """\
$setenv IMOD_OUTPUT_FORMAT MRC
$newstack -StandardInput
AntialiasFilter -1
InputFile ts.mrc
OutputFile ts_ali.mrc
TransformFile ts.xf
TaperAtFill 1,1
AdjustOrigin
SizeToOutputInXandY 928,960
OffsetsInXandY 2.0,-4.0
#DistortionField .idf
ImagesAreBinned 1.0
BinByFactor 4
#GradientFile ts.maggrad
$if (-e ./savework) ./savework
"""


def mdoc(
    views: int = VIEWS, title: str = "    Tilt axis angle = 84.1, binning = 1  spot = 8"
) -> str:
    head = (
        "PixelSpacing = 1.35\nVoltage = 300\nImageFile = ts.mrc\nImageSize = 3838 3710\nDataMode = 1\n\n"
        "[T = SerialEM: Digitized on a microscope           12-Mar-24  09:14:31    ]\n\n"
        f"[T = {title}]\n\n"
    )
    return head + "\n".join(mdoc_section(i) for i in range(views)) + "\n"


def mdoc_section(i: int) -> str:
    return (
        f"[ZValue = {i}]\n"
        f"TiltAngle = {ANGLES[i % len(ANGLES)] + 0.01:.2f}\n"
        "StagePosition = -103.5 88.21\n"
        f"ExposureDose = {2.5 + 0.1 * i:.3f}\n"
        "PixelSpacing = 1.35\n"
        "Defocus = -2.51\n"
        "RotationAngle = 174.1\n"
        "ExposureTime = 0.8\n"
        "Binning = 1\n"
        "CountsPerElectron = 31.5\n"
        f"MinMaxMean = -12 4096 {830.5 + i}\n"
        f"PriorRecordDose = {2.5 * i:.3f}\n"
        f"SubFramePath = X:\\frames\\day 1\\ts_{i:03d}_{ANGLES[i % len(ANGLES)]:.1f}.tif\n"
        "NumSubFrames = 8\n"
        "FrameDosesAndNumber = 0.3125 8\n"
        f"DateTime = 12-Mar-24  09:{14 + i}:31\n"
    )


def aln(
    sections: list[int],
    tilts: list[float],
    dark: list[tuple[int, int, float]] = (),  # type: ignore[assignment]
    patches: int = 0,
    version: int = 3,
) -> str:
    """An alignment, with rows of some shifts about an axis near 84 degrees."""
    rng = np.random.default_rng(3)
    lines = ["# AreTomo Alignment / Priims bprmMn" + " " * (version < 3)]
    lines.append(f"# RawSize = 3838 3710 {len(sections) + len(dark)}")
    lines.append(f"# NumPatches = {patches}")
    lines += [
        f"# DarkFrame =  {frame:4d} {section:4d} {tilt:8.2f}" for frame, section, tilt in dark
    ]
    if version == 3:
        lines += [
            f"# AlphaOffset = {-1.5:8.2f}",
            f"# BetaOffset = {0.25:8.2f}",
            "# Thickness = 870",
        ]
    lines.append(
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"
    )
    for section, tilt in zip(sections, tilts, strict=True):
        x, y = rng.normal(0, 60, 2)
        lines.append(
            f"{section:5d}  {AXIS + rng.normal(0, 0.2):9.4f}  {1:9.5f}  {x:9.3f}  {y:9.3f}  {1:7.2f}  "
            f"{1:7.2f}  {1:7.2f}  {0:7.2f}  {tilt:8.2f}"
        )
    if patches or version < 3:
        lines.append("# Local Alignment")
    for t in range(len(sections)):
        lines += [
            f"{t:4d} {p:3d} {10.0 * p:8.2f}  {-5.0 * p:8.2f}  {0.5:8.2f}  {-0.25:8.2f}  {1:4.1f}"
            for p in range(patches)
        ]
    return "\n".join(lines) + "\n"
