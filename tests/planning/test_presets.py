"""Presets: named values, which give way to those that are given, and are the same problem."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config, ProblemConfig, parse_config
from ddgm_dist.planning.preset_costs import preset_costs, to_table
from ddgm_dist.planning.presets import DEFAULTS, PRESETS, PresetUse
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.restored_start import RestorerTraits

TRAITS = RestorerTraits("f" * 64, stride=8, neighbours=2, repeats=True)
# The defaults of versions without a restorer, by which old figures can be had.
CLASSIC = {
    "start": "zero",
    "N": 50,
    "K": 100,
    "sigma_1": 5.0,
    "sigma_N": 0.2,
    "schedule": "karras",
    "added_noise": 0.3,
    "step_rule": "noise-aware",
    "data_weight_cap": 3.0,
    "samples": 1,
    "restorer_calls": 1,
    "start_share": 0.0,
}
PAPER = {
    "step_rule": "paper",
    "schedule": "exponential",
    "K": 25,
    "sigma_1": 3.0,
    "sigma_N": 0.03,
    "added_noise": 1.0,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_its_values_are_the_same_problem(
    name: str, make_problem: Callable[..., Problem]
) -> None:
    named = parse_config({"preset": name}).problem()
    written = parse_config(dict(PRESETS[name].values)).problem()
    assert named == written
    assert named.model_dump_json() == written.model_dump_json()
    problems = [
        make_problem(**c.model_dump(exclude={"thickness"}), traits=TRAITS) for c in (named, written)
    ]
    assert problems[0].digest() == problems[1].digest()
    assert "preset" not in json.dumps(problems[0].to_dict())


def test_without_a_preset_the_default_applies(make_problem: Callable[..., Problem]) -> None:
    nothing, named = parse_config({}).problem(), parse_config({"preset": "default"}).problem()
    assert nothing.model_dump_json() == named.model_dump_json()
    assert parse_config({"preset": None}) == parse_config({}) == Config()
    assert {key: getattr(ProblemConfig(), key) for key in DEFAULTS} == DEFAULTS
    plain = make_problem(traits=TRAITS)
    assert (
        make_problem(**named.model_dump(exclude={"thickness"}), traits=TRAITS).digest()
        == plain.digest()
    )


def test_the_former_defaults_and_the_papers_settings_can_be_had() -> None:
    assert PRESETS["classic"].values == CLASSIC
    assert PRESETS["paper"].values == CLASSIC | PAPER


def test_fast_and_best_are_restored_starts() -> None:
    fast, best = (parse_config({"preset": name}) for name in ("fast", "best"))
    assert (fast.start, fast.N, fast.sigma_1, fast.sigma_N) == ("restored", 3, 0.4, 0.15)
    assert best.start == "restored"
    assert best.N > fast.N


@pytest.mark.parametrize("name", PRESETS)
def test_all_presets_have_the_same_keys(name: str) -> None:
    assert PRESETS[name].values.keys() == DEFAULTS.keys()
    assert PRESETS[name].values.keys() <= ProblemConfig.model_fields.keys()
    assert PRESETS[name].purpose


@pytest.mark.parametrize("text", ["preset: fast\nN: 5\nK: 7", "K: 7\nN: 5\npreset: fast"])
def test_what_is_given_beside_a_preset_wins(text: str) -> None:
    found = parse_config(yaml.safe_load(text))
    assert (found.N, found.K, found.start, found.sigma_1) == (5, 7, "restored", 0.4)
    use = PresetUse.of(found.preset, found.model_dump())
    assert use is not None
    assert use.describe() == "fast, but K = 7, N = 5"
    assert PresetUse.from_dict(json.loads(json.dumps(use.to_dict()))) == use
    assert parse_config(found.model_dump(exclude_unset=True)) == found


@pytest.mark.parametrize("name", ["fast", "best"])
def test_a_preset_of_a_restored_start_begins_from_no_other(name: str) -> None:
    with pytest.raises(InputError, match=r"^start = zero: the preset .* give the preset classic"):
        parse_config({"preset": name, "start": "zero"})
    assert parse_config({"preset": "classic", "start": "zero"}).N == 50


def test_a_preset_alone_changes_nothing() -> None:
    use = PresetUse.of("best", parse_config({"preset": "best"}).model_dump())
    assert use is not None
    assert use.describe() == "best"
    assert PresetUse.of(None, {}) is None


@pytest.mark.parametrize("damaged", [None, 3, [], {}, {"name": 3}, {"name": None}])
def test_a_damaged_record_of_a_preset_is_none(damaged: Any) -> None:
    assert PresetUse.from_dict(damaged) is None


@pytest.mark.parametrize("name", ["quick", "", "Fast", 3, True, ["fast"]])
def test_an_unknown_preset_names_the_known_ones(name: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_config({"preset": name})
    assert caught.value.argument == "preset"
    assert ", ".join(PRESETS) in str(caught.value)
    assert ("did you mean fast?" in str(caught.value)) == (name in ("Fast", ["fast"]))


def test_costs_count_every_call() -> None:
    costs = {cost.name: cost for cost in preset_costs()}
    assert list(costs) == list(PRESETS)
    fast, best, classic = (costs[name] for name in ("fast", "best", "classic"))
    assert (fast.denoiser_calls, fast.restorer_calls) == (3, 1)
    values = PRESETS["best"].values
    assert best.samples == values["samples"]
    assert best.denoiser_calls == values["samples"] * values["N"]
    # A start with a share in the result is made twice.
    assert values["start_share"] > 0
    assert best.restorer_calls == values["samples"] * 2 * values["restorer_calls"]
    assert (classic.denoiser_calls, classic.restorer_calls) == (50, 0)
    # K steps in runs of so many, and at most 17 pairs for an inverse.
    assert classic.operator_pairs == 50 * 100 // IMPUTED_EVERY
    assert fast.operator_pairs == 3 * 100 // IMPUTED_EVERY + 17
    lines = to_table(preset_costs()).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == list(PRESETS)
