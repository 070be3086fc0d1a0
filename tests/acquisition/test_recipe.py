"""What an ingest is resumed for: all that decides its pixels is in the recipe's digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddgm_dist.acquisition import steps, writing
from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.layout import Layout, PlacedView
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedView, PreparedViews, Reference
from ddgm_dist.acquisition.recipe import Recipe
from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.acquisition.store.target import Target
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.affine import Affine

ANGLES = tuple(float(a) for a in range(-60, 61, 10))
SHAPE = (len(ANGLES), 48, 40)


def source(folder: Path) -> Path:
    """Counts of a slab, so that a beam can be given and hot pixels are looked for."""
    path = np.cos(np.deg2rad(ANGLES))[:, None, None]
    data = np.random.default_rng(0).poisson(3000 * np.exp(-0.6 / path), size=SHAPE)
    np.save(folder / "s.npy", data.astype(np.uint16))
    return folder / "s.npy"


Made = tuple[Layout, PreparedViews, TiltSeriesMeta]


def made(path: Path) -> Made:
    angles, same = ANGLES[:2], Affine()
    layout = Layout(
        tuple(PlacedView(i, a, same, (0.0, 0.0)) for i, a in enumerate(angles)),
        SHAPE[1:],
        range(SHAPE[1]),
        range(SHAPE[2]),
        None,
        9,
    )
    views = PreparedViews(
        stack=open_source(path).stack,
        views=tuple(PreparedView(i, same, 50.0, 3000.0) for i in range(2)),
        size=layout.size,
        y=layout.y,
        u=layout.u,
        dark=Reference(np.zeros(SHAPE[1:], np.float32)),
        gain=1.0,
    )
    return layout, views, TiltSeriesMeta(angles_deg=angles, thickness_px=9)


def other_view(found: Made, **change: float) -> Made:
    views = (found[1].views[0], replace(found[1].views[1], **change))
    return found[0], replace(found[1], views=views), found[2]


def other_field(found: Made) -> Made:
    image = np.zeros(SHAPE[1:], np.float32)
    image[30, 20] = 1e-3
    return found[0], replace(found[1], dark=Reference(image)), found[2]


CHANGES: dict[str, Callable[[Made], Made]] = {
    "beam": lambda found: other_view(found, level=float(np.nextafter(3000.0, 4000))),
    "threshold": lambda found: other_view(found, threshold=50.5),
    "a pixel of the dark field": other_field,
    "gain": lambda found: (found[0], replace(found[1], gain=1.5), found[2]),
    "bin": lambda found: (found[0], replace(found[1], bin=2), found[2]),
    "unmeasured": lambda found: (*found[:2], replace(found[2], bad_pixels="unmeasured")),
    "layout": lambda found: (replace(found[0], thickness_px=10), *found[1:]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_decides_a_pixel_changes_the_digest(tmp_path: Path, name: str) -> None:
    path = source(tmp_path)
    recipe = Recipe(open_source(path), IngestOptions())
    first = made(path)
    assert recipe.digest(*first) == recipe.digest(*made(path))
    assert recipe.digest(*first) != recipe.digest(*CHANGES[name](first))


def test_what_decides_no_pixel_does_not(tmp_path: Path) -> None:
    path = source(tmp_path)
    layout, views, meta = made(path)
    recipes = [Recipe(open_source(path), IngestOptions(strict=strict)) for strict in (False, True)]
    told = replace(meta, provenance=Provenance(warnings=["a word"]))
    found = {recipe.digest(layout, views, m) for recipe in recipes for m in (meta, told)}
    assert len(found) == 1
    assert None not in found


def test_a_store_left_by_a_release_that_took_other_beams_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)
    path, out = source(tmp_path), tmp_path / "t.zarr"
    options = {"angles": ANGLES, "counts": 3000.0, "thickness": 9}
    with monkeypatch.context() as former:
        decide, stored, calls = steps.decide_intensities, Target.stored, list[int]()

        def otherwise(*arguments):
            found = decide(*arguments)
            return replace(found, levels=(*found.levels[:3], 4000.0, *found.levels[4:]))

        def some(self, box):
            calls.append(box.start[1])
            if len(calls) > 4:
                raise KeyboardInterrupt
            return stored(self, box)

        former.setattr(steps, "decide_intensities", otherwise)
        former.setattr(Target, "stored", some)
        with pytest.raises(KeyboardInterrupt):
            ingest(path, out, **options)
    assert "the same command resumes it" in caplog.text
    series = ingest(path, out, **options)
    assert "of another source or of other options" in caplog.text
    fresh = ingest(path, tmp_path / "u.zarr", **options)
    assert series.fingerprint() == fresh.fingerprint()
