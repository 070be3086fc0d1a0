"""A process builds a network once per device and arithmetic, and another one when its files change."""

from pathlib import Path

import pytest
import torch

from ddgm_dist.prior import denoisers
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import Weights, save_weights
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct

TINY = UNetSpec(channels=(8, 16), encoder_blocks=(1,), decoder_blocks=(1,), embedding=16)
RECIPE = {"sigma_range": (0.01, 30.0)}
KEYS = {"thickness": 12, "N": 2, "K": 2, "window": 64, "overlap": 16}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the networks that were built."""
    found: list[str] = []
    monkeypatch.setattr(denoisers, "_loaded", {})
    load = denoisers.load_weights

    def counted(path: Path) -> Weights:
        loaded = load(path)
        found.append(loaded.digest)
        return loaded

    monkeypatch.setattr(denoisers, "load_weights", counted)
    return found


def saved(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    return save_weights(path, UNet(TINY), RECIPE)


def test_a_local_run_builds_one(tmp_path: Path, tilts: Path, built: list[str]) -> None:
    path = tmp_path / "w.safetensors"
    keys = KEYS | {"denoiser": str(path)}
    first = saved(path, 0)
    plan(tilts, keys)
    result = reconstruct(tilts, tmp_path / "a.zarr", keys, "local")
    assert built == [first]
    assert result.problem.denoiser_digest == first
    second = saved(path, 1)  # the same process goes on with what is on the disk now
    result = reconstruct(tilts, tmp_path / "b.zarr", keys, "local")
    assert built == [first, second]
    assert result.problem.denoiser_digest == second


def test_arithmetic_and_recipe_tell_networks_apart(tmp_path: Path, built: list[str]) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, 0)
    whole = load_denoiser(str(path), precision="float32")
    assert load_denoiser(str(path), precision="float32").denoiser is whole.denoiser
    assert load_denoiser(str(path), device=torch.device("cpu"), precision="float32") is whole
    torch.manual_seed(0)
    save_weights(path, UNet(TINY), {"sigma_range": (0.1, 3.0)})
    narrow = load_denoiser(str(path), precision="float32")
    assert (narrow.digest, narrow.sigma_range) == (whole.digest, (0.1, 3.0))
    assert len(built) == 2


def test_few_are_kept(tmp_path: Path, built: list[str]) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(4)]
    for seed, path in enumerate(paths):
        saved(path, seed)
        load_denoiser(str(path))
    assert len(denoisers._loaded) == 2
    load_denoiser(str(paths[-1]))
    load_denoiser(str(paths[-2]))
    assert len(built) == 4
    load_denoiser(str(paths[0]))
    assert len(built) == 5
