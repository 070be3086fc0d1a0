"""The configuration: every key that a run takes, with its default, bound and meaning.

Keys are of two kinds. *Problem* keys fix the answer. *Plan* keys fix how it is computed and cannot
change it. The command line, YAML files and Python calls share these models.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ddgm_dist.errors import InputError
from ddgm_dist.planning.presets import DEFAULTS, with_preset

__all__ = ["RENAMED", "Config", "PlanConfig", "ProblemConfig", "parse_config"]

_SEEDS = 2**63
# Largest value, so that sums of squares of projections stay within float32.
_LARGEST = 1e12

# Other names of some keys, for hints.
_WORDS = {
    "iterations": "N",
    "iters": "N",
    "num_iterations": "N",
    "gradient_steps": "K",
    "steps": "K",
    "learning_rate": "step_size",
    "eta": "step_size",
    "noise": "sigma_y",
    "model": "denoiser",
    "weights": "denoiser",
}
# Keys whose names are symbols.
_MEANINGS = {
    "N": "the number of iterations",
    "K": "the number of gradient steps",
    "s_1": "the first denoising step",
    "s_N": "the last denoising step",
    "sigma_1": "the noise level of the first iteration",
    "sigma_N": "the noise level of the last iteration",
    "sigma_y": "the noise of the projections",
}


# New names of keys and values of former versions, for hints.
RENAMED = {"mask_bad": "impute_nonfinite", "trust": "data_weight_cap", "specimen": "boundary"}
_RENAMED_VALUES = {
    "slab": "extended",
    "isolated": "vacuum",
    "resident": "memory",
    "streamed": "store",
}


class ProblemConfig(BaseModel):
    """Keys of the problem: changing any of them changes the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    N: int = Field(
        DEFAULTS["N"], ge=1, le=100_000, description="iterations, one denoiser call each"
    )
    K: float = Field(
        DEFAULTS["K"],
        ge=0,
        le=1e6,
        description="gradient steps per iteration (at most, if noise-aware)",
    )
    sigma_1: float = Field(
        DEFAULTS["sigma_1"], gt=0, description="noise level of the first iteration"
    )
    sigma_N: float = Field(
        DEFAULTS["sigma_N"], gt=0, description="noise level of the last iteration"
    )
    schedule: Literal["exponential", "linear", "cosine", "karras"] = Field(
        DEFAULTS["schedule"], description="how noise levels fall from sigma_1 to sigma_N"
    )
    s_1: float | None = Field(None, gt=0, description="first denoising step; sigma_1 if null")
    s_N: float | None = Field(None, gt=0, description="last denoising step; sigma_N if null")
    added_noise: float = Field(
        DEFAULTS["added_noise"],
        ge=0,
        description="noise that is added, as a fraction of sigma_n; 1 in the paper",
    )
    step_rule: Literal["paper", "noise-aware", "proximal"] = Field(
        DEFAULTS["step_rule"],
        description="always K steps, or capped by the noise of the data, or the exact data step",
    )
    data_weight_cap: float = Field(
        DEFAULTS["data_weight_cap"],
        gt=0,
        description="weight of the data, c: of the noise-aware cap and of the exact data step",
    )
    step_size: float | None = Field(None, gt=0, description="eta; 1/||A||^2 if null")
    sigma_y: float | None = Field(
        None,
        ge=0,
        le=_LARGEST,
        description="noise of the projections in their unit; estimated if null",
    )
    discrepancy: Literal["auto", "off"] | Annotated[float, Field(ge=0, le=_LARGEST)] = Field(
        "auto",
        description="what no volume explains, in the projections' unit: a number, off, or auto "
        "(estimated, unless sigma_y is given); the noise-aware rule takes the larger of it and sigma_y",
    )
    mean: float | None = Field(
        None,
        ge=-_LARGEST,
        le=_LARGEST,
        description="mean of the volume, per voxel; estimated if null",
    )
    std: float | None = Field(
        None,
        ge=1e-30,
        le=_LARGEST,
        description="standard deviation of the volume, per voxel; estimated if null",
    )
    seed: int = Field(
        0, ge=0, lt=_SEEDS, description="seed of the added noise and the window lattice"
    )
    samples: int = Field(
        DEFAULTS["samples"],
        ge=1,
        le=10_000,
        description="volumes to solve for, with seed, seed + 1, ...; their mean and deviation are kept",
    )
    thickness: int | None = Field(
        None, ge=1, le=32768, description="voxels along the beam; from the tilt series if null"
    )
    boundary: Literal["extended", "vacuum"] = Field(
        "extended", description="what lies beyond the field: more of the specimen, or vacuum"
    )
    impute_nonfinite: bool = Field(
        False, description="impute NaN and infinite pixels instead of refusing"
    )
    despike: bool = Field(
        True,
        description="mask hot and dead pixels, blank views and what fills views at their edges",
    )
    denoiser: str = Field(
        "fibsem", description="fibsem, NAME.safetensors, a TorchScript file or module:callable"
    )
    restorer: str = Field(
        "fibsem",
        description="restorer of a restored start: fibsem, NAME.safetensors or module:callable",
    )
    start: Literal["zero", "restored"] = Field(
        DEFAULTS["start"],
        description="what iterations begin from: zeros, or what the restorer makes of the data",
    )
    restorer_calls: int = Field(
        DEFAULTS["restorer_calls"],
        ge=1,
        le=8,
        description="calls of the restorer, all but the first with its estimates",
    )
    start_share: float = Field(
        DEFAULTS["start_share"],
        ge=0,
        le=1,
        description="share of the restored start in the result, beside the iterations'",
    )
    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="precision of the denoiser and of the restorer"
    )
    window: int = Field(2048, ge=16, description="widest denoiser window, columns")
    overlap: int = Field(128, ge=0, description="columns that neighbouring windows share")
    planes: tuple[Literal["zx", "zy", "yx"], ...] = Field(
        ("zx",), min_length=1, description="planes to denoise in, in rotation over the iterations"
    )
    window_rows: int = Field(
        128, ge=16, description="widest denoiser window along y, rows; for planes zy and yx"
    )
    overlap_rows: int = Field(32, ge=0, description="rows that neighbouring windows share")
    rows_per_call: int = Field(4, ge=1, description="rows that one denoiser call takes")
    tile_columns: int | None = Field(
        None,
        ge=16,
        description="width of coupled tiles along x; the whole width if null and it fits",
    )
    margin: int | None = Field(
        None, ge=1, description="columns a tile reads beyond its own; from the reach if null"
    )

    @field_validator("planes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split ``zx,zy,yx``, as the command line has it."""
        return value.replace(" ", "").split(",") if isinstance(value, str) else value

    @field_validator("denoiser", "restorer", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        """A path as text, for Python calls."""
        return os.fsdecode(value) if isinstance(value, os.PathLike) else value

    @field_validator("discrepancy", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        """``off``, which YAML reads as false."""
        if value is True:
            raise ValueError("Must be auto, off or a number")
        return "off" if value is False else value

    @field_validator("samples")
    @classmethod
    def _seeds(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("seed", 0) + value > _SEEDS:
            raise ValueError(
                f"Seeds of all samples must be below 2**63, from {info.data['seed']} on"
            )
        return value

    @property
    def starts(self) -> int:
        """Number of times that a tile makes its restored start: two if it has a share in the result."""
        if self.start == "zero":
            return 0
        return 2 if self.start_share else 1

    @property
    def rotates(self) -> bool:
        """True if some planes couple rows."""
        return any(plane != "zx" for plane in self.planes)


class PlanConfig(BaseModel):
    """Keys of the plan: changing them cannot change the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tile_rows: int | None = Field(
        None, ge=1, description="rows per tile, a multiple of rows_per_call; chosen if null"
    )
    checkpoint_every: float = Field(
        300.0, ge=0, description="seconds between checkpoints of unfinished tiles"
    )
    state: Literal["auto", "memory", "store"] = Field(
        "auto",
        description="where coupled tiles are kept: in the workers' memory, in the store, or as they fit",
    )
    keep_samples: bool = Field(
        False, description="keep every sample's volume, not only their mean and deviation"
    )
    preset: str | None = Field(
        None, description="name of a set of values; keys that are given beside it win"
    )


class Config(ProblemConfig, PlanConfig):
    """All keys in one flat mapping, as users write them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: object) -> object:
        """Put the values of a preset in the place of those that are not given."""
        return with_preset(values) if isinstance(values, Mapping) else values

    def problem(self) -> ProblemConfig:
        """The keys that fix the answer."""
        return ProblemConfig(**{k: getattr(self, k) for k in ProblemConfig.model_fields})


def parse_config(values: Config | Mapping[str, Any] | None) -> Config:
    """Validate configuration values.

    Raises
    ------
    InputError
        For an unknown key (with the nearest valid one), a value out of its bounds or an unknown preset.
    """
    if isinstance(values, Config):
        return values
    values = dict(values or {})
    for key, value in values.items():
        if key in RENAMED:
            kept = _RENAMED_VALUES.get(str(value), value)
            raise InputError(key, value, "was renamed", f"write {RENAMED[key]}: {kept}")
        if key not in Config.model_fields:
            known = {name.lower(): name for name in Config.model_fields} | _WORDS
            word = str(key).lower()
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
            guess = known.get(word) or (known[near[0]] if near else None)
            if guess:
                meant = f"{guess}, {_MEANINGS[guess]}" if guess in _MEANINGS else guess
                raise InputError(
                    str(key), value, "is not a configuration key", f"did you mean {meant}?"
                )
            keys = ", ".join(Config.model_fields)
            raise InputError(str(key), value, f"is not a configuration key; there are {keys}")
    given = values
    values = with_preset(values)
    try:
        config = Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "config"
        meaning = Config.model_fields[key].description if key in Config.model_fields else ""
        renamed = _RENAMED_VALUES.get(str(values.get(key)))
        if renamed and first["type"] == "literal_error":
            raise InputError(key, values[key], "was renamed", f"write {key}: {renamed}") from error
        raise InputError(
            key, values.get(key), f"{first['msg'][0].lower()}{first['msg'][1:]}", f"{meaning}"
        ) from error
    # A preset's goes without saying where start: zero is given beside it.
    if given.get("start_share") and config.start == "zero":
        raise InputError(
            "start_share",
            config.start_share,
            "is the share of a restored start, and the start is zero",
            "write start: restored, or leave it at 0",
        )
    return config
