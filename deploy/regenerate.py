"""Write the committed manifests and batch scripts again: python deploy/regenerate.py (a test compares
them).

Each is what an operator would type; the plans in deploy/kubernetes/plans are what `ddgm-dist plan
--json` printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from ddgm_dist.cli import main
from ddgm_dist.core.units import MIB
from ddgm_dist.deploy.resources import quantity
from ddgm_dist.deploy.site import Kubernetes, NodeGroup, Slurm, Toleration, Volume

HERE = Path(__file__).parent
KUBERNETES, SLURM = HERE / "kubernetes", HERE / "slurm"

STORES = ("/data/tilts.zarr", "/data/volume.zarr")
BUCKET = ("s3://tomography/tilts.zarr", "s3://tomography/volume.zarr")
# A cluster that stays, of the size for the same runs.
RAYCLUSTER = "raycluster.yaml"
DATA_POD = "data-pod.yaml"
SITE_KEYS = HERE / "site-keys.md"
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
    "array": ("gpu", "field", ("--batch", str(SLURM / "batch.txt"), "--max-parallel", "2")),
}


def cluster_command(out: Path) -> list[str]:
    """Words of the command that writes the cluster."""
    site, plan = KUBERNETES / "base" / "site.yaml", KUBERNETES / "plans" / "field.json"
    words = ["manifest", "raycluster", STORES[0], "--site", str(site), "--plan", str(plan)]
    return [*words, "--output", str(out)]


def data_pod_command(out: Path) -> list[str]:
    """Words of the command that writes the pod to copy data with."""
    site = KUBERNETES / "base" / "site.yaml"
    return ["manifest", "data-pod", "--site", str(site), "--output", str(out)]


# Sections of a profile, as their keys are written.
SECTIONS: dict[str, type[BaseModel]] = {
    "kubernetes": Kubernetes,
    "kubernetes.head, kubernetes.workers": NodeGroup,
    "kubernetes.head.tolerations, kubernetes.workers.tolerations (a list of)": Toleration,
    "kubernetes.volumes (a list of)": Volume,
    "slurm": Slurm,
}


def site_keys() -> str:
    """Tables of all keys of a site profile, of the model itself."""
    lines = [
        "# Keys of a site profile",
        "",
        "Written by `make manifests`, of `ddgm_dist/deploy/site.py`. A key that is not here is refused,",
        "with the nearest that is. Sizes are bytes, or such as `512Mi`, `32GiB`. Beside these sections",
        "a profile has a `name`.",
    ]
    for section, model in SECTIONS.items():
        lines += ["", f"## {section}", "", "| key | default | |", "|---|---|---|", *_rows(model)]
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        default = field.default
        if field.is_required():
            shown = "must be given"
        elif default is None or default in ((), {}):
            shown = "none"
        elif isinstance(default, BaseModel):
            own = ", ".join(
                f"{each}: {_shown(getattr(default, each))}"
                for each in sorted(default.model_fields_set)
            )
            shown = f"`{own}`, as below" if own else "as below"
        else:
            shown = f"`{_shown(default)}`"
        values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        others = ", ".join(f"`{value}`" for value in values if value != default)
        choice = f" (or {others})" if others else ""
        yield f"| `{key}` | {shown} | {field.description}{choice} |"


def _shown(value: object) -> str:
    if isinstance(value, int) and value >= MIB:  # of all numbers, only sizes are as large
        return quantity(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    commands += [data_pod_command(KUBERNETES / DATA_POD)]
    SITE_KEYS.write_text(site_keys(), encoding="utf-8")
    commands += [script(name, SLURM / f"{name}.sbatch") for name in SCRIPTS]
    sys.exit(max(main(words) for words in commands))
