"""A user's denoiser that raises in the middle of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import FaultEvent, Receipt
from tests.ray_engine.inline import InlineEngine
from tests.ray_engine.test_full_disk import Local

Solve = Callable[..., tuple[np.ndarray, Result]]
COUPLED: dict[str, Any] = {"tile_columns": 64, "margin": 24, "state": "memory"}
KEYS: dict[str, Any] = {"N": 3, "K": 5, "rows_per_call": 2, "tile_rows": 2}
SOURCE = """
from pathlib import Path

from smoother import smooth

calls = 0


def lost(x, sigma):
    global calls
    calls += 1
    if not Path(__file__).with_name("table").exists():
        raise OSError(f"the table is gone in call {calls}")
    return smooth(x, sigma)
"""


@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_it_ends_the_run_at_once_as_the_users_error_and_what_is_finished_is_kept(
    tilts: Path,
    solve: Solve,
    denoisers: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    cut: dict[str, Any],
) -> None:
    """On Ray's loop an OSError would be tried again, as if the store had stumbled."""
    expected, _ = solve(tilts, **KEYS, **cut)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"lost_{kind}_{len(cut)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    table, receipts = tmp_path / "table", list[str]()
    table.touch()

    def watch(event: Any) -> None:
        if isinstance(event, Receipt) and event.tile not in receipts:
            receipts.append(event.tile)
            if len(receipts) == 2:
                table.unlink()

    def engine(watch: Callable[[Any], None] | None = None) -> Any:
        return Local(watch) if kind == "local" else InlineEngine(monkeypatch, 1, watch)

    out, keys = tmp_path / "out.zarr", {**KEYS, **cut, "denoiser": f"{name}:lost"}
    first = engine(watch)
    words = (
        rf"^denoiser = {name}:lost: raised at .*: OSError: the table is gone in call \d+ \(.*{name}"
    )
    with pytest.raises(InputError, match=words) as told:
        reconstruct(tilts, out, keys, first)
    assert "\n" not in str(told.value)
    assert len(receipts) >= 2
    faults = [(e.kind, e.action) for e in first.seen if isinstance(e, FaultEvent)]
    assert faults == ([] if kind == "local" else [("input", "fail")])

    table.touch()
    again = engine()
    result = reconstruct(tilts, out, keys, again)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    done = {event.tile for event in again.seen if isinstance(event, Receipt)}
    assert done.isdisjoint(receipts)
