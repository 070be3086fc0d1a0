"""Signs of a wrong model: noise has none, a smooth error at the ends of steep tilts has."""

import math

import pytest
import torch

from ddgm_dist.tuning.model_error import (
    MOST_ENDS,
    MOST_MISFIT,
    Doubts,
    Leftover,
    mean_leftover,
    smooth_residual,
)

NOISE, ANGLE, COLUMNS = 0.7, 0.9, 320
ALL = torch.ones((1, COLUMNS))


def noise(rows: int = 2000) -> torch.Tensor:
    return NOISE * torch.randn((rows, COLUMNS), generator=torch.Generator().manual_seed(0))


def smooth(residual: torch.Tensor, measured: torch.Tensor = ALL) -> tuple[float, float]:
    found = smooth_residual(residual, measured, ANGLE, NOISE)
    assert found is not None
    return found


def test_noise_leaves_one_everywhere() -> None:
    assert smooth(noise()) == pytest.approx((1.0, 1.0), abs=0.05)


def test_a_smooth_error_at_an_end_is_found_there() -> None:
    error = torch.zeros(COLUMNS)
    error[:30] = 0.5 * NOISE  # below the noise of a sample
    ends, middle = smooth(noise() + error)
    assert ends > 1.5
    assert middle == pytest.approx(1.0, abs=0.05)
    assert smooth((noise() + error).flip(1)) == pytest.approx((ends, middle), abs=0.1)
    ends, middle = smooth(noise() + error.roll(COLUMNS // 2 - 15))
    assert ends == pytest.approx(1.0, abs=0.05)
    assert middle > 1.3


def test_only_measured_columns_count() -> None:
    residual, measured = noise(), ALL.clone()
    measured[:, :64] = measured[:, 256:] = 0
    residual[:, 60:80] += NOISE
    beside = residual.clone()
    beside[:, :64] = beside[:, 256:] = math.nan
    assert smooth(residual * measured, measured) == smooth(beside, measured)
    measured[:, 70] = 0  # one lost column: that window does not count
    ends, _ = smooth(residual, measured)
    assert ends == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("angle", "columns", "level"),
    [(0.1, COLUMNS, NOISE), (ANGLE, 95, NOISE), (ANGLE, COLUMNS, 0.0)],
)
def test_some_tilts_say_nothing(angle: float, columns: int, level: float) -> None:
    measured = ALL.clone()
    measured[:, columns:] = 0
    assert smooth_residual(noise(1), measured, angle, level) is None
    assert smooth_residual(noise(1), 0 * ALL, ANGLE, NOISE) is None


def test_the_excess_is_over_the_middle_or_the_noise() -> None:
    assert Leftover(1.0, 6.0, 2.0).excess == 3.0
    assert Leftover(1.0, 6.0, 0.2).excess == 6.0
    assert Leftover(1.0).excess is None
    mean = mean_leftover([Leftover(1.0, 2.0, 1.0), Leftover(None), Leftover(3.0, 4.0, 2.0)])
    assert mean == Leftover(2.0, 3.0, 1.5)
    assert mean_leftover([]) == Leftover(None)


def test_the_best_finalist_decides() -> None:
    poor, good = Leftover(9.0, 30.0, 1.0), Leftover(1.0, 1.2, 1.0)
    assert Doubts.of([poor, good], None).warning is None
    assert Doubts.of([], None).warning is None
    found = Doubts.of([poor, Leftover(3.0, 9.0, 1.0)], None)
    assert found.ends == 9.0
    assert found.misfit == 3.0
    assert found.warning is not None
    assert "9.0 times" in found.warning
    assert "boundary=vacuum" in found.warning
    assert found.to_dict()["trusted"] is False


def test_each_sign_warns_by_itself() -> None:
    assert Doubts(MOST_ENDS, MOST_MISFIT, True).warning is None
    for doubt in (
        Doubts(ends=MOST_ENDS + 0.1),
        Doubts(misfit=MOST_MISFIT + 0.1),
        Doubts(explained=False),
    ):
        assert len(doubt.signs) == 1
        assert "do not trust this ranking" in (doubt.warning or "")
