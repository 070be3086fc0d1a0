"""Files as SerialEM and IMOD leave them, made from a phantom without the package's own alignment.

A tissue phantom is projected. The detector sees the projections turned by the angle of the tilt axis,
shifted, as counts. Written are the stack, its mdoc, and IMOD's ``.xf``, ``.tlt``, ``.rawtlt``,
``tilt.com`` and ``newst.com``.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import mrcfile
import numpy as np
import scipy.ndimage as ndi

from ddgm_dist.core.box import Box
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.projector import project

THICKNESS = 32
WIDTH = 200  # columns and rows that are projected: more than a turned detector sees
DETECTOR = 128
ANGLES = tuple(range(-60, 61, 3))
BEAM = 3000.0
PIXEL_NM = 1.2


@dataclass
class Recorded:
    """A recorded series: its files, and the truth over the aligned field."""

    stack: Path
    truth: np.ndarray  # (z, y, x) over the aligned images' field, in the data's unit
    rows: slice
    bad: tuple[int, int]  # numbers of the bad views, from 1
    order: list[float] = field(default_factory=list)  # angles as stored


@cache
def phantom_projections(rows):
    """Truth ``(z, y, x)`` and projections ``(tilt, y, u)`` of the first rows, widths in pixels.

    Made once for all tests, so nobody may write to them.
    """
    wide = (
        2 * WIDTH + 2 * 60 + 4
    )  # at 60 degrees the detector sees twice its width, and rays are oblique
    phantom = TissuePhantom((THICKNESS, WIDTH, wide))
    box = Box((0, 0, 0), (THICKNESS, rows, wide))
    volume = phantom.read(box)
    volume = (volume - volume.min()) / (volume.max() - volume.min())
    # As in transmission: dense material absorbs. The beam is weakened to about a third.
    volume = (1.5 - volume) / THICKNESS * 0.9
    projections = project(volume.astype(np.float32), ANGLES, n_u=WIDTH)
    inner = (wide - WIDTH) // 2
    truth = volume[:, :, inner : inner + WIDTH]
    for array in (truth, projections):
        array.setflags(write=False)
    return truth, projections


def write_serialem(
    folder,
    truth,
    projections,
    axis_deg,
    *,
    seed=0,
    name="ts",
    shift=8.0,
    companions=True,
    height=DETECTOR,
):
    """Write all files of a series into a folder.

    Parameters
    ----------
    truth, projections
        As `phantom_projections` gives them, all rows.
    axis_deg
        Angle of the tilt axis from the vertical, degrees.
    height
        Rows of the detector.
    """
    r = np.random.default_rng(seed)
    folder = Path(folder)
    tilts = len(ANGLES)
    # Dose-symmetric: 0, +3, -3, -6, +6, ...; stored in the order of recording.
    order = sorted(range(tilts), key=lambda i: (abs(ANGLES[i]), i % 2 == 0))
    shifts = r.uniform(-shift, shift, size=(tilts, 2))
    c, s = np.cos(np.deg2rad(axis_deg)), np.sin(np.deg2rad(axis_deg))
    turn = np.array([[c, s], [-s, c]])  # raw -> aligned, coordinates (x, y) from the centres
    images, transforms = [], []
    size = (height, DETECTOR)
    middle_out = (np.array(projections.shape[1:])[:, None] - 1) / 2
    y, x = np.mgrid[:height, :DETECTOR].astype(float)
    y, x = y - (height - 1) / 2, x - (DETECTOR - 1) / 2
    for i in order:
        aligned_xy = turn @ np.stack([x.ravel(), y.ravel()]) + shifts[i][:, None]
        line = ndi.map_coordinates(
            projections[i].astype(np.float64),
            aligned_xy[::-1] + middle_out,
            order=5,
            mode="nearest",
        )
        counts = r.poisson(BEAM * np.exp(-line)).reshape(size).astype(np.int32)
        images.append(counts)
        transforms.append([*turn.ravel(), *shifts[i]])
    images = np.array(images)
    for image in images:  # X-rays and hot pixels
        hot = height * DETECTOR // 900
        at = r.integers(0, height, size=hot), r.integers(0, DETECTOR, size=hot)
        image[at] = r.integers(9000, 32000, size=hot)
    bad = (tilts // 3, tilts // 2)
    images[bad[0] - 1] = r.poisson(3.0, size=images[0].shape)  # the shutter was closed
    images[bad[1] - 1] = 32767  # saturated
    stack = folder / f"{name}.mrc"
    with mrcfile.new(stack) as mrc:
        mrc.set_data(images.clip(0, 32767).astype(np.int16))
        mrc.voxel_size = PIXEL_NM * 10
    angles = [float(ANGLES[i]) for i in order]
    if companions:
        _write_companions(folder, name, axis_deg, angles, transforms, height)
    low, left = (truth.shape[1] - height) // 2, (truth.shape[2] - DETECTOR) // 2
    return Recorded(
        stack,
        truth[:, low : low + height, left : left + DETECTOR],
        slice(0, height),
        bad,
        angles,
    )


def _write_companions(folder, name, axis_deg, angles, transforms, height):
    (folder / f"{name}.rawtlt").write_text("".join(f"{a:9.2f}\n" for a in angles))
    (folder / f"{name}.tlt").write_text("".join(f"{a:9.2f}\n" for a in angles))
    (folder / f"{name}.xf").write_text(
        "".join("{:12.7f}{:12.7f}{:12.7f}{:12.7f}{:12.3f}{:12.3f}\n".format(*t) for t in transforms)
    )
    head = (
        f"PixelSpacing = {PIXEL_NM * 10}\nVoltage = 300\nImageFile = {name}.mrc\n"
        f"ImageSize = {DETECTOR} {height}\nDataMode = 1\n\n"
        "[T = SerialEM: Acquired on a microscope                   01-Feb-24  12:00:00    ]\n\n"
        f"[T =     Tilt axis angle = {axis_deg:.1f}, binning = 1  spot = 8  camera = 0]\n\n"
    )
    sections = [
        f"[ZValue = {z}]\nTiltAngle = {a:.4f}\nStagePosition = 0 0\nMagnification = 33000\n"
        f"ExposureDose = 3.0\nPixelSpacing = {PIXEL_NM * 10}\nBinning = 1\n"
        f"SubFramePath = X:\\frames\\{name}_{z:03d}_{a:.1f}.tif\nDateTime = 01-Feb-24  12:{z:02d}:00\n\n"
        for z, a in enumerate(angles)
    ]
    (folder / f"{name}.mrc.mdoc").write_bytes(
        (head + "".join(sections)).replace("\n", "\r\n").encode()
    )
    (folder / "tilt.com").write_text(
        "# Command file to run Tilt\n#\n####CreatedVersion#### 4.9.0\n$setenv IMOD_OUTPUT_FORMAT MRC\n"
        f"$tilt -StandardInput\nInputProjections {name}_ali.mrc\nOutputFile {name}_full_rec.mrc\n"
        f"IMAGEBINNED 1\nTILTFILE {name}.tlt\nTHICKNESS {THICKNESS}\nRADIAL 0.35 0.035\nXAXISTILT 0.0\n"
        "LOG 0.0\nSCALE 0.0 1000.0\nPERPENDICULAR\nMODE 1\nSHIFT 0.0 0.0\nOFFSET 0.0\n"
        f"FULLIMAGE {DETECTOR} {height}\nSUBSETSTART 0 0\n$if (-e ./savework) ./savework\n"
    )
    (folder / "newst.com").write_text(
        "$newstack -StandardInput\nAntialiasFilter -1\n"
        f"InputFile {name}.mrc\nOutputFile {name}_ali.mrc\nTransformFile {name}.xf\n"
        f"TaperAtFill 1,1\nAdjustOrigin\nSizeToOutputInXandY {DETECTOR},{height}\n"
        "OffsetsInXandY 0.0,0.0\nBinByFactor 1\n$if (-e ./savework) ./savework\n"
    )
