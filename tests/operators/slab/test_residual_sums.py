"""Noise shares nothing, smooth residuals share all, and sums of rows and of columns add up."""

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.operators.slab.residual_sums import sums_of_residual

ANGLES, ROWS = (-50.0, -20.0, 0.0, 30.0, 60.0), 40
OPERATOR = SlabOperator(Geometry(ANGLES, 8, ROWS, 160))


def normal(seed: int = 0) -> Tensor:
    shape = (len(ANGLES), ROWS, OPERATOR.length)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def data(detector: Tensor) -> SlabData:
    return OPERATOR.prepare(detector)


def total(sums: ViewSums, name: str) -> float:
    return float(sum(getattr(sums, name)))


def test_white_noise_on_the_detector_has_ratio_one_and_no_structure() -> None:
    noise = torch.randn((len(ANGLES), ROWS, 160), generator=torch.Generator().manual_seed(1))
    seen = data(3 * noise)
    found = sums_of_residual(OPERATOR, seen.measured * seen.stretched, seen)
    assert found.squared == pytest.approx([9 * n for n in found.samples], rel=0.05)
    assert abs(total(found, "shared")) < 0.03 * total(found, "squared")
    assert found.spread == pytest.approx(found.squared, rel=0.01)


def test_a_smooth_residual_is_all_structure() -> None:
    columns = torch.arange(160.0)
    wave = torch.cos(0.05 * columns).expand(len(ANGLES), ROWS, 160)
    seen = data(wave)
    found = sums_of_residual(OPERATOR, seen.measured * seen.stretched, seen)
    assert total(found, "shared") == pytest.approx(total(found, "squared"), rel=0.05)


def test_rows_and_columns_add_up() -> None:
    seen = data(torch.zeros(len(ANGLES), ROWS, 160))
    residual = seen.measured * normal()
    whole = sums_of_residual(OPERATOR, residual, seen)
    columns = OPERATOR.length // 3
    for parts in (
        [
            sums_of_residual(
                OPERATOR, residual[:, k], SlabData(seen.stretched[:, k], seen.measured)
            )
            for k in (slice(15), slice(15, None))
        ],
        [
            sums_of_residual(OPERATOR, residual, seen, owned)
            for owned in (slice(columns), slice(columns, None))
        ],
    ):
        both = parts[0] + parts[1]
        assert both.squared == pytest.approx(whole.squared, rel=1e-5)
        assert both.samples == pytest.approx(whole.samples, rel=1e-5)


def test_a_longer_lag_shares_less_of_a_rough_residual() -> None:
    noise = normal()
    rough = sum(noise.roll(k, dims=2) for k in range(6))
    assert isinstance(rough, Tensor)
    seen = data(torch.zeros(len(ANGLES), ROWS, 160))
    residual = seen.measured * rough
    near, far = (sums_of_residual(OPERATOR, residual, seen, lag=lag) for lag in (2, 6))
    assert total(near, "shared") > 0.3 * total(near, "squared")
    assert abs(total(far, "shared")) < 0.05 * total(far, "squared")
