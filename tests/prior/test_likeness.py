"""Inverted contrast and another pixel size are noticed; tissue as it is, is not."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from PIL import Image

from ddgm_dist.core.box import Box
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.prior.likeness import Likeness, measure_likeness, mismatches
from ddgm_dist.simulation.phantom import TissuePhantom

SHAPE = (32, 12, 256)


def tissue(shape=SHAPE, seed=0):
    return TissuePhantom(shape, seed=seed).read(Box((0, 0, 0), shape))


@pytest.fixture(scope="module")
def trained():
    found = shared_denoiser("fibsem").likeness
    assert found is not None
    return found


def said(volume, trained):
    return " ".join(mismatches(measure_likeness([volume]), trained))


@pytest.mark.parametrize("seed", range(3))
def test_tissue_is_like_tissue(trained, seed):
    volume = tissue(seed=seed)
    assert said(volume, trained) == ""
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    assert said(volume + 0.5 * volume.std() * noise, trained) == ""
    assert said(noise, trained) == ""
    assert "inverted" in said(-3 * volume + 7, trained)


def test_another_pixel_size(trained):
    coarse = tissue((64, 24, 512)).reshape(32, 2, 12, 2, 256, 2).mean(axis=(1, 3, 5))
    assert "twice as large" in said(coarse, trained)
    fine = ndi.zoom(tissue((16, 6, 128)), 2, order=1)
    assert "half as large" in said(fine, trained)


def test_held_back_sections(trained, shared_data):
    files = sorted((shared_data / "fibsem_medulla" / "val").glob("*.png"))[:32]
    volume = np.stack([np.asarray(Image.open(file)) for file in files]).astype(float)
    for turned in (volume[:, ::8], volume.transpose(0, 2, 1)[:, ::8]):
        assert said(turned, trained) == ""
        assert "inverted" in said(-turned, trained)


def test_what_is_too_small_or_constant_says_nothing():
    assert measure_likeness([np.zeros((8, 8, 95))]) is None
    assert measure_likeness([np.zeros((2, 2, 100))]) is None
    assert measure_likeness([np.ones(SHAPE)]) is None
    assert measure_likeness([]) is None


def test_statistics_survive_a_recipe(trained):
    assert Likeness.from_dict(trained.to_dict()) == trained
    for wrong in (None, {}, [], {"skewness": [1], "power": [1, 2, 3, 4, 5]}, {"skewness": "ab"}):
        assert Likeness.from_dict(wrong) is None
    whole = trained.to_dict()
    assert Likeness.from_dict({**whole, "power": [float("nan")] * 5}) is None
