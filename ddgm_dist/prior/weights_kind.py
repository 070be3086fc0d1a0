"""Weights of one kind are not taken for another: the recipe beside them says what they are of."""

from __future__ import annotations

import json
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["RESTORER_FORMAT", "refuse_other_kind"]

RESTORER_FORMAT = "ddgm_dist.restorer"
# Format of a recipe, and the key of the configuration that takes it.
_KEYS = {"ddgm_dist.unet": "denoiser", RESTORER_FORMAT: "restorer"}
_HINTS = {
    "denoiser": "give them as denoiser; a restorer's come from ddgm-dist train --kind restorer",
    "restorer": "give them as restorer, with start: restored",
}


def refuse_other_kind(path: Path, key: str) -> None:
    """Refuse weights that are of another kind of network than the key is for.

    Files that are missing or damaged are left to the code that loads them.

    Parameters
    ----------
    path
        ``NAME.safetensors``, with its recipe ``NAME.json`` beside it.
    key
        ``denoiser`` or ``restorer``.

    Raises
    ------
    InputError
        The recipe is one of another kind.
    """
    try:
        recipe = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    kind = _KEYS.get(str(recipe.get("format"))) if isinstance(recipe, dict) else None
    if kind is not None and kind != key:
        raise InputError(key, str(path), f"holds weights of a {kind}, not of a {key}", _HINTS[kind])
