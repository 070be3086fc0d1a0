"""Differences between the dictionaries of two problems, and those that a user made."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["UNSAID", "changes", "differences"]

# Fields that a problem's dictionary lacks when they have these values.
UNSAID: dict[str, Any] = {
    "config.samples": 1,
    "config.schedule": "exponential",
    "config.despike": True,
    "config.discrepancy": "auto",
    "config.start": "zero",
    "config.restorer": "fibsem",
    "config.restorer_calls": 1,
    "config.start_share": 0.0,
    "intensity.misfit": 0.0,
    "exact_step": None,
    "imputed_every": None,
    "restored": None,
    "screen": None,
}


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Fields in which two problems' dictionaries differ, as ``name: old -> new`` lines."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        unsaid = UNSAID.get(f"{prefix}{key}")
        a, b = old.get(key, unsaid), new.get(key, unsaid)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            shown = [json.dumps(v) for v in (a, b)]
            cut = [s if len(s) <= 40 else s[:37] + "..." for s in shown]
            found.append(f"{prefix}{key}: {cut[0]} -> {cut[1]}")
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Changes by the user between two problems: settings, the tilt series, the denoiser.

    Consequences of these, such as the schedule of N, are left out. They are listed only where no change
    by the user explains them: then the package has changed.

    Parameters
    ----------
    old, new
        Dictionaries of problems.

    Returns
    -------
    tuple[list[str], list[str]]
        Changes in words; and ``KEY=VALUE`` of the settings that the old problem has.
    """
    a, b = _config(old), _config(new)
    keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    found = [f"{key}: {_shown(a.get(key))} -> {_shown(b.get(key))}" for key in keys]
    settings = [f"{key}={_shown(a[key])}" for key in keys if key in a]
    found += _tilt_series(old, new, thickness="thickness" in keys)
    if old.get("denoiser_digest") != new.get("denoiser_digest") and "denoiser" not in keys:
        found.append(f"what is in the denoiser {_shown(b.get('denoiser'))} (weights or source)")
    before, after = ((p.get("restored") or {}).get("restorer") for p in (old, new))
    if before and after and before != after and "restorer" not in keys:
        found.append(f"what is in the restorer {_shown(b.get('restorer'))} (weights or source)")
    if found:
        return found, settings
    return [f"{line} (by another version of ddgm_dist)" for line in differences(old, new)], []


def _config(problem: dict[str, Any]) -> dict[str, Any]:
    """The settings of a problem, with those that go without saying."""
    prefix = "config."
    unsaid = {k.removeprefix(prefix): v for k, v in UNSAID.items() if k.startswith(prefix)}
    said: dict[str, Any] = problem.get("config", {})
    return unsaid | said


def _shown(value: Any) -> str:
    """A setting as it is written after ``--set KEY=``."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else json.dumps(value)


def _tilt_series(old: dict[str, Any], new: dict[str, Any], *, thickness: bool) -> list[str]:
    """Changes of the tilt series; of its thickness only if no setting says so."""
    a, b = old.get("geometry", {}), new.get("geometry", {})
    shape = [
        f"{len(g.get('angles_deg', ()))} tilts of {g.get('rows')} x {g.get('field')} pixels"
        for g in (a, b)
    ]
    found = []
    if shape[0] != shape[1]:
        found.append(f"the tilt series: {shape[0]} -> {shape[1]}")
    elif old.get("data_digest") != new.get("data_digest"):
        found.append("the pixels of the tilt series")
    if len(a.get("angles_deg", ())) == len(b.get("angles_deg", ())):
        for key, name in (("angles_deg", "angles"), ("shifts_px", "shifts")):
            if json.dumps(a.get(key)) != json.dumps(b.get(key)):
                found.append(f"the {name} of the tilt series")
    if a.get("thickness") != b.get("thickness") and not thickness:
        given = f"{a.get('thickness')} -> {b.get('thickness')}"
        found.append(f"the thickness that the tilt series has: {given}")
    return found
