"""The problem's hash stands for everything that fixes the answer, and for nothing else."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.planning import problem as problem_module
from ddgm_dist.planning.advice import variant
from ddgm_dist.planning.config import Config, ProblemConfig, parse_config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.problem_changes import changes, differences
from ddgm_dist.planning.restored_start import RestorerTraits

MakeProblem = Callable[..., Problem]

# A legal value other than the default for every key of the problem.
OTHER: dict[str, Any] = {
    "N": 7,
    "K": 3.5,
    "added_noise": 0.7,
    "sigma_1": 2.0,
    "sigma_N": 0.05,
    "s_1": 1.0,
    "s_N": 0.01,
    "step_rule": "paper",
    "data_weight_cap": 0.5,
    "step_size": 1e-5,
    "sigma_y": 0.2,
    "discrepancy": "off",
    "mean": 1.0,
    "std": 2.0,
    "seed": 1,
    "thickness": 13,
    "boundary": "vacuum",
    "impute_nonfinite": True,
    "despike": False,
    "denoiser": "mine:smooth",
    "precision": "float32",
    "window": 512,
    "overlap": 64,
    "rows_per_call": 2,
    "tile_columns": 64,
    "margin": 40,
    "planes": ["zx", "yx"],
    "window_rows": 64,
    "overlap_rows": 16,
    "samples": 4,
    "schedule": "cosine",
    "restorer": "mine:restore",
    "restorer_calls": 2,
    "start_share": 0.25,
    "start": "restored",
}


OF_START = ("restorer", "restorer_calls", "start_share")
RESTORED: dict[str, Any] = {
    "restorer": "mine:restore",
    "start": "restored",
    "traits": RestorerTraits("f" * 64, 16, 2, repeats=True),
}


@pytest.mark.parametrize("start", [{}, RESTORED], ids=["zero", "restored"])
@pytest.mark.parametrize("planes", ["zx", "zx,zy"])
def test_advice_derives_the_problem_that_a_run_would(
    make_problem: MakeProblem, planes: str, start: dict[str, Any]
) -> None:
    """To the field: other keys make the problem of a configuration that has them."""
    keys: dict[str, Any] = {"planes": planes, "overlap": 8, "overlap_rows": 8, **start}
    other = {"window": 64, "tile_columns": 48, "rows_per_call": 3}
    problem = make_problem(field=400, rows=20, margin=16, **keys)
    expected = make_problem(field=400, rows=20, margin=16, **keys, **other)
    assert variant(problem, other)[0] == expected != problem
    assert variant(problem, {})[0] == problem


def test_one_sample_goes_without_saying(make_problem: MakeProblem) -> None:
    """So the digest is what it was before there were several, and old outputs are gone on with."""
    base = make_problem()
    assert "samples" not in base.to_dict()["config"]
    assert make_problem(samples=1).digest() == base.digest()
    assert differences(base.to_dict(), make_problem(samples=3).to_dict()) == [
        "config.samples: 1 -> 3"
    ]


def test_the_papers_schedule_goes_without_saying(make_problem: MakeProblem) -> None:
    paper = make_problem(schedule="exponential")
    assert "schedule" not in paper.to_dict()["config"]
    first, *others = differences(paper.to_dict(), make_problem(schedule="linear").to_dict())
    assert first == 'config.schedule: "exponential" -> "linear"'
    assert all(line.startswith("schedule.") for line in others)


def test_imputing_again_is_said_where_it_happens(make_problem: MakeProblem) -> None:
    """An output of many steps on one imputation is another problem's."""
    assert "imputed_every" not in make_problem(K=IMPUTED_EVERY).to_dict()
    often = make_problem(K=IMPUTED_EVERY + 1).to_dict()
    assert often["imputed_every"] == IMPUTED_EVERY
    once = {k: v for k, v in often.items() if k != "imputed_every"}
    assert differences(once, often) == [f"imputed_every: null -> {IMPUTED_EVERY}"]


def test_masked_pixels_are_said_where_there_are_some(make_problem: MakeProblem) -> None:
    """Clean data's problems are what they were, and their outputs are gone on with."""
    base = make_problem()
    assert "screen" not in base.to_dict()
    assert "despike" not in base.to_dict()["config"]
    screened = replace(base, screen=Screen(3.5, ((1, 2, 0, 4, 0, 9),)))
    assert screened.digest() != base.digest()
    (line,) = differences(base.to_dict(), screened.to_dict())
    assert line.startswith("screen: null -> ")


def test_a_misfit_counts_where_it_exceeds_the_noise(make_problem: MakeProblem) -> None:
    """The problem is what it was wherever the data are explained up to their noise."""
    base = make_problem()
    noise = base.intensity.sigma_y
    assert "discrepancy" not in base.to_dict()["config"]
    explained = replace(base, intensity=replace(base.intensity, misfit=noise))
    assert explained.to_dict() == base.to_dict()
    other = replace(base, intensity=replace(base.intensity, misfit=2 * noise))
    (line,) = differences(base.to_dict(), other.to_dict())
    assert line == f"intensity.misfit: 0.0 -> {2 * noise}"


@pytest.mark.parametrize("misfit", [0.0, 1.0, 40.0])
def test_the_step_rule_takes_the_larger_of_noise_and_misfit(
    make_problem: MakeProblem, misfit: float
) -> None:
    def steps(noise: float, misfit: float) -> tuple[float, ...]:
        return Problem.derive(
            base.geometry,
            base.config,
            Intensity(100.0, 30.0, noise, misfit),
            stride=1,
            data_digest="",
            denoiser_digest="",
        ).schedule.steps

    base = make_problem()
    assert steps(3.0, misfit) == steps(max(3.0, misfit), 0.0)
    assert (steps(3.0, misfit) == steps(3.0, 0.0)) == (misfit <= 3)


def test_a_restored_start_is_part_of_the_problem(make_problem: MakeProblem) -> None:
    """With all that it depends on; a problem without one is what it was before there were any."""
    base, problem = make_problem(), make_problem(**RESTORED)
    assert "restored" not in base.to_dict()
    assert base.to_dict()["config"].keys().isdisjoint({"start", *OF_START})
    assert base.digest().startswith("74cb7b300cf4b03af76bdca41d42eec300d50966")
    assert problem.restored is not None
    assert problem.restored.lattice.stride == 16
    digests = {base.digest(), problem.digest()}
    for change in ({"digest": "0" * 64}, {"neighbours": 1}):
        restorer = replace(problem.restored.restorer, **change)
        other = replace(problem, restored=replace(problem.restored, restorer=restorer))
        digests.add(other.digest())
        (line,), _ = changes(problem.to_dict(), other.to_dict())
        assert line == "what is in the restorer mine:restore (weights or source)"
    digests.add(replace(problem, restored=replace(problem.restored, damping=3.0)).digest())
    digests.add(replace(problem, restored=replace(problem.restored, calls=2)).digest())
    assert len(digests) == 6
    found, settings = changes(problem.to_dict(), base.to_dict())
    assert found == ["restorer: mine:restore -> fibsem", "start: restored -> zero"]
    assert settings == ["restorer=mine:restore", "start=restored"]
    unused = make_problem(traits=RESTORED["traits"], restorer="mine:restore")
    assert unused.restored is None
    assert unused.digest() == base.digest()


def test_constants_of_the_exact_step_are_part_of_a_problem_that_takes_it(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, other = make_problem(step_rule="proximal"), make_problem()
    before = exact.digest(), other.digest()
    monkeypatch.setitem(problem_module._EXACT, "damping", 1.0)
    assert exact.digest() != before[0]
    assert other.digest() == before[1]


def test_windows_of_a_restored_start_have_its_stride(make_problem: MakeProblem) -> None:
    wide = {"field": 400, "window": 100, "overlap": 8}
    problem = make_problem(**wide, **RESTORED)
    assert problem.restored is not None
    assert (problem.lattice.width, problem.restored.lattice.width) == (96, 96)
    traits = replace(RESTORED["traits"], stride=20)
    problem = make_problem(**wide, **{**RESTORED, "traits": traits})
    assert problem.restored is not None
    assert (problem.lattice.width, problem.restored.lattice.width) == (96, 100)


def test_a_restored_start_needs_a_restorer(make_problem: MakeProblem) -> None:
    with pytest.raises(ValueError, match="needs the traits of its restorer"):
        make_problem(**{**RESTORED, "traits": None})


def test_samples_differ_in_their_seed_alone(make_problem: MakeProblem) -> None:
    problem = make_problem(seed=7, samples=3)
    assert [problem.seed(k) for k in range(3)] == [7, 8, 9]


def test_every_problem_key_changes_the_hash(make_problem: MakeProblem) -> None:
    assert OTHER.keys() == ProblemConfig.model_fields.keys()
    digests = {make_problem().digest()}
    for key, value in OTHER.items():
        # A restorer that is not used changes nothing.
        given = {"start": "restored"} if key in OF_START else {}
        base = make_problem(**given, traits=RESTORED["traits"])
        changed = replace(base, config=ProblemConfig(**given, **{key: value}))
        found = differences(base.to_dict(), changed.to_dict())
        default = ProblemConfig().model_dump(mode="json")[key]
        assert found == [f"config.{key}: {json.dumps(default)} -> {json.dumps(value)}"]
        digests.add(changed.digest())
    assert len(digests) == len(OTHER) + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step_size", 2e-3),
        ("rows_per_call", 3),
        ("data_digest", "f" * 64),
        ("denoiser_digest", "f" * 64),
    ],
)
def test_data_and_denoiser_change_the_hash(
    make_problem: MakeProblem, name: str, value: Any
) -> None:
    base = make_problem()
    changed = replace(base, **{name: value})
    assert changed.digest() != base.digest()
    assert [d.split(":")[0] for d in differences(base.to_dict(), changed.to_dict())] == [name]


def test_geometry_intensity_and_schedule_change_the_hash(make_problem: MakeProblem) -> None:
    base = make_problem()
    others = [
        replace(base, geometry=replace(base.geometry, shifts_px=((0, 1),) * 3)),
        replace(base, intensity=replace(base.intensity, sigma_y=2.0)),
        replace(base, schedule=replace(base.schedule, steps=(1.0,) * 50)),
        replace(base, lattice=replace(base.lattice, width=512)),
        replace(base, lattice_rows=base.lattice),
    ]
    assert len({p.digest() for p in [base, *others]}) == 6


def test_rows_are_independent_unless_a_plane_looks_along_them(make_problem: MakeProblem) -> None:
    assert make_problem(rows=500).halo == make_problem(rows=500, planes=("zx", "zx")).halo == 0
    assert make_problem(rows=500, planes=("zx", "yx")).halo == 120  # 128 - 8 - 1, in blocks of 4


def test_calls_in_all_planes_are_about_as_large(make_problem: MakeProblem) -> None:
    problem = make_problem(rows=500, thickness=64, field=2000, planes=("zx", "zy", "yx"))
    along, across = problem.lattice_rows.width, problem.lattice.width
    image = {"zx": 64 * across, "zy": 64 * along, "yx": along * across}
    calls = {plane: image[plane] * problem.slices_per_call(plane) for plane in image}
    assert max(calls.values()) == calls["zx"] < 1.1 * min(calls.values())


def test_plan_keys_do_not_reach_the_problem() -> None:
    assert Config(tile_rows=4).problem() == Config(tile_rows=400).problem() == Config().problem()


def test_a_problem_read_back_from_json_has_no_differences(make_problem: MakeProblem) -> None:
    problem = make_problem().to_dict()
    assert differences(json.loads(json.dumps(problem)), problem) == []


def test_differences_are_short_and_name_what_is_missing() -> None:
    old = {"a": {"b": 1, "gone": 2}, "c": "x" * 100}
    new = {"a": {"b": 1}, "c": "y" * 100, "d": None, "e": [1]}
    found = differences(old, new)
    assert found[0] == "a.gone: 2 -> null"
    assert [f.split(":")[0] for f in found] == ["a.gone", "c", "e"]
    assert max(map(len, found)) < 100


@pytest.mark.parametrize("key", sorted(OTHER))
def test_what_is_told_of_another_setting_is_what_was_typed(
    make_problem: MakeProblem, key: str
) -> None:
    """And none of what follows from it: levels, steps, windows."""
    given = {"start": "restored"} if key in OF_START else {}
    traits = RESTORED["traits"]
    base, keys = make_problem(**given, traits=traits), {**given, key: OTHER[key]}
    other = replace(make_problem(**keys, traits=traits), config=ProblemConfig(**keys))
    found, back = changes(base.to_dict(), other.to_dict())
    assert [line.split(":")[0] for line in found] == [key]
    (setting,) = back
    name, _, text = setting.partition("=")
    assert getattr(parse_config({name: yaml.safe_load(text)}), name) == getattr(base.config, key)
    # The other way round as well: also of what goes without saying.
    assert changes(other.to_dict(), base.to_dict())[0][0].startswith(f"{key}: ")


def test_of_other_data_their_shape_angles_shifts_and_pixels_are_told(
    make_problem: MakeProblem,
) -> None:
    base = make_problem()
    g = base.geometry

    def told(**other: Any) -> list[str]:
        found, back = changes(base.to_dict(), replace(base, **other).to_dict())
        assert back == []
        return found

    assert told(data_digest="f" * 64) == ["the pixels of the tilt series"]
    turned = tuple(angle + 0.5 for angle in g.angles_deg)
    assert told(geometry=replace(g, angles_deg=turned)) == ["the angles of the tilt series"]
    shifted = ((1.0, 0.0),) * g.tilts
    assert told(geometry=replace(g, shifts_px=shifted)) == ["the shifts of the tilt series"]
    thicker = replace(g, thickness=g.thickness + 2)
    assert told(geometry=thicker) == [
        f"the thickness that the tilt series has: {g.thickness} -> {g.thickness + 2}"
    ]
    size = f"{g.tilts} tilts of {g.rows} x {g.field} pixels"
    longer = replace(g, rows=g.rows + 1)
    assert told(geometry=longer, data_digest="f" * 64) == [
        f"the tilt series: {size} -> {g.tilts} tilts of {g.rows + 1} x {g.field} pixels"
    ]
    assert told(denoiser_digest="f" * 64) == ["what is in the denoiser fibsem (weights or source)"]


def test_what_no_user_has_changed_is_the_packages(make_problem: MakeProblem) -> None:
    base = make_problem()
    found, back = changes(base.to_dict(), replace(base, step_size=base.step_size * 2).to_dict())
    assert back == []
    (line,) = found
    assert re.fullmatch(r"step_size: .* -> .* \(by another version of ddgm_dist\)", line)
