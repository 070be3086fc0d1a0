"""Small stacks with the files that programs leave beside them."""

import mrcfile
import numpy as np

ANGLES = (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0)
SHAPE = (7, 20, 24)
# A quarter turn: what is at (x, y) from the middle goes to (y, -x).
QUARTER = (0.0, 1.0, -1.0, 0.0, 0.0, 0.0)


def stack(folder, name="ts.mrc", shape=SHAPE, seed=0):
    """An MRC stack of random integers; returns its path and its pixels."""
    data = np.random.default_rng(seed).integers(100, 30000, size=shape).astype(np.int16)
    with mrcfile.new(folder / name) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 12.0
    return folder / name, data


def angles_file(folder, name="ts.tlt", angles=ANGLES):
    (folder / name).write_text("".join(f"{a:8.2f}\n" for a in angles))


def xf_file(folder, transforms, name="ts.xf"):
    line = "{:12.7f}{:12.7f}{:12.7f}{:12.7f}{:12.3f}{:12.3f}\n"
    (folder / name).write_text("".join(line.format(*t) for t in transforms))


def mdoc_file(folder, name="ts.mrc.mdoc", axis=84.1, order=range(7), angles=ANGLES):
    title = f"[T =   Tilt axis angle = {axis}, binning = 1]"
    head = f"PixelSpacing = 12.0\nImageFile = ts.mrc\n\n{title}\n\n"
    sections = [f"[ZValue = {z}]\nTiltAngle = {angles[z]}\n\n" for z in order]
    (folder / name).write_text(head + "".join(sections))


def tilt_command(folder, *lines, name="tilt.com"):
    text = ["$tilt -StandardInput", "InputProjections ts_ali.mrc", "OutputFile ts_rec.mrc", *lines]
    (folder / name).write_text("\n".join(text) + "\n$if (-e ./savework) ./savework\n")


def facts(series):
    return {f.what: (f.value, f.origin) for f in series.meta.provenance.facts}


def unused(series):
    return {u.name: u.why for u in series.meta.provenance.unused}
