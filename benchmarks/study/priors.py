"""DDGM with priors trained on the wrong images, and on other microscopes' specimens.

    python benchmarks/study/priors.py [--steps 300] [--only KIND ...] [--show]

Every prior has the shipped one's architecture and the same steps of training, so that only the images
differ. The shipped prior, trained for much longer, is shown beside them.

- `tissue`: the control.
- `varied`: the tissue as by other microscopes (`train --augment 0.3`).
- `coarse`, `fine`: the tissue at twice and at half the pixel size.
- `shot noise`: the tissue with noise of half its contrast.
- `photographs`: pictures of other things.

Specimens are the scored slices of the reference geometry. Two more are this tissue at 1.5 times the
pixel size, and blurred by a Gaussian of 1.2 pixels. There are three levels of noise, one seed and
default settings. Figures go to benchmarks/results/study/priors.json as they come; existing ones are
kept without --again. Weights go to the work folder, and existing ones are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from cells import DATA, NOISES, RESULTS, SCORE_ROWS, Cell, surround, unfolded
from methods import DDGM_DEFAULT, METHODS
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage import color, data
from slabs import Slab, make_slab, pose

from ddgm_dist.core.box import Box
from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.unet import UNet
from ddgm_dist.prior.weights import load_weights, shipped_weights
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.training.denoising import DenoisingTask
from ddgm_dist.training.images import read_images
from ddgm_dist.training.loop import TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler

SEED = 0
FILE = RESULTS / "priors.json"


def tissue() -> list[NDArray]:
    return [read_images(DATA / "fibsem_medulla" / "train", slice(0, 345))]


VARIETY = 0.3


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
    "varied": tissue,
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
        if kind == "varied":
            sampler = replace(sampler, zoom=VARIETY, tone=VARIETY, blur=VARIETY / 2)
        options = TrainingOptions(steps=steps, warmup=100)
        net, _ = run_training(
            DenoisingTask(sampler, spec=spec),
            options,
            checkpoint=file.with_suffix(".partial.ckpt"),
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), file)
    return net.eval().requires_grad_(False)


def as_scored(noise: float, work: Path) -> Slab:
    return make_slab(Cell(noise, SCORE_ROWS["medulla"]), work)


def coarser(noise: float, work: Path) -> Slab:
    """At 1.5 times the pixel size, which no prior here was trained at."""
    planes = (12_412, 130_404, 260_396, 400_388)  # 1000 y + z; the thickness is along y
    cell = Cell(noise, planes, "coarser", field=220)
    source = open_volume(DATA / "fibsem_medulla" / "train")
    slices = []
    for plane in planes:
        y, z = divmod(plane, 1000)
        fine = source.read(Box((z, y, 0), (z + 1, y + 96, 520)))[0].astype(np.float32)
        slices.append(zoom(gaussian_filter(fine, 0.5), 2 / 3, order=1)[:, :346])
    volume = surround(np.stack(slices, axis=1), cell)
    return pose(cell, volume, work / cell.key / "tilts.zarr")


def blurred(noise: float, work: Path) -> Slab:
    cell = Cell(noise, SCORE_ROWS["medulla"], "blurred")
    sharp = unfolded(replace(cell, specimen="medulla"))
    soft = gaussian_filter(sharp, (1.2, 0, 1.2))
    return pose(cell, surround(soft, cell), work / cell.key / "tilts.zarr")


SPECIMENS: dict[str, Callable[[float, Path], Slab]] = {
    "as scored": as_scored,
    "coarser": coarser,
    "blurred": blurred,
}


def show(found: list[dict]) -> None:
    """As markdown: NMSE at every level of noise, of every specimen."""
    columns = [(name, noise) for name in SPECIMENS for noise in NOISES]
    print("| prior | " + " | ".join(f"{name}, {noise:.0%}" for name, noise in columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    for kind in ("shipped", *KINDS):
        errors = {(r["specimen"], r["noise"]): r["nmse"] for r in found if r["prior"] == kind}
        if errors:
            cells = (f"{errors[c]:.4f}" if c in errors else "" for c in columns)
            print(f"| {kind} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of training, each")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--again", action="store_true", help="also what has been measured")
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
        for specimen, noise in product(SPECIMENS, NOISES):
            slab = SPECIMENS[specimen](noise, args.work)
            place = {"prior": kind, "specimen": specimen, "noise": noise}
            steps = None if kind == "shipped" else args.steps
            wanted = {**place, "steps": steps, "shipped": slab.prior}
            if not args.again and any(wanted.items() <= r.items() for r in found):
                continue
            slab = replace(slab, denoiser=UNetDenoiser(net))
            x = METHODS["DDGM"].run(slab, {**DDGM_DEFAULT, "N": 50}, SEED)
            scores = slab.score(x)
            line = wanted | {name: scores[name] for name in ("nmse", "psnr", "ssim")}
            found = [r for r in found if not place.items() <= r.items()] + [line]
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{kind}, {specimen}, {noise:.0%}: nmse {line['nmse']:.4f}", flush=True)
    show(found)


if __name__ == "__main__":
    main()
