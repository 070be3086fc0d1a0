"""Weights come back as they were written, or not at all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import (
    load_restorer_weights,
    load_weights,
    save_weights,
    shipped_weights,
)
from ddgm_dist.readers.volumes import open_volume
from tests.mortal import WHENS, Killed, Mortal, mortal_system

TINY = UNetSpec(channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1)
RECIPE = {"sigma_range": (0.01, 30.0), "attribution": "somebody"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", UNet(TINY), RECIPE)
    return tmp_path / "w.safetensors"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    recipe = json.loads(path.with_suffix(".json").read_text())
    change(recipe)
    path.with_suffix(".json").write_text(json.dumps(recipe))


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = UNet(TINY)
    loaded = load_weights(saved)
    assert loaded.net.spec == TINY
    assert loaded.sigma_range == (0.01, 30.0)
    assert loaded.recipe["attribution"] == "somebody"
    assert loaded.digest == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert not any(p.requires_grad for p in loaded.net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value.half().float()), name
    # Saved again, the loaded network is the same file: nothing is lost twice.
    assert save_weights(tmp_path / "again.safetensors", loaded.net, RECIPE) == loaded.digest
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json"] * 2 + [".safetensors"] * 2


def test_a_restorer_comes_back_and_is_no_denoiser(saved: Path, tmp_path: Path) -> None:
    spec = RestoringUNetSpec((32, 32), (1,), (1,), 1, neighbours=1)
    net, path = RestoringUNet(spec), tmp_path / "r.safetensors"
    digest = save_weights(path, net, {"trained_for": {}})
    loaded = load_restorer_weights(path)
    assert (loaded.net.spec, loaded.digest) == (spec, digest)
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value.half().float()), name
    assert "holds the weights of a restorer; give it as restorer" in refused(path)
    with pytest.raises(InputError, match="weights of a denoiser") as caught:
        load_restorer_weights(saved)
    assert caught.value.argument == "restorer"


def test_the_name_must_say_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        save_weights(tmp_path / "w.pt", UNet(TINY), RECIPE)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_damaged_byte_is_noticed(saved: Path, at: int) -> None:
    content = bytearray(saved.read_bytes())
    content[at] ^= 1
    saved.write_bytes(content)
    assert "is damaged or belongs to another recipe" in refused(saved)


def test_files_that_are_missing(saved: Path) -> None:
    assert "no such file" in refused(saved.with_name("absent.safetensors"))
    saved.with_suffix(".json").unlink()
    assert "has no recipe w.json beside it" in refused(saved)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.update(format="diffusers"), "its format is not 'ddgm_dist.unet'"),
        (lambda r: r.update(version=2), "its version is 2, known is 1"),
        (lambda r: r.pop("sigma_range"), "sigma_range"),
        (lambda r: r.update(sigma_range=[3, 1]), "sigma_range"),
        (lambda r: r.update(sigma_range=["a"]), "is no recipe of ours"),
        (lambda r: r.update(architecture=[1]), "is no recipe of ours"),
        (lambda r: r["architecture"].update(attention=True), "attention"),
        (lambda r: r["architecture"].update(channels=[32]), "encoder_blocks"),
        (lambda r: r["architecture"].update(channels=["a", "b"]), "is no recipe of ours"),
        (lambda r: r.pop("sha256"), "is damaged or belongs to another recipe"),
    ],
)
def test_a_recipe_that_is_not_ours(
    saved: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    edit(saved, change)
    assert why in refused(saved)


@pytest.mark.parametrize("text", ["", "[]", "{", '"ddgm_dist.unet"'])
def test_a_recipe_that_is_none(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    assert "is no recipe of ours" in refused(saved)


def test_another_architecture_than_the_recipe_says(saved: Path) -> None:
    edit(saved, lambda r: r["architecture"].update(channels=[32, 64]))
    assert "the shape of" in refused(saved)
    edit(saved, lambda r: r["architecture"].update(channels=[32, 32], middle_blocks=2))
    assert "is missing, the recipe's" in refused(saved)
    edit(saved, lambda r: r["architecture"].update(middle_blocks=0))
    assert "has none" in refused(saved)


def test_not_safetensors_at_all(saved: Path) -> None:
    saved.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    edit(saved, lambda r: r.update(sha256=digest))
    assert "is not a safetensors file" in refused(saved)


# --- the weights that come with the package ---


def cells() -> Tensor:
    """Round cells with dark walls and grain, unit variance; ``(1, 128, 128)``."""
    rng = np.random.default_rng(7)
    seeds = rng.uniform(0, 128, (40, 2))
    at = np.stack(np.mgrid[:128, :128], axis=-1)[..., None, :]
    near = np.sort(np.linalg.norm(at - seeds, axis=-1), axis=-1)
    walls = -np.exp(-(((near[..., 1] - near[..., 0]) / 4) ** 2))
    grain = ndimage.gaussian_filter(rng.standard_normal((128, 128)), 2)
    image = ndimage.gaussian_filter(walls + grain, 1)
    return torch.from_numpy((image - image.mean()) / image.std()).float()[None]


def held_back(data: Path) -> Tensor:
    """A section of the validation volume, unit variance; ``(1, 128, 128)``."""
    image = open_volume(data / "fibsem_medulla" / "val").read(Box((120, 60, 60), (121, 188, 188)))
    return torch.from_numpy((image - 131.9) / 35.6)


@pytest.fixture(scope="module")
def shipped() -> UNetDenoiser:
    if not shipped_weights().exists():
        pytest.skip("the package comes without weights")
    return UNetDenoiser(load_weights(shipped_weights()).net, precision="float32")


def errors(denoiser: UNetDenoiser, image: Tensor, sigma: float) -> tuple[float, float, float]:
    """Mean squared errors of the noisy image, of it shrunk at best, and of it denoised."""
    generator = torch.Generator().manual_seed(3)
    noisy = image + sigma * torch.randn(image.shape, generator=generator)
    denoised = denoiser(noisy, sigma, torch.ones_like(image))
    shrunk = noisy / (1 + sigma**2)
    noise, shrink, left = (float((x - image).square().mean()) for x in (noisy, shrunk, denoised))
    return noise, shrink, left


def test_the_shipped_file_is_small(shipped: UNetDenoiser) -> None:
    assert shipped_weights().stat().st_size <= 12e6
    assert load_weights(shipped_weights()).sigma_range == (0.01, 30.0)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 3.0])
def test_the_shipped_denoiser_denoises(shipped: UNetDenoiser, sigma: float) -> None:
    noise, shrink, left = errors(shipped, cells(), sigma)
    assert left < min(noise, shrink)


@pytest.mark.parametrize(("sigma", "most"), [(0.1, 0.75), (0.3, 0.4), (1.0, 0.4), (3.0, 0.7)])
def test_the_shipped_denoiser_knows_tissue(
    shipped: UNetDenoiser, shared_data: Path, sigma: float, most: float
) -> None:
    noise, shrink, left = errors(shipped, held_back(shared_data), sigma)
    assert left < most * min(noise, shrink)


@pytest.mark.parametrize("when", WHENS)
def test_killed_at_any_write_there_are_the_old_weights_or_the_new_ones(
    tmp_path: Path, when: str
) -> None:
    """Weights and recipe are two files, and always two that belong together."""
    path = tmp_path / "w.safetensors"
    nets = [UNet(TINY) for _ in range(2)]
    old = save_weights(path, nets[0], RECIPE)
    whole = Mortal()
    with mortal_system(whole):
        new = save_weights(path, nets[1], RECIPE)
    assert old != new
    seen = set()
    for at in range(whole.count):
        save_weights(path, nets[0], RECIPE)
        with mortal_system(Mortal(at, when)), pytest.raises(Killed):
            save_weights(path, nets[1], RECIPE)
        seen.add(load_weights(path).digest)
        assert load_weights(path).digest in (old, new)
    assert seen == ({new} if when == "after" else {old, new})
    save_weights(path, nets[0], RECIPE)
    assert load_weights(path).digest == old
