"""Prepared views: any box is that part of the whole, and corrections come in the right order."""

import pickle

import numpy as np
import pytest

from ddgm_dist.acquisition.prepared import PreparedView, PreparedViews, Reference
from ddgm_dist.core.box import Box
from ddgm_dist.readers.base import ArrayVolume
from ddgm_dist.views.affine import Affine

R = np.random.default_rng(0)
DATA = R.poisson(400, size=(3, 90, 100)).astype(np.float32)
DATA[1, 40, 50] = 60000


def prepared(**options):
    views = options.pop("views", None)
    if views is None:
        turned = Affine.turn_axis(7.0).then(Affine(dx=1.3, dy=-2.6))
        views = tuple(PreparedView(i, turned, 300.0, 500.0) for i in (2, 1))
    size = options.pop("size", (44, 48))
    here = {"size": size, "y": range(2, 42), "u": range(5, 45), "bin": 2}
    return PreparedViews(stack=ArrayVolume(DATA), views=views, **{**here, **options})


@pytest.mark.parametrize("flat", [None, Reference(np.full((90, 100), 800.0, np.float32))])
def test_any_box_is_that_part_of_the_whole(flat):
    views = prepared(flat=flat, dark=Reference(R.normal(10, 1, (90, 100)).astype(np.float32)))
    whole = views.read(Box((0, 0, 0), views.shape))
    assert np.isfinite(whole).mean() > 0.5
    for start, stop in (((0, 0, 0), (1, 7, 40)), ((1, 13, 9), (2, 40, 20)), ((0, 5, 5), (2, 6, 6))):
        box = Box(start, stop)
        np.testing.assert_array_equal(views.read(box), whole[box.slices()])


def test_a_hot_pixel_is_imputed_before_it_spreads():
    spared = prepared().read(Box((1, 0, 0), (2, 40, 40)))
    assert np.nanmax(np.abs(spared)) < 1.0
    kept = tuple(PreparedView(1, v.affine, None, 500.0) for v in prepared().views)
    assert np.nanmin(prepared(views=kept).read(Box((1, 0, 0), (2, 40, 40)))) < -2.0


def test_counts_are_added_before_the_logarithm():
    view = (PreparedView(0, Affine(), None, 500.0),)
    options = {"views": view, "size": (45, 50), "y": range(45), "u": range(50)}
    found = prepared(**options, dark=Reference(20.0)).read(Box((0, 0, 0), (1, 45, 50)))[0]
    sums = (DATA[0] - 20).reshape(45, 2, 50, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(found, -np.log(sums / 2000), rtol=1e-5)


def test_line_integrals_are_averaged():
    view = (PreparedView(0, Affine()),)
    options = {"views": view, "size": (45, 50), "y": range(45), "u": range(50)}
    found = prepared(**options, dark=Reference(20.0)).read(Box((0, 0, 0), (1, 45, 50)))[0]
    mean = (DATA[0] - 20).reshape(45, 2, 50, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found, mean, rtol=1e-6)


def test_what_keeps_pixels_as_they_are():
    plain = {"bin": 1, "size": (90, 100), "y": range(90), "u": range(100)}
    still = (PreparedView(0, Affine()),)
    assert prepared(views=still, **plain).is_plain
    turned = (PreparedView(0, Affine.turn_axis(90.0)),)
    quarter = prepared(
        views=turned, **{**plain, "size": (100, 90), "y": range(100), "u": range(90)}
    )
    assert quarter.is_plain
    assert not quarter.has_outside
    moved = prepared(views=(PreparedView(0, Affine(dx=2.0)),), **plain)
    assert moved.is_plain
    assert moved.has_outside
    for other in (
        prepared(views=(PreparedView(0, Affine(dx=0.5)),), **plain),
        prepared(views=still, **plain, dark=Reference(1.0)),
        prepared(views=(PreparedView(0, Affine(), None, 3.0),), **plain),
        prepared(views=still),
    ):
        assert not other.is_plain


def test_it_can_be_sent_to_another_process():
    views = prepared()
    again = pickle.loads(pickle.dumps(views))
    box = Box((0, 3, 4), (2, 9, 30))
    np.testing.assert_array_equal(again.read(box), views.read(box))
