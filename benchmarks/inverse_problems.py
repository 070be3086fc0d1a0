"""Other inverse problems through the same ddgm(): MRI, deblurring, inpainting, transmission.

    python benchmarks/inverse_problems.py mri|deblurring|inpainting|transmission|all [--quick]

Data are simulated from images that the shipped denoiser was not trained on. They are reconstructed
with DDGM's settings for tomography, unchanged, and with methods without a learned prior. The table is
printed, and figures go to benchmarks/results/inverse_problems.json and docs/figures/. With --quick
images are small and only the first condition is run, without writing either. Settings of the compared
methods (number of steps, weight of the total variation) are the best for the truth, in every
condition.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from inverse_cases import PROBLEMS, Case
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm
from ddgm_dist.algorithm.image_prior import ImagePrior
from ddgm_dist.algorithm.schedule import make_schedule, noise_levels
from ddgm_dist.baselines.tv_descent import tv_descent
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.prior.denoisers import load_denoiser

mpl.use("agg")
import matplotlib.pyplot as plt  # after the backend is chosen

HERE = Path(__file__).resolve().parent
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 400)
# As they are for tomography.
DEFAULTS = ProblemConfig()


def scores(image: Tensor, truth: Tensor) -> dict[str, float]:
    """Error as a fraction of the truth's variance, PSNR and SSIM over the truth's range."""
    a, b = image.double().numpy(), truth.double().numpy()
    mse, span = float(np.mean((a - b) ** 2)), float(np.ptp(b))
    similarity = [
        structural_similarity(
            a[:, row],
            b[:, row],
            data_range=span,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for row in range(b.shape[1])
    ]
    return {
        "nmse": mse / float(b.var()),
        "psnr": 10 * float(np.log10(span**2 / mse)),
        "ssim": float(np.mean(similarity)),
    }


def gradient_descent(case: Case) -> tuple[str, Tensor]:
    """The best early-stopped one."""
    x, done, found = torch.zeros(case.extent), 0, []
    for K in STEPS:
        x, done = case.descend(x, K - done), K
        found.append((scores(case.crop(x), case.truth)["nmse"], f"K = {K}", case.crop(x)))
    _, name, image = min(found, key=lambda f: f[0])
    return f"gradient descent, best {name}", image


def variation(case: Case, iterations: int) -> tuple[str, Tensor]:
    """Total variation of the best weight among a few per decade."""
    found = []
    for weight in case.weights:
        lam = weight * case.lipschitz
        start = torch.zeros(case.extent)
        *_, (_, state) = tv_descent(case.gradient, start, [iterations], lam, case.lipschitz)
        image = case.crop(state.x)
        found.append((scores(image, case.truth)["nmse"], f"lam = {lam:.3g}", image))
    _, name, image = min(found, key=lambda f: f[0])
    return f"total variation, best {name}", image


def denoised(case: Case, denoiser, N: int) -> Tensor:
    """Reconstruct a case with DDGM's defaults in N iterations."""
    s = DEFAULTS
    prior = ImagePrior(denoiser, case.extent, seed=0)
    schedule = make_schedule(
        N=N,
        K=s.K,
        sigma=noise_levels(s.schedule, s.sigma_1, s.sigma_N, N),
        added_noise=s.added_noise,
        rule=s.step_rule,
        step_size=case.step_size,
        sigma_y=case.sigma_y,
        data_weight_cap=s.data_weight_cap,
    )
    x = ddgm(
        prior.start(),
        schedule=schedule,
        descend=case.descend,
        noise=prior.noise,
        denoise=prior.denoise,
    )
    return case.crop(x)


def rows_of(case: Case, denoiser, quick: bool) -> tuple[list[dict], dict[str, Tensor]]:
    """All methods on one case: figures and images."""
    N = 10 if quick else DEFAULTS.N
    images = dict(case.direct)
    seconds = dict.fromkeys(images, 0.0)
    methods = [
        lambda: gradient_descent(case),
        lambda: variation(case, 100 if quick else case.iterations),
        lambda: ("DDGM (defaults)", denoised(case, denoiser, N)),
    ]
    for method in methods:
        started = time.perf_counter()
        name, image = method()
        images[name], seconds[name] = image, time.perf_counter() - started
    rows = [
        {
            "condition": case.condition,
            "data_term": case.data_term,
            "method": name,
            **scores(image, case.truth),
            "seconds": round(seconds[name], 1),
        }
        for name, image in images.items()
    ]
    return rows, images


def draw(problem: str, shown: list[tuple[Case, dict[str, Tensor]]], path: Path) -> None:
    """A row of images per case: truth, data, and what each method made of them."""
    columns = 2 + max(len(images) for _, images in shown)
    figure, axes = plt.subplots(
        len(shown), columns, figsize=(2.1 * columns, 2.35 * len(shown)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for line, (case, images) in zip(axes, shown, strict=True):
        truth = case.truth[:, 0].numpy()
        low, high = np.percentile(truth, (0.5, 99.5))
        line[0].imshow(truth, cmap="gray", vmin=low, vmax=high)
        line[0].set_title(f"truth\n{case.condition}", fontsize=6)
        line[1].imshow(case.shown.numpy(), cmap="gray", aspect="auto")
        line[1].set_title(f"data\n{case.data_term}", fontsize=6)
        for axis, (name, image) in zip(line[2:], images.items(), strict=False):
            s = scores(image, case.truth)
            axis.imshow(image[:, 0].numpy(), cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{name}\nNMSE {s['nmse']:.3f}, SSIM {s['ssim']:.3f}", fontsize=6)
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=56)
    # A palette: a third of the size, and no difference that can be seen.
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    plt.close(figure)


def show(rows: list[dict]) -> None:
    print("| condition | data term | method | NMSE | PSNR | SSIM |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['condition']} | {row['data_term']} | {row['method']} | "
            f"{row['nmse']:.4f} | {row['psnr']:.2f} | {row['ssim']:.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=(*PROBLEMS, "all"))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "inverse_problems.json")
    parser.add_argument("--figures", type=Path, default=HERE.parent / "docs" / "figures")
    parser.add_argument("--quick", action="store_true", help="small images, first condition only")
    parser.add_argument("--only", default="", help="conditions that contain this text")
    args = parser.parse_args()
    denoiser = load_denoiser("fibsem").denoiser
    for problem in PROBLEMS if args.problem == "all" else (args.problem,):
        rows: list[dict] = []
        shown = []
        for case in PROBLEMS[problem](args.data, args.quick):
            if args.only not in case.condition:
                continue
            more, images = rows_of(case, denoiser, args.quick)
            show(more)
            rows += more
            shown.append((case, images))
            if not args.quick:
                draw(problem, shown, args.figures / f"{problem}.png")
                record(args.out, problem, rows)


def record(path: Path, problem: str, rows: list[dict]) -> None:
    """Replace one problem's rows."""
    found = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**found, problem: rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
