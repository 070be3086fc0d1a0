"""The table: every method, with the settings that the search found, on rows it did not see.

    python benchmarks/study/table.py [--quick] [--show]

MSE (as a fraction of the tissue's variance too), PSNR, SSIM, mean Fourier ring correlation below 1/4
cycle per voxel of the frequencies inside the measured wedge and in the missing wedge, wall time on one
core and denoiser calls. Figures go to benchmarks/results/study/table.json after every run, volumes to
the work folder for figure.py; what is there is not run again. --quick takes one row of each cell and
keeps its figures in the work folder. --show only prints what there is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from methods import DDGM_DEFAULT, DDGM_PAPER, METHODS
from search import Record
from slabs import NOISES, RESULTS, SCORE_ROWS, Cell, Slab, make_slab

SEED = 0
# Cycles per voxel up to which ring correlations are averaged.
BAND = 0.25


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
    """

    name: str
    method: str
    N: int
    settings: dict | None = None
    samples: int = 1


def rows(searched: int) -> list[Row]:
    """All lines; ``searched`` is the N of the search."""
    table = [Row(name, name, searched if m.denoises else 0) for name, m in METHODS.items()]
    return [
        *table,
        Row("DDGM, N = 50", "DDGM", 50),
        Row("DDGM (defaults), N = 50", "DDGM", 50, DDGM_DEFAULT),
        Row("DDGM, paper's rule, N = 50", "DDGM", 50, DDGM_PAPER),
        Row("DDGM, mean of 8", "DDGM", searched, samples=8),
    ]


def score_row(slab: Slab, row: Row, settings: dict, keep: Path) -> dict:
    """Run a line of the table on a cell; the volume is kept for the figure."""
    given = {**settings, "N": row.N} if row.N else settings
    before = (slab.calls.forward, slab.calls.backward)
    started = time.perf_counter()
    samples = [METHODS[row.method].run(slab, given, SEED + s) for s in range(row.samples)]
    x = torch.stack(samples).mean(dim=0)
    seconds = time.perf_counter() - started
    keep.parent.mkdir(parents=True, exist_ok=True)
    np.save(keep, slab.restore(x).astype(np.float16))
    return {
        "cell": slab.cell.label,
        "noise": slab.cell.noise,
        "rows": list(slab.cell.rows),
        "method": row.name,
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


def show(table: list[dict]) -> None:
    """As markdown, one table per noise level; bold is the best single sample of a column."""
    for noise in sorted({r["noise"] for r in table}):
        lines = [r for r in table if r["noise"] == noise]
        print(f"\n**Noise {noise:.0%}**, {len(lines[0]['rows'])} slices, N as stated\n")
        print(
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
                f"| {r['seconds']:.1f} | {calls if r['denoiser_calls'] else 0} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--N", type=int, default=30, help="denoiser calls of the search")
    parser.add_argument("--noise", type=float, nargs="+", default=NOISES)
    parser.add_argument("--method", nargs="+", help="names of lines; all when left out")
    parser.add_argument("--quick", action="store_true", help="one row of each cell, no N = 50")
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path("/tmp/ddgm-study"))
    args = parser.parse_args()
    out = (args.work / "quick" if args.quick else RESULTS) / "table.json"
    table: list[dict] = json.loads(out.read_text()) if out.exists() else []
    lines = [row for row in rows(args.N) if not args.method or row.name in args.method]
    if args.quick:
        lines = [row for row in lines if row.N <= args.N and row.samples == 1]
    taken = SCORE_ROWS[:1] if args.quick else SCORE_ROWS
    for noise in () if args.show else args.noise:
        record = Record(noise, args.N)
        slab = make_slab(Cell(noise, taken), args.work)
        for row in lines:
            settings = row.settings or record.best(row.method)
            done = [r for r in table if (r["noise"], r["method"]) == (noise, row.name)]
            if done and done[0]["settings"] == settings:
                continue
            table = [r for r in table if r not in done]
            keep = args.work / slab.cell.key / f"{row.name}.npy"
            table.append(score_row(slab, row, settings, keep))
            order = [r.name for r in rows(args.N)]
            table.sort(key=lambda r: (r["noise"], order.index(r["method"])))
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(table, indent=1) + "\n")
            last = next(r for r in table if (r["noise"], r["method"]) == (noise, row.name))
            print(f"{noise:.0%} {row.name}: nmse {last['nmse']:.4f}", flush=True)
    show(table)


if __name__ == "__main__":
    main()
