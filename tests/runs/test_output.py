"""The output of a run is claimed early and begun late; whoever loses it in between touches nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddgm_dist.errors import InputError, PlanError, StorageError
from ddgm_dist.runs.output import Output
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.job import Job

KEYS = {"N": 2, "K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_driver_that_lost_its_lease_while_it_read_the_input_touches_nothing(
    begin: Callable[..., Job], overwrite: bool
) -> None:
    job = begin()
    out = job.out
    assert isinstance(out, Path)
    with Output.claim(out, overwrite=overwrite) as output:
        # Another driver has taken the lease over, and replaces the output.
        work = out.with_name(f".{out.name}.new-12345678")
        (work / "ddgm_dist").mkdir(parents=True)
        (out / "ddgm_dist/next.json").write_text(json.dumps({"folder": work.name}))
        state = (out / "ddgm_dist/state.json").read_bytes()
        before = sorted(path.name for path in out.parent.iterdir())
        output.lease._lost = "another driver took the lease over"
        with pytest.raises(StorageError, match="took the lease over"):
            output.begin(job.problem, job.plan, None)
    assert sorted(path.name for path in out.parent.iterdir()) == before
    assert (out / "ddgm_dist/state.json").read_bytes() == state


@pytest.mark.usefixtures("denoisers")
def test_a_refused_run_leaves_no_folder_behind(tilts: Path, tmp_path: Path) -> None:
    for keys, memory in ((KEYS, 1000), ({**KEYS, "step_size": 1e9}, None)):
        with pytest.raises((InputError, PlanError)):
            reconstruct(tilts, tmp_path / "a/b/out.zarr", keys, "local", memory=memory)
        assert list(tmp_path.iterdir()) == []
    reconstruct(tilts, tmp_path / "a/b/out.zarr", KEYS, "local")
    assert (tmp_path / "a/b/out.zarr/zarr.json").exists()


def test_an_output_of_a_version_with_other_keys_is_refused_by_name(
    begin: Callable[..., Job], tilts: Path
) -> None:
    out = begin().out
    assert isinstance(out, Path)
    path = out / "ddgm_dist/problem.json"
    saved = json.loads(path.read_text())
    saved["config"]["specimen"] = "slab"
    del saved["config"]["boundary"]
    path.write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"begun by a former version.*\(specimen\)"):
        reconstruct(tilts, out, {**KEYS, "tile_rows": 4}, "local")
