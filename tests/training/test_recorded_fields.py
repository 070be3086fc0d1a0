"""Ends of the field, cuts between tiles and vacuum are the reconstruction's."""

import numpy as np
import torch

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.training.recorded_fields import RecordedField, beyond

ACQUISITION = Acquisition(tuple(float(a) for a in range(-60, 61, 5)), 32)
WIDTH = 160


def drawn(count: int = 60) -> list[RecordedField]:
    rng = np.random.default_rng(0)
    return [RecordedField.draw(rng, ACQUISITION, 4, WIDTH) for _ in range(count)]


def test_all_kinds_are_drawn_within_the_domain() -> None:
    kinds = set()
    for field in drawn():
        (first, last), (start, stop) = field.geometry.domain, field.columns
        assert first <= start < stop <= last
        assert stop - start == WIDTH
        assert (field.vacuum < 0) == (field.geometry.boundary == "vacuum")
        kinds.add((field.geometry.boundary, start == first, stop == last))
    assert {
        (b, *k) for b in ("extended", "vacuum") for k in ((True, False), (False, True))
    } <= kinds
    assert ("extended", False, False) in kinds


def test_blocks_show_what_steep_rays_cross() -> None:
    assert beyond(ACQUISITION) == 96
    assert beyond(Acquisition(ACQUISITION.angles_deg, 100)) == 2 * 87
    assert beyond(Acquisition((-78.0, 78.0), 256)) == 448


def test_surroundings_stay_beyond_the_field() -> None:
    rng, changed = np.random.default_rng(1), 0
    for field in drawn():
        clean, start = torch.zeros(4, 2, WIDTH), field.columns[0]
        assert field.surround(rng, clean) == bool(clean.any())
        if field.geometry.boundary == "extended":
            within = clean[..., max(0, -start) : max(0, field.geometry.field - start)]
            assert not within.any()
        else:  # the specimen is narrower than the field by at most 60 columns on each side
            assert set(clean.unique().tolist()) <= {0.0, np.float32(field.vacuum)}
            assert not clean[..., max(0, 60 - start) : field.geometry.field - 60 - start].any()
        changed += bool(clean.any())
    assert 0 < changed < 60


def test_dead_columns_are_unmeasured_by_pairs() -> None:
    rng = np.random.default_rng(2)
    for field in drawn(20):
        seen = SlabOperator(field.geometry, field.columns).measured_columns()[:, None]
        found = [field.measured(rng, seen) for _ in range(20)]
        assert all(bool((m <= seen).all()) for m in found)
        lost = [float((seen - m).sum() / seen.sum().clamp(min=1)) for m in found]
        assert 0 < sum(share > 0 for share in lost) < 20
        assert max(lost) < 0.1
