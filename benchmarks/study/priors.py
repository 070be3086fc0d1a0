"""DDGM with priors trained on the wrong images.

    python benchmarks/study/priors.py [--steps 1200] [--only KIND ...] [--show]

Every prior has the shipped one's architecture and the same steps of training, so that only the images
differ; `tissue` is the control, and the shipped prior (longer trained) is shown beside. `coarse` and
`fine` are the tissue at twice and at half the pixel size (things look half or twice as large), `shot
noise` the tissue with as much noise in it as half its contrast, `photographs` pictures of other things.
The reference geometry at three levels of noise, the scored slices, one seed, default settings. Figures
go to benchmarks/results/study/priors.json as they come; weights to the work folder, and what is there
is not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from methods import DDGM_DEFAULT, METHODS
from numpy.typing import NDArray
from scipy.ndimage import zoom
from skimage import color, data
from slabs import DATA, NOISES, RESULTS, SCORE_ROWS, Cell, make_slab

from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.patches import PatchSampler
from ddgm_dist.prior.training import TrainingOptions, train_network
from ddgm_dist.prior.unet import UNet
from ddgm_dist.prior.weights import load_weights, shipped_weights
from ddgm_dist.train import read_images

SEED = 0
FILE = RESULTS / "priors.json"


def tissue() -> list[NDArray]:
    return [read_images(DATA / "fibsem_medulla" / "train", slice(0, 345))]


def coarse() -> list[NDArray]:
    (volume,) = tissue()
    z, y, x = (n // 2 for n in volume.shape)
    blocks = volume[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    return [blocks.mean(axis=(1, 3, 5), dtype=np.float32)]


def fine() -> list[NDArray]:
    (volume,) = tissue()
    return [zoom(volume[:170, :260, :260].astype(np.float32), 2, order=1)]


def shot_noise() -> list[NDArray]:
    (volume,) = tissue()
    counts = 4 * volume.mean() / volume.var()  # per grey level: variance a quarter of the tissue's
    noisy = np.random.default_rng(0).poisson(volume * counts).astype(np.float32)
    return [noisy / np.float32(counts)]


def photographs() -> list[NDArray]:
    grey = [data.camera(), data.coins(), data.moon(), data.brick(), data.grass(), data.gravel()]
    grey += [255 * color.rgb2gray(image) for image in (data.astronaut(), data.coffee())]
    return [np.asarray(image, dtype=np.float32)[None] for image in grey]


KINDS: dict[str, Callable[[], list[NDArray]]] = {
    "tissue": tissue,
    "coarse": coarse,
    "fine": fine,
    "shot noise": shot_noise,
    "photographs": photographs,
}


def trained(kind: str, steps: int, work: Path) -> UNet:
    """The prior of a kind; from the work folder if it has been trained."""
    spec = load_weights(shipped_weights()).net.spec
    file = work / f"prior_{kind.replace(' ', '_')}_{steps}_{hash(spec) & 0xFFFFFFFF:08x}.pt"
    if file.exists():
        net = UNet(spec)
        net.load_state_dict(torch.load(file, weights_only=True))
    else:
        planes = ("yx",) if kind == "photographs" else ("yx", "zx", "zy")
        sampler = PatchSampler(KINDS[kind](), planes=planes)
        options = TrainingOptions(steps=steps, warmup=100)
        net, _ = train_network(
            sampler, options, spec=spec, checkpoint=file.with_suffix(".partial.ckpt")
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), file)
    return net.eval().requires_grad_(False)


def show(found: list[dict]) -> None:
    """As markdown: NMSE (SSIM) at every level of noise."""
    print("| prior | " + " | ".join(f"{n:.0%}" for n in NOISES) + " |")
    print("| --- " * (len(NOISES) + 1) + "|")
    for kind in ("shipped", *KINDS):
        lines = {r["noise"]: r for r in found if r["prior"] == kind}
        if lines:
            cells = (
                f"{lines[n]['nmse']:.4f} ({lines[n]['ssim']:.3f})" for n in NOISES if n in lines
            )
            print(f"| {kind} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200, help="of training, each")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--show", action="store_true", help="print what has been measured")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else []
    for kind in () if args.show else ("shipped", *args.only):
        args.work.mkdir(parents=True, exist_ok=True)
        net = (
            load_weights(shipped_weights()).net
            if kind == "shipped"
            else trained(kind, args.steps, args.work)
        )
        for noise in NOISES:
            slab = make_slab(Cell(noise, SCORE_ROWS["medulla"]), args.work)
            slab = replace(slab, denoiser=UNetDenoiser(net))
            x = METHODS["DDGM"].run(slab, {**DDGM_DEFAULT, "N": 50}, SEED)
            scores = slab.score(x)
            line = {"prior": kind, "noise": noise, "steps": args.steps, "shipped": slab.prior}
            line |= {name: scores[name] for name in ("nmse", "psnr", "ssim")}
            found = [r for r in found if (r["prior"], r["noise"]) != (kind, noise)] + [line]
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{kind} {noise:.0%}: nmse {line['nmse']:.4f}", flush=True)
    show(found)


if __name__ == "__main__":
    main()
