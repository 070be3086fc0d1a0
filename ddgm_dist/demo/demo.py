"""The demo: simulated tissue and a real needle, reconstructed on Ray, with a table and pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.core.box import Box
from ddgm_dist.demo.descent_only import descend_only
from ddgm_dist.errors import InputError
from ddgm_dist.evaluation.evaluate import evaluate
from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.paths.locate import place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.samples import sample_path
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.simulate import simulate

__all__ = ["run_demo"]

SHAPE = (64, 8, 512)
FIELD = 400
NOISE = "gaussian:0.3"
WORKERS = 2
NEEDLE = {"boundary": "vacuum"}
NEEDLE_THICKNESS = 96
NEEDLE_STOPS = (25,)

MARK = ".ddgm-dist-demo"
NAMES = (
    "tissue-tilts.zarr", "tissue.zarr", "tissue.png", "tissue.json",
    "needle-tilts.zarr", "needle.zarr", "needle.png",
)  # fmt: skip

Volume = NDArray[np.float32]


def run_demo(directory: str | Path, *, report: Callable[[str], None]) -> None:
    """Run the demo.

    Parameters
    ----------
    directory
        Folder to write into; what an earlier demo left there is replaced.
    report
        Takes each line of text.

    Raises
    ------
    InputError
        The folder holds files of the demo's names that no demo has written.
    """
    started = time.monotonic()
    folder = Path(directory)
    _claim(folder)
    tissue = _tissue(folder, report)
    needle = _needle(folder, report)
    report(f"\nDone in {time.monotonic() - started:.0f} s. Everything lies in {folder}/:")
    for path, what in {**tissue, **needle}.items():
        report(f"  {path.relative_to(folder)!s:<24}{what}")


def _claim(folder: Path) -> None:
    """Make the folder, and mark it as a demo's: only there are files replaced."""
    refuse_overlap(place_of(folder, "DIR"), "DIR", [("sample", sample_path("needle").resolve())])
    if folder.exists() and not folder.is_dir():
        raise InputError("DIR", str(folder), "is not a folder", "name one that may be made")
    taken = next((name for name in NAMES if (folder / name).exists()), None)
    if taken is not None and not (folder / MARK).exists():
        raise InputError(
            "DIR", str(folder), f"holds {taken}, which no demo has written", "name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _tissue(folder: Path, report: Callable[[str], None]) -> dict[Path, str]:
    """Procedural tissue: simulate, reconstruct, compare with the truth."""
    z, y, x = SHAPE
    tilts, out, picture, table = (folder / name for name in NAMES[:4])
    phantom = TissuePhantom(SHAPE, seed=1)
    report(f"Procedural tissue, {z} x {y} x {x} voxels: 61 tilts within 60 degrees, noise {NOISE},")
    report(f"recorded over the middle {FIELD} columns.")
    simulate(phantom, tilts, noise=NOISE, field=FIELD, pixel_size_nm=10.0, overwrite=True)
    result = reconstruct(tilts, out, engine="ray", workers=WORKERS, overwrite=True, progress=True)
    report(result.describe())
    scores = {
        f"gradient descent, K = {K}": (volume, evaluate(volume, phantom).to_dict())
        for K, volume in descend_only(tilts).items()
    }
    name, (descended, best) = min(scores.items(), key=lambda item: item[1][1]["mse"])
    ddgm = evaluate(out, phantom).to_dict()
    rows = {f"{name} (best of 9)": best, "DDGM, N = 50": ddgm}
    report(f"\n{'':<36}{'MSE':>10}{'of variance':>13}{'SSIM':>8}")
    for label, score in rows.items():
        report(f"{label:<36}{score['mse']:>10.1f}{score['nmse']:>13.4f}{score['ssim']:>8.3f}")
    report(f"DDGM's error is {ddgm['mse'] / best['mse']:.2f} of the best gradient descent's.\n")
    replace_file(table, f"{json.dumps(rows, indent=1)}\n".encode())
    first = (x - FIELD) // 2
    truth = phantom.read(Box((0, y // 2, first), (z, y // 2 + 1, first + FIELD)))[:, 0]
    volume = result.volume().read(Box((0, y // 2, 0), (z, y // 2 + 1, FIELD)))[:, 0]
    _draw(
        picture,
        {
            "truth": truth,
            name: descended[:, y // 2],
            "DDGM": volume,
            "DDGM - truth": volume - truth,
        },
    )
    return {
        tilts: "the simulated tilt series",
        out: "its reconstruction (OME-Zarr), with the record of the run",
        picture: "truth, gradient descent, DDGM, error",
        table: "the table",
    }


def _needle(folder: Path, report: Callable[[str], None]) -> dict[Path, str]:
    """A real electron tilt series, isolated in vacuum."""
    tilts, out, picture = (folder / name for name in NAMES[4:])
    report("Real electron tilt series of a needle (HAADF-STEM, 77 tilts within 76 degrees):")
    ingest(sample_path("needle"), tilts, thickness=NEEDLE_THICKNESS, overwrite=True)
    result = reconstruct(
        tilts, out, NEEDLE, engine="ray", workers=WORKERS, overwrite=True, progress=True
    )
    report(result.describe())
    depth, rows, columns = result.plan.shape
    row = rows // 2
    volume = result.volume().read(Box((0, row, 0), (depth, row + 1, columns)))[:, 0]
    along = result.volume().read(Box((depth // 2, 0, 0), (depth // 2 + 1, rows, columns)))[0]
    (descended,) = descend_only(tilts, NEEDLE, NEEDLE_STOPS).values()
    _draw(
        picture,
        {
            f"gradient descent, K = {NEEDLE_STOPS[0]} (across)": descended[:, row],
            "DDGM (across)": volume,
            "DDGM (along)": along,
        },
    )
    return {
        tilts: "the needle's tilt series",
        out: "its reconstruction",
        picture: "cross-sections: gradient descent, DDGM",
    }


def _draw(path: Path, panels: dict[str, Volume]) -> None:
    """Grey images one above the other, on one scale; a difference is centred on zero."""
    images = list(panels.values())
    shown = [image.ravel() for title, image in panels.items() if " - " not in title]
    low, high = np.percentile(np.concatenate(shown), (0.5, 99.8))
    widest = max(image.shape[1] for image in images)
    heights = [image.shape[0] for image in images]
    width = 9.0
    figure = Figure(
        figsize=(width, width * sum(heights) / widest + 0.35 * len(images)), layout="constrained"
    )
    axes = figure.subplots(len(images), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        half = (high - low) / 2
        limits = (-half, half) if " - " in title else (low, high)
        axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_axis_off()
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=150))
