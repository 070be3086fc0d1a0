"""A process builds a network once per device and arithmetic, and another one when its files change."""

from pathlib import Path

import pytest
import torch

from ddgm_dist.prior import denoisers
from ddgm_dist.prior.denoisers import load_denoiser, shared_denoiser
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
    monkeypatch.setattr(denoisers._networks, "kept", {})
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
    whole = shared_denoiser(str(path), precision="float32")
    assert shared_denoiser(str(path), precision="float32").denoiser is whole.denoiser
    assert shared_denoiser(str(path), device=torch.device("cpu"), precision="float32") is whole
    torch.manual_seed(0)
    save_weights(path, UNet(TINY), {"sigma_range": (0.1, 3.0)})
    narrow = shared_denoiser(str(path), precision="float32")
    assert (narrow.digest, narrow.sigma_range) == (whole.digest, (0.1, 3.0))
    assert len(built) == 2


def test_few_are_kept(tmp_path: Path, built: list[str]) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(4)]
    for seed, path in enumerate(paths):
        saved(path, seed)
        shared_denoiser(str(path))
    assert len(denoisers._networks.kept) == 2
    shared_denoiser(str(paths[-1]))
    shared_denoiser(str(paths[-2]))
    assert len(built) == 4
    shared_denoiser(str(paths[0]))
    assert len(built) == 5


def test_a_network_of_the_users_own_is_not_shared(tmp_path: Path, tilts: Path) -> None:
    """Somebody may change it; the next run must not see that."""
    path = tmp_path / "w.safetensors"
    saved(path, 0)
    keys = KEYS | {"denoiser": str(path)}
    before = reconstruct(tilts, tmp_path / "a.zarr", keys, "local").to_dask().compute()
    own = load_denoiser(str(path)).denoiser
    assert own is not shared_denoiser(str(path)).denoiser
    with torch.no_grad():
        for parameter in own.net.parameters():  # type: ignore[union-attr]
            parameter.mul_(2)
    after = reconstruct(tilts, tmp_path / "b.zarr", keys, "local").to_dask().compute()
    assert (before == after).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_loaded_anew_for_its_state(tmp_path: Path) -> None:
    class Counting(torch.nn.Module):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
            self.calls += 1
            return x + self.calls

    path = tmp_path / "d.pt"
    torch.jit.script(Counting()).save(str(path))
    x = torch.zeros(1, 16, 16)
    first, second = (shared_denoiser(str(path)).denoiser for _ in range(2))
    assert torch.equal(first(x, 1.0, x), second(x, 1.0, x))


def test_weights_that_are_replaced_while_they_are_loaded_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoisers._networks, "kept", {})
    path = tmp_path / "w.safetensors"
    first = saved(path, 0)
    load = denoisers.load_weights

    def replaced(at: Path) -> Weights:
        saved(path, 1)
        return load(at)

    monkeypatch.setattr(denoisers, "load_weights", replaced)
    assert shared_denoiser(str(path)).digest != first
    assert not denoisers._networks.kept
