"""Restorers: a user's is checked, weights of another kind are refused, ranges are told."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import InputError
from ddgm_dist.prior import restorers
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.prior.restorers import (
    FunctionRestorer,
    load_restorer,
    restorer_files,
    shared_restorer,
)
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec, acquisition_features
from ddgm_dist.prior.trained_ranges import TrainedRanges
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import load_restorer_weights, save_weights

SMALL = RestoringUNetSpec(
    channels=(8, 16), encoder_blocks=(1,), decoder_blocks=(1,), embedding=16, neighbours=1
)
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


def again(images, noise, acquisition, estimates):
    return images[:, 0] if estimates is None else estimates.sum(1)


again.repeats = True


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


def test_a_function_that_repeats_is_given_its_estimates(users: str) -> None:
    restorer = load_restorer(f"{users}:again").restorer
    x, inside = images(0)
    assert restorer.repeats
    torch.testing.assert_close(restorer(x, 0.5, SEEN, inside), x[:, 0])
    estimates = torch.randn(2, 2, 12, 16)
    found = restorer(x, 0.5, SEEN, inside, estimates)
    torch.testing.assert_close(found, estimates.sum(1))
    assert not load_restorer(f"{users}:middle").restorer.repeats


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
        ("tissue", "is neither .fibsem. .shipped., a .safetensors nor module:callable"),
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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network whose answers are no mere copies."""
    torch.manual_seed(0)
    net = RestoringUNet(SMALL)
    for parameter in net.parameters():  # many begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "w.safetensors"
    save_weights(path, net, {"trained_for": {"max_angle_deg": [40, 78], "thickness": [32, 256]}})
    return path


def test_weights_of_ours(weights: Path) -> None:
    loaded = load_restorer(str(weights), precision="float32")
    net = load_restorer_weights(weights)
    assert (loaded.digest, loaded.reach) == (net.digest, net.net.reach)
    assert (loaded.restorer.stride, loaded.restorer.neighbours) == (2, 1)
    assert loaded.trained == TrainedRanges(max_angle_deg=(40, 78), thickness=(32, 256))
    x, inside = images()
    found = loaded.restorer(x, 0.5, SEEN, inside)
    assert found.dtype == torch.float32
    expected = net.net(x, acquisition_features(torch.full((2,), 0.5), SEEN), inside)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found - x[:, 1]).std()) > 1e-3
    assert not torch.equal(found, loaded.restorer(x, 5.0, SEEN, inside))
    half = load_restorer(str(weights), precision="bfloat16").restorer(x, 0.5, SEEN, inside)
    torch.testing.assert_close(half, expected, rtol=0, atol=0.05)


def test_a_recipe_that_cannot_be_read_is_named(weights: Path) -> None:
    for ranges, why in (({"noise": "low"}, "noise = 'low'"), ([], "trained_for = \\[\\]")):
        save_weights(weights, RestoringUNet(SMALL), {"trained_for": ranges})
        with pytest.raises(InputError, match=rf"^restorer = .*w\.json: .*{why}"):
            load_restorer(str(weights))
    save_weights(weights, RestoringUNet(SMALL), {"trained_for": {"nose": [0, 1]}})
    assert load_restorer(str(weights)).trained == TrainedRanges(unknown=("nose",))


def test_a_process_builds_a_network_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restorers._networks, "kept", {})
    first = shared_restorer(str(weights), precision="float32")
    assert shared_restorer(str(weights), precision="float32") is first
    assert load_restorer(str(weights), precision="float32").restorer is not first.restorer
    save_weights(weights, RestoringUNet(SMALL), {})
    second = shared_restorer(str(weights), precision="float32")
    assert (second.digest != first.digest, second.trained) == (True, None)


def test_weights_of_the_wrong_kind_are_refused(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_weights(path, UNet(TINY), {"sigma_range": (0.01, 30.0)})
    load_denoiser(str(path))
    with pytest.raises(InputError, match=r"^restorer = .*holds the weights of a denoiser"):
        load_restorer(str(path))
    with pytest.raises(InputError, match=r"^denoiser = .*holds the weights of a restorer"):
        load_denoiser(str(weights))
    assert [key for key, _ in restorer_files(str(path))] == ["restorer", "restorer"]
    assert restorer_files("mine:f") == restorer_files("fibsem") == []
