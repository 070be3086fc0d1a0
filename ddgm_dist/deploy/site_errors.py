"""Error messages for site profiles: the nearest key, the meaning of a key, the form of its values."""

from __future__ import annotations

import difflib
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ddgm_dist.errors import InputError

__all__ = ["input_error"]


def input_error(error: ValidationError, profile: type[BaseModel]) -> InputError:
    """The refusal of a profile in the user's words, with the nearest key or the meaning of the key."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "site"
    section, field = _place(profile, first["loc"])
    if first["type"] == "extra_forbidden":
        keys = list(section.model_fields)
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else ""
        if section is profile and (below := _sections_with(profile, key)):
            hint = f"write it below {' or '.join(f'`{name}:`' for name in below)}"
        why = f"is not a key of a site profile; there are {', '.join(keys)}"
        return InputError(where, first["input"], why, hint)
    if first["type"] in ("tuple_type", "list_type"):
        return InputError(
            where, first["input"], f"is not a list: {field}", "write one `- ITEM` a line below it"
        )
    # The meaning of the key explains the mistake better than the pattern.
    if first["type"] == "string_pattern_mismatch":
        why = "does not have the form of this key"
        return InputError(where, first["input"], why, _form(section, first["loc"]) or field)
    value = "nothing" if first["type"] == "missing" else first["input"]
    return InputError(where, value, f"{first['msg'][0].lower()}{first['msg'][1:]}", field)


def _sections_with(profile: type[BaseModel], key: str) -> list[str]:
    """Names of the profile's sections that have a key."""
    return [
        name
        for name, field in profile.model_fields.items()
        if any(key in kind.model_fields for kind in _kinds(field.annotation))
    ]


_FORMS = {
    "image": "name the image with a tag or a digest, such as registry.example/ddgm-dist:0.1.0",
    "time": 'write hours, minutes and seconds in quotes, such as "24:00:00" or "2-00:00:00"',
    "path": "write an absolute path, such as /data",
    "scratch": "write an absolute path, such as /tmp",
    "ray_version": "write three numbers, such as 2.60.0",
    "s3_endpoint": "write a URL without a path, such as https://s3.example",
    "claim": "write small letters, digits and dashes",
    "namespace": "write small letters, digits and dashes",
}


def _form(section: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Hint at the form of a key's values; empty if the key's meaning is enough."""
    keys = [str(part) for part in loc if str(part) in section.model_fields]
    return _FORMS.get(keys[-1], "") if keys else ""


def _place(profile: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The section of an erroneous key, and the meaning of the key."""
    section = profile
    meaning = ""
    for part in loc:
        field = section.model_fields.get(str(part))
        if field is None:
            continue  # an index, or a key that is unknown
        meaning = field.description or ""
        for kind in _kinds(field.annotation):
            section = kind
    return section, meaning


def _kinds(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, UnionType) or get_args(annotation):
        return [kind for inner in get_args(annotation) for kind in _kinds(inner)]
    return []
