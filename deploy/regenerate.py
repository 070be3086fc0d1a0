"""Write the committed manifests and batch scripts again: python deploy/regenerate.py (a test compares
them).

Each is what an operator would type; the plans in deploy/kubernetes/plans are what `ddgm-dist plan
--json` printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ddgm_dist.cli import main

HERE = Path(__file__).parent
KUBERNETES, SLURM = HERE / "kubernetes", HERE / "slurm"

STORES = ("/data/tilts.zarr", "/data/volume.zarr")
BUCKET = ("s3://tomography/tilts.zarr", "s3://tomography/volume.zarr")
# A cluster that stays, of the size for the same runs.
RAYCLUSTER = "raycluster.yaml"
# Folder, plan, stores, further options.
RAYJOBS: dict[str, tuple[str, tuple[str, str], tuple[str, ...]]] = {
    "base": ("field", STORES, ()),
    "overlays/cpu-local": ("demo", STORES, ()),
    "overlays/gpu": ("field", STORES, ()),
    # Nodes that go at short notice: less to do again.
    "overlays/spot": ("field", STORES, ("--set", "checkpoint_every=60")),
    "overlays/kueue": ("field", STORES, ()),
    "overlays/volcano": ("field", STORES, ()),
    "overlays/s3": ("field", BUCKET, ()),
}

# Site, plan, further options.
SCRIPTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "exclusive": ("exclusive", "field", ()),
    "shared": ("shared", "field", ()),
    "gpu": ("gpu", "field", ()),
    "array": ("gpu", "field", ("--batch", str(SLURM / "batch.txt"), "--at-once", "2")),
}


def cluster_command(out: Path) -> list[str]:
    """Words of the command that writes the cluster."""
    site, plan = KUBERNETES / "base" / "site.yaml", KUBERNETES / "plans" / "field.json"
    words = ["manifest", "raycluster", STORES[0], "--site", str(site), "--plan", str(plan)]
    return [*words, "--output", str(out)]


def command(folder: str, out: Path) -> list[str]:
    """Words of the command that writes one of them."""
    plan, stores, more = RAYJOBS[folder]
    site = KUBERNETES / folder / "site.yaml"
    plan_file = KUBERNETES / "plans" / f"{plan}.json"
    words = ["manifest", "rayjob", *stores, "--site", str(site), "--plan", str(plan_file), *more]
    return [*words, "--output", str(out)]


def script(name: str, out: Path) -> list[str]:
    """Words of the command that writes one of the batch scripts."""
    site, plan, more = SCRIPTS[name]
    profile = SLURM / f"site-{site}.yaml"
    plan_file = KUBERNETES / "plans" / f"{plan}.json"
    words = ["manifest", "slurm", *STORES, "--site", str(profile), "--plan", str(plan_file), *more]
    return [*words, "--output", str(out)]


if __name__ == "__main__":
    commands = [command(folder, KUBERNETES / folder / "rayjob.yaml") for folder in RAYJOBS]
    commands += [cluster_command(KUBERNETES / RAYCLUSTER)]
    commands += [script(name, SLURM / f"{name}.sbatch") for name in SCRIPTS]
    sys.exit(max(main(words) for words in commands))
