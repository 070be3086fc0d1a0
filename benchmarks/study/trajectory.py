"""Why the added noise helps: the error along a trajectory, and what it has in common with the image.

    python benchmarks/study/trajectory.py [--quick]

The defaults run with several fractions of added noise. The error ``x - truth`` of the inner region is
measured in normalised units.

- Its root mean square before each denoising step, over the level that the denoiser is given.
- Its correlation with the truth after the step: of the whole, of frequencies that the tilts saw, and of
  the missing wedge. It is negative where structure is missing, and zero for independent noise.
- *held*, the truth's coefficient in the estimate, for the same frequencies; 1 if all structure is there.
  Added noise makes a correlation smaller by itself, but not this coefficient.

Figures go to benchmarks/results/study/trajectory.json and trajectory.png, images of the estimate to
trajectories.png.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from cells import NOISES, RESULTS, SCORE_ROWS, Cell
from methods import DDGM_DEFAULT
from slabs import Slab, make_slab
from torch import Tensor

from ddgm_dist.algorithm.schedule import make_schedule, noise_levels

mpl.use("Agg")
import matplotlib.pyplot as plt

SEED, N = 0, 50
ADDED = (0.0, 0.3, 1.0)
SHOWN = (0, 9, 19, 29, 39, 49)
COLUMNS = slice(120, 280)


class Inner:
    """The region whose rays are all measured, in normalised units."""

    def __init__(self, slab: Slab) -> None:
        geometry = slab.problem.geometry
        first = -geometry.domain[0] + geometry.reach
        self.part = slice(first, first + geometry.field - 2 * geometry.reach)
        intensity = slab.problem.intensity
        truth = torch.from_numpy(slab.truth)
        trim = slice(geometry.reach, geometry.field - geometry.reach)
        # From grey levels to what the operator solves for: the inverse of Intensity.restore.
        zero, one = (float(intensity.restore(torch.tensor(v))) for v in (0.0, 1.0))
        self.truth = ((truth - zero) / (one - zero))[..., trim].double()
        steepest = slab.cell.max_tilt
        z = torch.fft.fftfreq(self.truth.shape[0])[:, None]
        x = torch.fft.rfftfreq(self.truth.shape[2])[None]
        # A tilt by theta sees the frequencies along (x, z) = (cos, sin): see the Fourier slice theorem.
        self.missing = (z.abs() > x * math.tan(math.radians(steepest))).double()[:, None]

    def error(self, x: Tensor) -> Tensor:
        return x[..., self.part].double() - self.truth

    def compared(self, error: Tensor) -> tuple[dict[str, float], dict[str, float]]:
        """Correlation with the truth, and how much of it is held: whole, measured, missing wedge."""
        a, b = (torch.fft.rfft2(v - v.mean(), dim=(0, 2)) for v in (error, self.truth))
        correlation, held = {}, {}
        for name, weight in (
            ("whole", torch.ones_like(self.missing)),
            ("measured", 1 - self.missing),
            ("missing", self.missing),
        ):
            cross = (weight * (a * b.conj()).real).sum()
            ours, theirs = ((weight * v.abs() ** 2).sum() for v in (a, b))
            correlation[name] = float(cross / (ours * theirs).sqrt())
            held[name] = 1 + float(cross / theirs)
        return correlation, held


def follow(slab: Slab, added: float) -> tuple[list[dict], list[np.ndarray]]:
    """One trajectory: figures of every iteration, and images of some."""
    inner = Inner(slab)
    settings = {**DDGM_DEFAULT, "added_noise": added}
    sigma = noise_levels("karras", settings["sigma_1"], settings["sigma_N"], N)
    schedule = make_schedule(
        N=N,
        K=settings["K"],
        sigma=sigma,
        added_noise=added,
        rule="noise-aware",
        step_size=slab.problem.step_size,
        sigma_y=slab.sigma_y,
        data_weight_cap=settings["data_weight_cap"],
    )
    noise, denoise = slab.noise(SEED), slab.denoise(SEED)
    x = torch.zeros(slab.box.shape)
    lines, images = [], []
    for n, s in enumerate(sigma):
        x, _ = slab.operator.descend(x, slab.data, schedule.steps[n], slab.problem.step_size)
        noisy = x + schedule.added[n] * noise(n)
        x = denoise(noisy, s, n)
        before, after = inner.error(noisy), inner.error(x)
        told, left = inner.compared(before), inner.compared(after)
        lines.append(
            {
                "n": n + 1,
                "sigma": s,
                "before": float(before.square().mean().sqrt()),
                "after": float(after.square().mean().sqrt()),
                "correlation_before": told[0],
                "correlation_after": left[0],
                "held_before": told[1],
                "held_after": left[1],
            }
        )
        if n in SHOWN:
            images.append(slab.restore(x)[:, 0, COLUMNS])
    return lines, images


def draw(found: dict[str, dict[str, list[dict]]], out: Path) -> None:
    """Three figures downwards, levels of noise across."""
    parts = (
        ("error before denoising / noise level", lambda r: r["before"] / r["sigma"]),
        ("error after denoising", lambda r: r["after"]),
        ("correlation with the truth, measured", lambda r: r["correlation_before"]["measured"]),
        ("correlation with the truth, missing wedge", lambda r: r["correlation_before"]["missing"]),
        ("truth held in the missing wedge", lambda r: r["held_after"]["missing"]),
    )
    figure, axes = plt.subplots(
        len(parts),
        len(found),
        figsize=(4 * len(found), 13),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (noise, runs) in enumerate(found.items()):
        for axis, (title, value) in zip(axes[:, column], parts, strict=True):
            for added, lines in runs.items():
                axis.plot(
                    [r["n"] for r in lines], [value(r) for r in lines], label=f"added {added}"
                )
            axis.set_title(f"noise {float(noise):.0%}: {title}", fontsize=8)
            axis.grid(alpha=0.3)
        axes[0, column].set_yscale("log")
    axes[0, 0].legend(fontsize=7)
    axes[-1, 0].set_xlabel("iteration n")
    figure.tight_layout()
    figure.savefig(out, dpi=85)
    plt.close(figure)


def picture(images: dict[float, list[np.ndarray]], truth: np.ndarray, out: Path) -> None:
    """Estimates along the trajectories of one level of noise."""
    figure, axes = plt.subplots(len(images), len(SHOWN) + 1, figsize=(14, 1.1 * len(images)))
    low, high = np.percentile(truth, (0.5, 99.5))
    for line, (added, row) in zip(axes, images.items(), strict=True):
        for axis, image, n in zip(line, [*row, truth], [*SHOWN, -1], strict=True):
            axis.imshow(image, cmap="gray", vmin=low, vmax=high)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title("truth" if n < 0 else f"n = {n + 1}", fontsize=7)
        line[0].set_ylabel(f"added\n{added}", fontsize=7)
    figure.tight_layout(pad=0.4)
    figure.savefig(out, dpi=85)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one slice, one level of noise")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    folder = args.work / "quick" if args.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[dict]]] = {}
    for noise in NOISES[1:2] if args.quick else NOISES:
        slab = make_slab(Cell(noise, SCORE_ROWS["medulla"][: 1 if args.quick else None]), args.work)
        images = {}
        for added in ADDED:
            found.setdefault(str(noise), {})[str(added)], images[added] = follow(slab, added)
            last = found[str(noise)][str(added)][-1]
            print(f"{noise:.0%} added {added}: error {last['after']:.4f}", flush=True)
        if noise == NOISES[1]:
            picture(images, slab.truth[:, 0, COLUMNS], folder / "trajectories.png")
    (folder / "trajectory.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, folder / "trajectory.png")


if __name__ == "__main__":
    main()
