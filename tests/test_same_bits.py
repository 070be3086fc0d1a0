"""Three volumes have the bits that they had before the modules were moved (commit 680661b).

Rounding differs between kinds of processors. On one whose kind was not recorded, the volumes must be
as near as rounding in bfloat16 allows.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ddgm_dist as dd
from ddgm_dist.simulation.phantom import TissuePhantom

# Recorded with one thread. By kind of processor: digests of float32 volumes, little endian.
DIGESTS = {
    "AuthenticAMD AVX512 bf16": {
        "demo": "28623d8b12bfdddd4c11ab27c7fd61f8",
        "coupled": "8c68c5cc4cbc16ac1d2fed6941b5d339",
        "samples": "6e8bd2d85978797365f9174367094020",
        "std": "b9b56c8fa5b7669740d924cf1744fb7e",
    }
}
# Mean and standard deviation of the volumes, and of std.
MOMENTS = {
    "demo": (119.875, 27.703),
    "coupled": (130.854, 35.260),
    "samples": (130.852, 35.365),
    "std": (1.240, 0.7349),
}


def kind() -> str:
    """What the rounding of the denoiser depends on."""
    info = Path("/proc/cpuinfo")
    vendor = re.search(r"vendor_id\s*: (\w+)", info.read_text()) if info.exists() else None
    words = [vendor[1] if vendor else "unknown", torch.backends.cpu.get_cpu_capability()]
    words += ["bf16"] * torch.cpu._is_avx512_bf16_supported()
    words += ["amx"] * torch.cpu._is_amx_tile_supported()
    return " ".join(words)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(name: str, volume: np.ndarray) -> None:
    digest = hashlib.sha256(np.ascontiguousarray(volume, "<f4").tobytes()).hexdigest()[:32]
    recorded = DIGESTS.get(kind())
    found = (volume.mean(dtype=float), volume.std(dtype=float))
    if recorded is None:
        assert found == pytest.approx(MOMENTS[name], rel=5e-3)
    else:
        assert digest == recorded[name], (name, kind(), found)


def test_the_tissue_of_the_demo(tmp_path: Path) -> None:
    truth = TissuePhantom((64, 8, 512), seed=1)
    dd.simulate(truth, tmp_path / "t.zarr", noise="gaussian:0.3", field=400, pixel_size_nm=10.0)
    result = dd.reconstruct(tmp_path / "t.zarr", tmp_path / "v.zarr", engine="local")
    check("demo", result.to_dask().compute())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "t.zarr"
    dd.simulate(TissuePhantom((32, 8, 384), seed=2), path, noise="gaussian:0.1", field=300)
    return path


@pytest.mark.parametrize(
    ("name", "keys", "tiles"),
    [("coupled", {"tile_columns": 96, "margin": 48}, 4), ("samples", {"samples": 3}, 6)],
)
def test_a_coupled_run_and_one_with_samples(
    small: Path, tmp_path: Path, name: str, keys: dict[str, Any], tiles: int
) -> None:
    result = dd.reconstruct(small, tmp_path / "v.zarr", {"N": 6, **keys}, engine="local")
    assert len(result.plan.tiles) == tiles
    check(name, result.to_dask().compute())
    if name == "samples":
        check("std", result.to_dask("std").compute())
