"""Ends of the field are masked as the operator masks them."""

import math

import numpy as np
import pytest
import torch

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.training.field_ends import FieldEnds

ACQUISITION = Acquisition(tuple(float(a) for a in range(-60, 61, 5)), 32)
WIDTH = 160


def drawn() -> list[FieldEnds]:
    rng = np.random.default_rng(0)
    return [FieldEnds.draw(rng, ACQUISITION, WIDTH) for _ in range(40)]


def test_both_ends_and_cuts_are_drawn() -> None:
    kinds = {(ends.first > 0, ends.stop < WIDTH) for ends in drawn()}
    assert kinds == {(True, False), (False, True), (False, False)}


def test_the_mask_is_the_operator_s() -> None:
    seen = 0
    for ends in drawn():
        if ends.stop == WIDTH:
            continue
        reach = WIDTH - ends.stop
        for wide in range(200, 4001):
            # The field is as wide as the end of the steepest rays says; found by trial.
            geometry = Geometry(ACQUISITION.angles_deg, ACQUISITION.thickness, 1, wide)
            if geometry.reach != reach:
                break
            operator = SlabOperator.__new__(SlabOperator)
            operator.geometry, operator.device = geometry, torch.device("cpu")
            operator.columns = (wide - ends.stop, wide + reach)
            operator.margin, operator.length = 0, WIDTH
            rows = [operator._measured_columns(t) for t in range(geometry.tilts)]
            if torch.equal(torch.stack(rows), ends.measured):
                seen += 1
                break
        else:
            pytest.fail("no field has this mask")
    assert seen > 3
    assert reach == math.ceil(16 * math.tan(math.radians(60)))


def test_surroundings_stay_beyond_the_field() -> None:
    rng, changed = np.random.default_rng(1), 0
    for ends in drawn():
        clean = torch.zeros(4, 2, WIDTH)
        ends.surround(rng, clean)
        changed += bool(clean.any())
        assert not clean[..., ends.first : ends.stop].any()
    assert 0 < changed < 40
