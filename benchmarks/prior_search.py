"""Architectures of about the same cost per voxel, trained for the same steps: which denoises best?

    python benchmarks/prior_search.py [--steps 600] [--only NAME ...] [--cost] [--show]

It needs ../shared/data. Each candidate is trained on one thread for the same steps, on the data of the
shipped weights. It is judged on unseen tissue: the validation cube and the training volume's z >= 352.
Patches and noise are the same for all, and losses are by band of noise level. The cost is that of a
call on one thread in the processor's arithmetic; --cost measures it again, on a machine without other
work. Results are kept as they come (benchmarks/results/prior_search.json), and existing ones are not
trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import load_weights, shipped_weights
from ddgm_dist.training.denoising import DenoisingTask, validation_bands
from ddgm_dist.training.images import read_images
from ddgm_dist.training.loop import TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler

ROOT = Path(__file__).parents[1]
TISSUE = ROOT.parent / "shared" / "data" / "fibsem_medulla"
RESULTS = Path(__file__).parent / "results" / "prior_search.json"
# What DDGM calls with the defaults: sigma 0.2 to 5. The mean over these bands ranks.
RANKED = ("0.1-0.3", "0.3-1", "1-3", "3-10")
VARIED = {"zoom": 0.2, "tone": 0.2, "blur": 0.1}

CANDIDATES: dict[str, tuple[UNetSpec, dict[str, float]]] = {
    "32-64-128-192": (UNetSpec((32, 64, 128, 192), (1, 1, 2), (1, 1, 2), 2), {}),
    "32-64-128-192, varied": (UNetSpec((32, 64, 128, 192), (1, 1, 2), (1, 1, 2), 2), VARIED),
    "32-64-128-256, no fine encoder": (
        UNetSpec((32, 64, 128, 256), (0, 1, 2), (1, 1, 2), 2),
        {},
    ),
    "32-64-128-256, deeper middle": (UNetSpec((32, 64, 128, 256), (0, 1, 1), (1, 1, 2), 3), {}),
    "32-64-160-256": (UNetSpec((32, 64, 160, 256), (0, 1, 2), (1, 1, 2), 2), {}),
    "32-96-160-256": (UNetSpec((32, 96, 160, 256), (0, 1, 1), (1, 1, 2), 2), {}),
}


def cost(net: UNet) -> dict[str, float]:
    """Floating-point operations and seconds of a call per voxel, the network's size and reach."""
    image, inside = torch.randn(1, 64, 1792), torch.ones(1, 64, 1792)
    denoiser = UNetDenoiser(net)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        denoiser(image, 1.0, inside)
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        denoiser(image, 1.0, inside)
        seconds.append(time.perf_counter() - started)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "gflop_per_mvoxel": round(flops.get_total_flops() / image.numel() / 1e3, 1),
        "s_per_mvoxel": round(min(seconds) / image.numel() * 1e6, 3),
        "reach": net.reach,
    }


def judge(net: UNet) -> dict[str, float]:
    cube, unseen = read_images(TISSUE / "val"), read_images(TISSUE / "train", slice(352, 420))
    sums: dict[str, float] = {}
    for volume, planes in ((cube, ("yx", "zx", "zy")), (unseen, ("yx",))):
        sampler = PatchSampler([volume], planes=planes, seed=1)
        for band, loss in validation_bands(net, sampler, 96).items():
            sums[band] = sums.get(band, 0.0) + loss / 2
    return {band: round(loss, 5) for band, loss in sums.items()}


def train(name: str, steps: int) -> dict[str, object]:
    spec, augmentation = CANDIDATES[name]
    volume = read_images(TISSUE / "train", slice(0, 345))
    sampler = PatchSampler([volume], **augmentation)
    task = DenoisingTask(sampler, spec=spec)
    net, history = run_training(task, TrainingOptions(steps=steps, warmup=100))
    loss = judge(net)
    return {
        "architecture": asdict(spec),
        "augmented": bool(augmentation),
        "steps": history.step,
        "training_s_per_step": round(history.seconds / history.step, 3),
        "loss": loss,
        **cost(net),
    }


def show(results: dict[str, dict[str, object]]) -> None:
    bands = list(next(iter(results.values()))["loss"])
    print(
        "| network | M parameters | GFLOP / Mvoxel | s / Mvoxel | reach | steps | ranked | "
        + " | ".join(bands)
        + " |"
    )
    print("| --- " * (7 + len(bands)) + "|")
    for name, row in results.items():
        loss = row["loss"]
        ranked = sum(loss[b] for b in RANKED) / len(RANKED)
        print(
            f"| {name} | {row['parameters'] / 1e6:.2f} | {row['gflop_per_mvoxel']:.0f} | "
            f"{row['s_per_mvoxel']:.2f} | {row['reach']} | {row['steps']} | {ranked:.4f} | "
            + " | ".join(f"{loss[b]:.4f}" for b in bands)
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="of training, each")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--cost", action="store_true", help="measure the cost of calls again")
    parser.add_argument("--show", action="store_true", help="print what there is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in [] if options.show else options.only:
        if name in results and results[name]["steps"] == options.steps:
            continue
        row = train(name, options.steps)
        # Read again: another process may have finished another candidate.
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = row
        partial = RESULTS.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1))
        partial.replace(RESULTS)
        print(name, row["loss"], flush=True)
    if not options.show and "shipped" not in results:
        weights = load_weights(shipped_weights())
        training = weights.recipe["training"]
        results["shipped"] = {
            "architecture": asdict(weights.net.spec),
            "steps": training["steps"],
            "loss": judge(weights.net),
            **cost(weights.net),
        }
        RESULTS.write_text(json.dumps(results, indent=1))
    if options.cost:
        for row in results.values():
            spec = UNetSpec(**{k: _tuple(v) for k, v in row["architecture"].items()})
            row.update(cost(UNet(spec)))
        RESULTS.write_text(json.dumps(results, indent=1))
    show(results)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
