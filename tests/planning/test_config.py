"""Configuration: what is refused, and how it is said."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import _WORDS, Config, PlanConfig, ProblemConfig, parse_config


def refused(values: dict[str, Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_config(values)
    assert "\n" not in str(caught.value)
    return caught.value


def test_nothing_given_is_the_defaults() -> None:
    assert parse_config(None) == parse_config({}) == Config()
    config = Config(N=3)
    assert parse_config(config) is config


def test_every_key_belongs_to_the_problem_or_the_plan_and_says_what_it_is() -> None:
    problem, plan = set(ProblemConfig.model_fields), set(PlanConfig.model_fields)
    assert not problem & plan
    assert problem | plan == set(Config.model_fields)
    assert all(field.description for field in Config.model_fields.values())
    assert set(Config(tile_rows=4).problem().model_dump()) == problem


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("n", "N"),
        ("sigma1", "sigma_1"),
        ("thicknes", "thickness"),
        ("tile_row", "tile_rows"),
        ("iterations", "N"),
        ("iteratons", "N"),
        ("Gradient_steps", "K"),
        ("eta", "step_size"),
        ("iterations", "N, the number of iterations"),
        ("steps", "K, the number of gradient steps"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, meant: str) -> None:
    error = refused({key: 3})
    assert error.argument == key
    assert str(error).split("did you mean ")[1].startswith((f"{meant}?", f"{meant}, "))


def test_words_for_keys_lead_to_keys() -> None:
    assert set(_WORDS.values()) <= set(Config.model_fields)
    assert not set(_WORDS) & set(Config.model_fields)


@pytest.mark.parametrize(
    ("key", "value", "now"),
    [
        ("mask_bad", True, "impute_nonfinite: True"),
        ("trust", 2.0, "data_weight_cap: 2.0"),
        ("specimen", "isolated", "boundary: vacuum"),
        ("specimen", "slab", "boundary: extended"),
        ("boundary", "isolated", "boundary: vacuum"),
        ("state", "resident", "state: memory"),
        ("state", "streamed", "state: store"),
    ],
)
def test_a_former_name_leads_to_the_present_one(key: str, value: object, now: str) -> None:
    error = str(refused({key: value}))
    assert "was renamed" in error
    assert f"write {now}" in error
    assert parse_config(yaml.safe_load(now))


def test_a_key_like_no_other_gets_no_guess() -> None:
    assert "did you mean" not in str(refused({"qqqqqq": 1}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("N", 0),
        ("samples", 0),
        ("samples", -3),
        ("samples", 1.5),
        ("samples", 20_000),
        ("N", 2.5),
        ("N", "many"),
        ("K", -1),
        ("K", float("nan")),
        ("sigma_1", 0),
        ("sigma_N", -0.1),
        ("sigma_1", float("inf")),
        ("s_1", 0),
        ("s_N", 0),
        ("step_rule", "boldly"),
        ("data_weight_cap", 0),
        ("step_size", 0),
        ("sigma_y", -1),
        ("discrepancy", -1),
        ("discrepancy", "on"),
        ("discrepancy", True),
        ("std", 0),
        ("mean", float("nan")),
        ("seed", -1),
        ("seed", 2**63),
        ("thickness", 0),
        ("thickness", 40000),
        ("boundary", "round"),
        ("precision", "float16"),
        ("window", 8),
        ("overlap", -1),
        ("rows_per_call", 0),
        ("tile_columns", 8),
        ("margin", 0),
        ("tile_rows", 0),
        ("planes", ()),
        ("planes", ""),
        ("planes", "xz"),
        ("planes", ["zx", "xy"]),
        ("planes", 3),
        ("window_rows", 8),
        ("overlap_rows", -1),
    ],
)
def test_a_value_out_of_bounds_is_named_in_one_line(key: str, value: Any) -> None:
    error = refused({key: value})
    assert error.argument == key
    meaning = Config.model_fields[key].description
    assert meaning
    assert meaning in str(error)


@pytest.mark.parametrize("value", ["zx,zy,yx", "zx, zy,yx", ["zx", "zy", "yx"], ("zx", "zy", "yx")])
def test_planes_are_a_list_or_words_between_commas(value: Any) -> None:
    assert parse_config({"planes": value}).planes == ("zx", "zy", "yx")
    assert parse_config({"planes": "yx"}).problem().planes == ("yx",)


@pytest.mark.parametrize(
    ("text", "value"), [("off", "off"), ("'off'", "off"), ("auto", "auto"), ("3", 3.0), ("0", 0.0)]
)
def test_a_discrepancy_is_a_word_or_a_number(text: str, value: object) -> None:
    """YAML reads ``off`` as false."""
    assert parse_config(yaml.safe_load(f"discrepancy: {text}")).discrepancy == value


def test_values_cannot_be_changed_behind_the_back_of_the_hash() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().N = 3  # type: ignore[misc]


def test_the_last_sample_has_a_seed_too() -> None:
    last = 2**63 - 1
    assert parse_config({"seed": last}).samples == 1
    assert parse_config({"seed": last - 7, "samples": 8}).samples == 8
    error = refused({"seed": last, "samples": 2})
    assert error.argument == "samples"
    assert str(last) in str(error)


@pytest.mark.parametrize("key", ["denoiser", "restorer"])
def test_a_network_may_be_given_as_a_path(key: str) -> None:
    for path in (Path("weights") / "mine.safetensors", PurePosixPath("weights/mine.safetensors")):
        config = parse_config({key: path})
        assert getattr(config, key) == "weights/mine.safetensors"
        assert config == parse_config({key: str(path)})
    with pytest.raises(InputError, match=f"^{key} = 3: "):
        parse_config({key: 3})
