"""The table: every method, with the settings that the search found, on rows it did not see.

    python benchmarks/study/table.py [--geometry NAME ...] [--noise 0.05 0.3 1] [--quick] [--show]

The columns are MSE (also as a fraction of the tissue's variance), PSNR, SSIM, Fourier ring correlation,
processor seconds and denoiser calls. The ring correlation is the mean below 1/4 cycle per voxel, for
frequencies inside the measured wedge and in the missing wedge. Figures go to benchmarks/results/study
after every run, a file per cell, and volumes to the work folder for figure.py. Existing ones are kept
without --again.

--quick scores one slice of each level of noise, and keeps its figures in the work folder. --show prints
existing figures: the reference geometry in full, and the errors of every cell relative to the best
classical method.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from methods import DDGM_DEFAULT, DDGM_PAPER, METHODS
from search import Record
from slabs import (
    GEOMETRIES,
    NOISES,
    RESULTS,
    SCORE_ROWS,
    SEARCH_ROWS,
    Cell,
    Slab,
    cells,
    fraction,
    make_slab,
)

SEED = 0
# Cycles per voxel up to which ring correlations are averaged.
BAND = 0.25
# Samples differ more, each is a little worse, and their mean is better.
NOISIER = {**DDGM_DEFAULT, "added_noise": 0.6}
ALL_NOISE = {**DDGM_DEFAULT, "added_noise": 1.0}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    name, method
        As shown; of `METHODS`.
    N
        Denoiser calls of one sample.
    settings
        The search's when None.
    samples
        Seeds whose mean is scored.
    everywhere
        In every geometry, or in the two of 61 tilts within 60 degrees alone.
    """

    name: str
    method: str
    N: int
    settings: dict | None = None
    samples: int = 1
    everywhere: bool = True


def rows(searched: int) -> list[Row]:
    """All lines; ``searched`` is the N of the search."""
    table = [Row(name, name, searched if m.denoises else 0) for name, m in METHODS.items()]
    return [
        *table,
        Row("DDGM (defaults)", "DDGM", searched, DDGM_DEFAULT),
        Row("DDGM, mean of 8", "DDGM", searched, None, 8, everywhere=False),
        Row("DDGM (more noise), mean of 8", "DDGM", searched, NOISIER, 8, everywhere=False),
        Row("more noise, N = 150, mean of 8", "DDGM", 150, NOISIER, 8, everywhere=False),
        Row("DDGM (all noise), mean of 8", "DDGM", searched, ALL_NOISE, 8, everywhere=False),
        Row("all noise, N = 150, mean of 8", "DDGM", 150, ALL_NOISE, 8, everywhere=False),
        Row("DDGM (defaults), N = 150", "DDGM", 150, DDGM_DEFAULT, everywhere=False),
        Row("DDGM, paper's rule", "DDGM", searched, DDGM_PAPER, everywhere=False),
    ]


def score_row(slab: Slab, row: Row, settings: dict, keep: Path) -> dict:
    """Run a line of the table on a cell; the volume is kept for the figure."""
    given = {**settings, "N": row.N} if row.N else settings
    before = (slab.calls.forward, slab.calls.backward)
    started = time.process_time()
    samples = [METHODS[row.method].run(slab, given, SEED + s) for s in range(row.samples)]
    x = torch.stack(samples).mean(dim=0)
    seconds = time.process_time() - started
    keep.parent.mkdir(parents=True, exist_ok=True)
    np.save(keep, slab.restore(x).astype(np.float16))
    return {
        "cell": slab.cell.label,
        "noise": slab.cell.noise,
        "rows": list(slab.cell.rows),
        "method": row.name,
        "prior": slab.prior if METHODS[row.method].denoises else None,
        "settings": settings,
        "samples": row.samples,
        "denoiser_calls": slab.calls.forward - before[0],
        "backward_calls": slab.calls.backward - before[1],
        "seconds": round(seconds, 2),
        **slab.score(x),
    }


def ring_mean(found: dict, part: str) -> float:
    """Mean of a curve over the rings of the band."""
    frequency = np.array(found["rings"]["frequency"])
    return float(np.nanmean(np.array(found["rings"][part], dtype=float)[frequency < BAND]))


def show(lines: list[dict]) -> None:
    """A cell as markdown; bold is the best of a column among single samples."""
    if not lines:
        return
    print(
        f"\n**Noise {lines[0]['noise']:.0%}**\n\n"
        "| method | MSE | NMSE | PSNR | SSIM | FRC measured | FRC missing | s | calls |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    least = min(r["mse"] for r in lines if r["samples"] == 1)
    most = max(r["ssim"] for r in lines if r["samples"] == 1)
    for r in lines:
        mse, ssim = f"{r['mse']:.1f}", f"{r['ssim']:.3f}"
        if r["samples"] == 1:
            mse = f"**{mse}**" if r["mse"] == least else mse
            ssim = f"**{ssim}**" if r["ssim"] == most else ssim
        calls = f"{r['denoiser_calls']}" + (" + VJP" if r["backward_calls"] else "")
        print(
            f"| {r['method']} | {mse} | {r['nmse']:.4f} | {r['psnr']:.2f} | {ssim} "
            f"| {ring_mean(r, 'measured'):.3f} | {ring_mean(r, 'missing'):.3f} "
            f"| {r['seconds']:.1f} | {calls} |"
        )


def summarise(folder: Path, geometries: list[str], noises: list[float]) -> None:
    """Of every cell: NMSE of the best classical method, and MSE over it (and SSIM) of the others."""
    shown = [
        "gradient descent",
        "CGLS",
        "SIRT",
        "WBP",
        "TV",
        "PnP-PGD",
        "DPIR",
        "DDRM",
        "DPS",
        "DiffPIR",
    ]
    shown += ["DDGM", "DDGM (defaults)", "DDGM, mean of 8"]
    print("\n| geometry | noise | best classical, NMSE | " + " | ".join(shown) + " |")
    print("| --- " * (len(shown) + 3) + "|")
    for name in geometries:
        for cell in cells([name], noises, SCORE_ROWS):
            table = {line["method"]: line for line in load(folder, cell)}
            classical = [m for m in table if m in METHODS and not METHODS[m].denoises]
            if not classical:
                continue
            best = min(classical, key=lambda m: table[m]["nmse"])
            figures = [
                f"{table[m]['mse'] / table[best]['mse']:.2f} ({table[m]['ssim']:.3f})"
                if m in table
                else ""
                for m in shown
            ]
            print(
                f"| {name} | {cell.noise:.0%} | {best}, {table[best]['nmse']:.4f} | "
                + " | ".join(figures)
                + " |"
            )


def measure(
    cell: Cell, lines: list[Row], N: int, folder: Path, work: Path, *, again: bool = False
) -> None:
    """Run the lines that a cell's file lacks, or has for other settings or slices; or all, again."""
    slab = make_slab(cell, work)
    record = Record(replace(cell, rows=SEARCH_ROWS[cell.specimen]), N, slab.prior)
    order = [row.name for row in rows(N)]
    reference = (cell.tilts, cell.max_tilt, cell.poisson) == (61, 60.0, False)
    for row in lines:
        if not (row.everywhere or reference):
            continue
        settings = row.settings or record.best(row.method)
        table = load(folder, cell)
        done = [r for r in table if r["method"] == row.name]
        wanted = {"settings": settings, "rows": list(cell.rows)}
        if METHODS[row.method].denoises:
            wanted["prior"] = slab.prior
        if not again and any(wanted.items() <= r.items() for r in done):
            continue
        line = score_row(slab, row, settings, work / cell.key / f"{row.name}.npy")
        table = [r for r in table if r not in done] + [line]
        table.sort(key=lambda r: order.index(r["method"]))
        folder.mkdir(parents=True, exist_ok=True)
        path(folder, cell).write_text(json.dumps(table, indent=1) + "\n")
        print(f"{cell.label} {row.name}: nmse {line['nmse']:.4f}", flush=True)


def path(folder: Path, cell: Cell) -> Path:
    return folder / f"table_{cell.label}.json"


def load(folder: Path, cell: Cell) -> list[dict]:
    """Load the results of a cell that were measured before."""
    file = path(folder, cell)
    return json.loads(file.read_text()) if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--N", type=int, default=50, help="denoiser calls of the search")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES))
    parser.add_argument("--noise", type=fraction, nargs="+", default=NOISES, help="0.05 is 5 %%")
    names = [row.name for row in rows(50)]
    parser.add_argument("--method", nargs="+", choices=names, metavar="NAME", help="lines; or all")
    parser.add_argument("--slices", type=int, default=4, help="scored, per cell")
    parser.add_argument("--quick", action="store_true", help="one slice, the reference geometry")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    folder, slices = (args.work / "quick", 1) if args.quick else (RESULTS, args.slices)
    geometries = list(GEOMETRIES)[:1] if args.quick else args.geometry
    lines = [row for row in rows(args.N) if not args.method or row.name in args.method]
    if args.quick:
        lines = [row for row in lines if row.N <= args.N and row.samples == 1]
    for cell in () if args.show else cells(geometries, args.noise, SCORE_ROWS, slices):
        measure(cell, lines, args.N, folder, args.work, again=args.again)
    for cell in cells(list(GEOMETRIES)[:1], args.noise, SCORE_ROWS):
        show(load(folder, cell))
    summarise(folder, geometries, args.noise)


if __name__ == "__main__":
    main()
