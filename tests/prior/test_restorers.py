"""Restorers: a user's is checked, weights of another kind are refused, ranges are told."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import InputError
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.prior.restorers import (
    FunctionRestorer,
    TrainedRanges,
    load_restorer,
    restorer_files,
    shared_restorer,
)
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import save_weights

TINY = UNetSpec(channels=(8, 16), encoder_blocks=(1,), decoder_blocks=(1,), embedding=16)
SEEN = Acquisition((-50.0, 0.0, 50.0), 12)
SOURCE = """
def middle(images, noise, acquisition):
    return images[:, 1] * noise * acquisition.thickness


middle.stride, middle.neighbours = 4, 1


def deep(images, noise, acquisition):
    raise ValueError("no table")


def denoiser(x, sigma):
    return x


NUMBER = 3
"""


def images(neighbours: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 2 * neighbours + 1, 12, 16, generator=generator)
    return x, torch.ones(2, 12, 16)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "users_restorer.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "users_restorer"
    sys.modules.pop("users_restorer", None)


@pytest.mark.parametrize("load", [load_restorer, shared_restorer])
def test_a_function_by_name(users: str, load: Callable[[str], Any]) -> None:
    loaded = load(f"{users}:middle")
    x, inside = images()
    inside[:, 8:] = 0
    found = loaded.restorer(x, 0.5, SEEN, inside)
    torch.testing.assert_close(found, 6 * x[:, 1] * inside)
    assert (loaded.restorer.stride, loaded.restorer.neighbours) == (4, 1)
    assert (loaded.reach, loaded.trained, len(loaded.digest)) == (0, None, 64)
    plain = load(f"{users}:denoiser").restorer
    assert (plain.stride, plain.neighbours) == (1, 0)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("users_restorer:missing", "cannot be imported"),
        ("users_absent:middle", "cannot be imported"),
        ("users_restorer:NUMBER", "is not callable"),
        ("mine.py:f", "write module:callable without folders"),
        ("fibsem", "is neither a .safetensors nor module:callable"),
        ("absent.safetensors", "no such file"),
    ],
)
def test_what_cannot_be_loaded_is_told_as_a_restorer(users: str, name: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"^restorer = {name}: .*{why}"):
        load_restorer(name)


def test_an_error_of_a_function_is_told_with_its_place(users: str) -> None:
    x, inside = images(0)
    words = (
        r"^restorer = users_restorer:deep: raised at noise = 0\.5: ValueError: no table "
        r"\(.*users_restorer\.py:10 in deep\)"
    )
    with pytest.raises(InputError, match=words):
        load_restorer(f"{users}:deep").restorer(x, 0.5, SEEN, inside)
    with pytest.raises(InputError, match=r"TypeError: .*it is called as f\(images, noise, acq"):
        load_restorer(f"{users}:denoiser").restorer(x, 0.5, SEEN, inside)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x, noise, seen: x, r"a tensor of shape \(2, 12, 16\); it gave \(2, 3, 12, 16\)"),
        (lambda x, noise, seen: x[:, 1].numpy(), "it gave ndarray"),
        (lambda x, noise, seen: x[:, 1] / 0, "NaN or infinity at noise = 0.5"),
        (lambda x, noise, seen: x[:, 1].int(), "it gave torch.int32"),
    ],
)
def test_what_a_function_returns_is_checked(function: Any, why: str) -> None:
    x, inside = images()
    with pytest.raises(InputError, match=f"^restorer = mine:f: .*{why}"):
        FunctionRestorer(function, "mine:f")(x, 0.5, SEEN, inside)


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("stride", 0, "a whole number of at least 1"),
        ("neighbours", -1, "a whole number of at least 0"),
        ("neighbours", 1.5, "a whole number of at least 0"),
        ("neighbours", 65, "more than 64"),
    ],
)
def test_attributes_are_checked(attribute: str, value: Any, why: str) -> None:
    def f(images: Tensor, noise: float, acquisition: Acquisition) -> Tensor:
        return images[:, 0]

    setattr(f, attribute, value)
    with pytest.raises(InputError, match=f"attribute {attribute} is {value}, .*{why}"):
        FunctionRestorer(f, "mine:f")


def test_weights_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, UNet(TINY), {"sigma_range": (0.01, 30.0)})
    with pytest.raises(
        InputError, match=r"^restorer = .*holds weights of a denoiser, not of a res"
    ):
        load_restorer(str(path))
    load_denoiser(str(path))
    recipe = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**recipe, "format": "ddgm_dist.restorer"}))
    words = r"^denoiser = .*holds weights of a restorer, not of a denoiser; give them as restorer"
    with pytest.raises(InputError, match=words):
        load_denoiser(str(path))
    assert [key for key, _ in restorer_files(str(path))] == ["restorer", "restorer"]
    assert restorer_files("mine:f") == restorer_files(None) == []


def test_what_lies_outside_of_the_training_is_told_with_its_numbers() -> None:
    trained = TrainedRanges((45, 70), (21, 91), (0.1, 20), (32, 256))
    good = Acquisition(tuple(float(a) for a in range(-60, 61, 3)), 64)
    assert trained.outside(good, 3.0) == ()
    assert trained.outside(Acquisition((-70.0,) * 21, 32), 0.1) == ()
    found = trained.outside(Acquisition((-20.0, 30.0), 12), 44.4)
    assert found == (
        "tilts to 30 degrees (trained for 45 to 70)",
        "2 tilts (trained for 21 to 91)",
        "noise of 44.4 (sigma_y over the volume's deviation) (trained for 0.1 to 20)",
        "a thickness of 12 voxels (trained for 32 to 256)",
    )
