"""A restorer is warned of once: it is not used, or the series is unlike those of its training."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddgm_dist.errors import InputError
from ddgm_dist.inspection.status import status
from ddgm_dist.prior.restorers import LoadedRestorer, load_restorer
from ddgm_dist.prior.trained_ranges import TrainedRanges
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tile import start

KEYS: dict[str, Any] = {
    "N": 1, "K": 2, "denoiser": "warm_code:still", "start": "restored", "restorer": "warm_code:mean",
}  # fmt: skip
WIDE = TrainedRanges((40, 70), (5, 15), (8, 256), (0.0, 2.0))


@pytest.fixture(autouse=True)
def _code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "warm_code.py").write_text(
        "def still(x, sigma):\n    return x\n\n\n"
        "def mean(images, noise, acquisition):\n    return images.mean(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("warm_code", None)


Train = Callable[[TrainedRanges | None], None]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Gives the restorer a training."""

    def set_ranges(trained: TrainedRanges | None) -> None:
        def load(name: str, **options: Any) -> LoadedRestorer:
            return replace(load_restorer(name, **options), trained=trained)

        monkeypatch.setattr(start, "shared_restorer", load)

    return set_ranges


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        (WIDE, ""),
        (None, ""),
        (replace(WIDE, max_angle_deg=(55, 70)), "range of 100 degrees (trained for 110 to 140)"),
        (replace(WIDE, step_deg=(1, 6)), "11 tilts, 10 degrees apart (trained for 1 to 6)"),
        (replace(WIDE, thickness=(32, 256)), "a thickness of 12 voxels (trained for 32 to 256)"),
        (replace(WIDE, noise=(0.5, 2)), "% of the projections' deviation (trained for 50 to 200)"),
    ],
    ids=["inside", "unknown", "range", "count", "thickness", "noise"],
)
def test_numbers_outside_are_warned_of_once(
    tilts: Path,
    tmp_path: Path,
    train: Train,
    caplog: pytest.LogCaptureFixture,
    ranges: TrainedRanges | None,
    words: str,
) -> None:
    train(ranges)
    with caplog.at_level(logging.WARNING, logger="ddgm_dist"):
        reconstruct(tilts, tmp_path / "out.zarr", KEYS, "local")
    said = [m for m in caplog.messages if "not trained for such a series" in m]
    assert len(said) == (1 if words else 0)
    shown = plan(tilts, KEYS, check_fit=False).describe()
    for text in (*said, *([" ".join(shown.split())] if words else [])):
        assert words in text
        assert "start: zero (preset: classic) does without it" in text
    assert words or "not trained" not in shown


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_noise_is_measured_against_the_projections_deviation(
    tmp_path: Path, train: Train, caplog: pytest.LogCaptureFixture, noise: float
) -> None:
    draw = np.random.default_rng(0).standard_normal((12, 4, 400))
    volume = 100 + 20 * gaussian_filter(draw, (3, 0, 3), mode="wrap") / 0.095
    path = tmp_path / "t.zarr"
    angles = tuple(range(-50, 51, 5))
    simulate(volume.astype(np.float32), path, angles=angles, noise=f"gaussian:{noise}", field=320)
    train(replace(WIDE, step_deg=(1, 15), noise=(3.0, 4.0)))
    plan(path, {**KEYS, "mean": 100, "std": 20}, check_fit=False)
    (said,) = [m for m in caplog.messages if "not trained" in m]
    found = re.search(r"noise of ([\d.]+) % of", said)
    assert found
    assert float(found[1]) == pytest.approx(100 * noise, rel=0.15)


def test_a_start_of_zeros_needs_no_training(
    tilts: Path, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    train(replace(WIDE, step_deg=(1, 6)))
    plan(tilts, {**KEYS, "start": "zero"}, check_fit=False)
    assert not [m for m in caplog.messages if "not trained" in m]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"start": "zero"}, True),
        ({"start": "zero", "restorer": "absent.safetensors"}, True),
        ({"start": "zero", "restorer": "fibsem"}, False),
        ({"start": "restored"}, False),
    ],
)
def test_a_restorer_that_is_not_used_is_warned_of(
    tilts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: dict[str, Any], said: bool
) -> None:
    keys = {**KEYS, **keys}
    words = f"the restorer {keys['restorer']} is not used"
    with caplog.at_level(logging.WARNING, logger="ddgm_dist"):
        reconstruct(tilts, tmp_path / "out.zarr", keys, "local")
    assert len([m for m in caplog.messages if words in m]) == said
    assert (words in " ".join(plan(tilts, keys, check_fit=False).describe().split())) == said


def test_words_of_a_recipe_that_are_not_known_are_warned_of(
    tilts: Path, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    train(replace(WIDE, unknown=("dose", "thicknes"), step_deg=(1, 6)))
    plan(tilts, KEYS, check_fit=False)
    (said,) = [m for m in caplog.messages if "not known here" in m]
    assert "dose, thicknes (for thickness?). The series was compared with the others only" in said
    assert any("11 tilts, 10 degrees apart" in m for m in caplog.messages)


def test_the_record_says_which_restorer_it_was(tilts: Path, tmp_path: Path) -> None:
    for name, keys in (("warm", {}), ("cold", {"start": "zero"})):
        result = reconstruct(tilts, tmp_path / f"{name}.zarr", {**KEYS, **keys}, "local")
        text = (tmp_path / f"{name}.zarr/ddgm_dist/provenance.json").read_text()
        found = json.loads(text).get("restorer")
        digest = load_restorer("warm_code:mean").digest
        assert found == (None if keys else {"name": "warm_code:mean", "sha256": digest})
        assert (result.problem.restored is None) == bool(keys)


def test_plan_run_and_status_name_the_start(tilts: Path, tmp_path: Path) -> None:
    digest = load_restorer("warm_code:mean").digest
    words = f"restored by warm_code:mean (restorer {digest[:12]})"
    for name, keys in (("warm", {}), ("cold", {"start": "zero"})):
        out, chosen = tmp_path / f"{name}.zarr", {**KEYS, **keys}
        planned = plan(tilts, chosen, check_fit=False)
        result = reconstruct(tilts, out, chosen, "local")
        seen = status(out)
        warm = name == "warm"
        for text in (planned.describe(), result.describe(), seen.describe()):
            lines = [line for line in text.splitlines() if line.startswith("start ")]
            assert [line.split(maxsplit=1)[1] for line in lines] == ([words] if warm else [])
        for values in (planned.to_dict(), seen.to_dict()):
            assert values["start"] == (words if warm else None)


def test_an_output_does_not_replace_its_restorer(tilts: Path, tmp_path: Path) -> None:
    weights = tmp_path / "out.zarr" / "w.safetensors"
    weights.parent.mkdir()
    weights.touch()
    keys = {**KEYS, "restorer": str(weights)}
    with pytest.raises(InputError, match=r"out = .*restorer"):
        reconstruct(tilts, weights.parent, keys, "local", overwrite=True)
    assert weights.exists()
