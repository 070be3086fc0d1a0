"""The figure: a slice of every cell, as each method reconstructs it, and its error.

    python benchmarks/study/figure.py

It reads the volumes that table.py left in the work folder, and leaves out methods that have none there;
`table.py --geometry 64 --again --method NAME ...` makes them. It writes
benchmarks/results/study/figure.png, and from the ring correlations in table_*.json
benchmarks/results/study/rings.png.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from cells import NOISES, RESULTS, SCORE_ROWS, Cell, tissue
from methods import METHODS, OURS, TODAY, WARM_N
from PIL import Image
from table import load

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

SHOWN = [name for name, method in METHODS.items() if method.N in (None, WARM_N[0])]
SHOWN += [TODAY, "DDGM (all noise), mean of 8", "DDGM, paper's rule", *OURS.values()]
# Which slice, and which columns of the field.
ROW, COLUMNS = 0, slice(120, 280)


def images(table: list[dict], work: Path, names: list[str], out: Path) -> None:
    """Methods downwards; reconstruction and error for each noise level across."""
    figure, axes = plt.subplots(
        len(names) + 1, 2 * len(NOISES), figsize=(13, 0.92 * (len(names) + 1)), squeeze=False
    )
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    for column, noise in enumerate(NOISES):
        rows = next(line["rows"] for line in table if line["noise"] == noise)
        cell = Cell(noise, tuple(rows))
        whole = tissue(cell)
        spare = (whole.shape[2] - cell.field) // 2
        truth = whole[:, ROW, spare : spare + cell.field][:, COLUMNS]
        low, high = np.percentile(truth, (0.5, 99.5))
        spread = 2 * truth.std()
        axes[0, 2 * column].imshow(truth, cmap="gray", vmin=low, vmax=high)
        axes[0, 2 * column].set_title(f"noise {noise:.0%}", fontsize=9)
        axes[0, 2 * column + 1].set_title("error", fontsize=9)
        label(axes[0, 0], "truth")
        for line, name in enumerate(names, start=1):
            found = np.load(volume_of(work, cell, name))[:, ROW, COLUMNS].astype(np.float32)
            axes[line, 2 * column].imshow(found, cmap="gray", vmin=low, vmax=high)
            axes[line, 2 * column + 1].imshow(found - truth, cmap="RdBu", vmin=-spread, vmax=spread)
            label(axes[line, 0], name)
    figure.subplots_adjust(0.08, 0.01, 0.995, 0.97, 0.03, 0.05)
    figure.savefig(out, dpi=85)
    # A palette: a third of the size, and no difference that can be seen.
    Image.open(out).convert("RGB").quantize(256).save(out, optimize=True)
    plt.close(figure)


def volume_of(work: Path, cell: Cell, name: str) -> Path:
    """Where table.py keeps the volume of a line."""
    return work / cell.key / f"{name}.npy"


def label(axis: Axes, text: str) -> None:
    """Left of an image."""
    axis.set_ylabel(text.replace(", ", ",\n"), fontsize=7, rotation=0, ha="right", va="center")


def curves(table: list[dict], names: list[str], out: Path) -> None:
    """Ring correlation with the truth: measured orientations above, the missing wedge below."""
    figure, axes = plt.subplots(
        2, len(NOISES), figsize=(13, 6), sharex=True, sharey=True, squeeze=False
    )
    for column, noise in enumerate(NOISES):
        for part, axis in zip(("measured", "missing"), axes[:, column], strict=True):
            for index, name in enumerate(names):
                for row in table:
                    if (row["noise"], row["method"]) == (noise, name):
                        style = "-" if index < 10 else "--"
                        curve = np.array(row["rings"][part], dtype=float)
                        width = 2.2 if name.startswith(("DDGM", "ours")) else 0.9
                        axis.plot(row["rings"]["frequency"], curve, style, lw=width, label=name)
            axis.set_title(f"noise {noise:.0%}, {part}", fontsize=9)
            axis.set_xlim(0, 0.3)
            axis.set_ylim(-0.1, 1)
            axis.grid(alpha=0.3)
    axes[1, len(NOISES) // 2].set_xlabel("cycles per voxel")
    axes[0, 0].set_ylabel("ring correlation with the truth")
    axes[0, -1].legend(fontsize=6, ncols=2)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    table = [line for noise in NOISES for line in load(RESULTS, Cell(noise, SCORE_ROWS["medulla"]))]
    curves(table, SHOWN, RESULTS / "rings.png")
    found = [Cell(noise, SCORE_ROWS["medulla"]) for noise in NOISES]
    names = [n for n in SHOWN if all(volume_of(args.work, c, n).exists() for c in found)]
    if left_out := [name for name in SHOWN if name not in names]:
        print(f"figure.png leaves out what has no volume in {args.work}: {', '.join(left_out)}")
    if not names:
        raise SystemExit("no method is left for figure.png: run table.py --geometry 64 --again")
    images(table, args.work, names, RESULTS / "figure.png")


if __name__ == "__main__":
    main()
