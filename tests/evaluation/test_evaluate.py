"""Scores by their definitions, regions, crops, and what cannot be compared."""

import json
import math
import pickle

import dask.array as da
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ddgm_dist.cli.entry import main
from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.evaluation import blockwise as BLOCKWISE
from ddgm_dist.evaluation.evaluate import evaluate
from ddgm_dist.paths.locate import locate
from ddgm_dist.readers.base import ArrayVolume
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(130, 35, size=(16, 9, 48)).astype(np.float32)
VOLUME = (TRUTH + RANDOM.normal(0, 10, size=TRUTH.shape)).astype(np.float32)


def result(path, data, *, state="complete", geometry=None):
    """A store as a reconstruction leaves it."""
    layout = VolumeLayout(data.shape, data.shape, data.shape)
    store = create_volume(path, layout, voxel_size_nm=None, name="v")
    store.write(Box((0, 0, 0), data.shape), data)
    record = RunRecord(path)
    if geometry is not None:
        record.write_json("problem", {"geometry": geometry})
    if state is not None:
        record.write_state(state, "0")
    return path


def geometry(thickness, *angles):
    return {"angles_deg": list(angles), "thickness": thickness, "rows": 9, "field": 48}


def test_scores_follow_their_definitions():
    scores = evaluate(VOLUME, TRUTH, inner="2:15,1:8,5:40")
    a, b = (v[2:15, 1:8, 5:40].astype(float) for v in (VOLUME, TRUTH))
    mse, span = ((a - b) ** 2).mean(), b.max() - b.min()
    assert scores.mse == pytest.approx(mse, rel=1e-9)
    assert scores.nmse == pytest.approx(mse / b.var(), rel=1e-9)
    assert scores.psnr == pytest.approx(10 * np.log10(span**2 / mse), rel=1e-9)
    slices = [
        structural_similarity(
            b[:, y], a[:, y], data_range=span, gaussian_weights=True, use_sample_covariance=False
        )
        for y in range(7)
    ]
    assert scores.ssim == pytest.approx(np.mean(slices), rel=1e-9)
    assert (scores.region, scores.box, scores.voxels) == ("box", "2:15,1:8,5:40", a.size)


@pytest.mark.parametrize("block", [1, 300, 5000, 10**6])
def test_blocks_and_schedulers_do_not_change_a_bit(monkeypatch, block):
    """Whatever the size of blocks; and pieces are those of a wide field."""
    monkeypatch.setattr(BLOCKWISE, "_PIECE", 320)
    ramp = np.linspace(0, 500, 9, dtype=np.float32)[:, None]
    whole = evaluate(VOLUME + ramp, TRUTH + ramp, inner="0:16,1:9,3:46", scheduler="sync")
    monkeypatch.setattr(BLOCKWISE, "_BLOCK", block)
    seen = []

    class Recorder(ArrayVolume):
        def read(self, box):
            seen.append(box.size)
            return super().read(box)

    split = evaluate(Recorder(VOLUME + ramp), Recorder(TRUTH + ramp), inner="0:16,1:9,3:46")
    assert split == whole
    assert max(seen) <= max(block, 16 * 20) + 16 * 10  # a piece, and the halo of SSIM
    many = BLOCKWISE.Pair(ArrayVolume(VOLUME), ArrayVolume(TRUTH), Box((0, 1, 3), (16, 9, 46)), 0)
    assert len(many.blocks()) == {1: 24, 300: 24, 5000: 2, 10**6: 1}[block]


def test_pieces_change_no_more_than_the_rounding(monkeypatch):
    whole = evaluate(VOLUME, TRUTH, inner="all").to_dict()
    monkeypatch.setattr(BLOCKWISE, "_PIECE", 320)
    split = evaluate(VOLUME, TRUTH, inner="all").to_dict()
    for name in ("mse", "nmse", "psnr", "ssim"):
        assert split[name] == pytest.approx(whole[name], rel=1e-12)


def test_the_similarity_of_a_piece_is_that_of_the_slice(monkeypatch):
    """The map of a cut slice, put together, is the map of the slice to the bit."""
    a, b = VOLUME[:, 4].astype(float), TRUTH[:, 4].astype(float)
    keys = {"data_range": 200.0, "gaussian_weights": True, "use_sample_covariance": False}
    _, whole = structural_similarity(b, a, full=True, **keys)
    for start, stop in ((5, 25), (25, 43), (7, 8)):
        _, part = structural_similarity(
            np.ascontiguousarray(b[:, start - 5 : stop + 5]),
            np.ascontiguousarray(a[:, start - 5 : stop + 5]),
            full=True,
            **keys,
        )
        np.testing.assert_array_equal(part[5:-5, 5:-5], whole[5:-5, start:stop])


def test_bad_voxels_are_told_with_where_they_lie(monkeypatch):
    """All of them, in the same words for any blocks."""
    volume = VOLUME.copy()
    volume[3, 2, 20] = volume[5, 7, 11] = np.nan
    said = set()
    for block in (1, 10**6):
        monkeypatch.setattr(BLOCKWISE, "_BLOCK", block)
        with pytest.raises(InputError) as caught:
            evaluate(volume, holed(np.inf))
        said.add(str(caught.value))
    (message,) = said
    assert message.startswith("volume = 2 NaN or infinite voxels: they lie in 3:6,2:8,11:21, ")


@pytest.mark.parametrize("chunks", [(16, 9, 48), (5, 4, 7), (1, 9, 1)])
def test_dask_arrays_give_the_same(chunks):
    lazy = da.from_array(VOLUME, chunks=chunks), da.from_array(TRUTH, chunks=chunks)
    want = evaluate(VOLUME, TRUTH)
    assert evaluate(*lazy) == want
    assert evaluate(lazy[0], TRUTH, scheduler="sync") == want
    assert evaluate(VOLUME, lazy[1]) == want


@pytest.mark.parametrize("first", [0, 1])
def test_chunks_of_rows_are_computed_once_a_pass(monkeypatch, first):
    monkeypatch.setattr(BLOCKWISE, "_BLOCK", 16 * 48 * 3)
    count = []

    def computed(block, block_info=None):
        if block_info:
            count.append(1)
        return block

    lazy = da.map_blocks(
        computed, da.from_array(TRUTH, chunks=(16, 4, 48)), meta=np.empty((0, 0, 0), np.float32)
    )
    evaluate(VOLUME, lazy, inner=f":,{first}:,:", scheduler="sync")
    assert len(count) == 2 * 3


def test_a_source_opened_by_its_place_is_sent_as_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("truth.npy", TRUTH)
    source = BLOCKWISE.FileVolume(locate("truth.npy", "volume"))
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    monkeypatch.chdir("/")
    box = Box((0, 0, 0), TRUTH.shape)
    np.testing.assert_array_equal(pickle.loads(sent).read(box), TRUTH)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ray_gives_the_same(tmp_path, monkeypatch):
    import ray

    from ddgm_dist.ray_engine.cluster import connected

    monkeypatch.setattr(BLOCKWISE, "_BLOCK", 16 * 48 * 2)
    np.save(tmp_path / "truth.npy", TRUTH)
    want = evaluate(VOLUME, TRUTH)
    with connected(None):
        assert evaluate(VOLUME, tmp_path / "truth.npy", scheduler="ray") == want
        stored = result(tmp_path / "v.zarr", VOLUME)
        lazy = da.from_array(TRUTH, chunks=(5, 4, 7))
        assert evaluate(stored, lazy, scheduler="ray", inner=want.box).ssim == want.ssim
        with pytest.raises(InputError, match="1 NaN or infinite voxels: they lie in 3:4,4:5,20:21"):
            evaluate(VOLUME, holed(np.nan), scheduler="ray")
        assert ray.is_initialized()


def test_equal_volumes_are_perfect_and_json_can_say_so():
    scores = evaluate(TRUTH, TRUTH)
    assert (scores.mse, scores.nmse, scores.psnr) == (0, 0, math.inf)
    assert scores.ssim == pytest.approx(1)
    said = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert said["psnr"] is None
    assert list(said) == ["mse", "nmse", "psnr", "ssim", "region", "box", "voxels"]


def test_the_mean_has_a_normalised_error_of_one():
    assert evaluate(np.full_like(TRUTH, TRUTH.mean()), TRUTH, inner="all").nmse == pytest.approx(1)


def test_without_a_record_an_eighth_is_trimmed():
    scores = evaluate(VOLUME, TRUTH)
    assert scores.box == "0:16,0:9,6:42"
    assert "trimmed by 6" in scores.region
    assert "eighth" in scores.region


def test_the_reach_of_the_run_is_trimmed(tmp_path):
    found = geometry(16, -50.0, 10.0, 40.0)
    path = result(tmp_path / "v.zarr", VOLUME, geometry=found)
    reach = Geometry((-50.0, 10.0, 40.0), 16, 9, 48).reach
    scores = evaluate(path, TRUTH)
    assert scores.box == f"0:16,0:9,{reach}:{48 - reach}"
    assert f"trimmed by {reach}" in scores.region
    assert "reach" in scores.region
    assert scores.mse == evaluate(VOLUME, TRUTH, inner=scores.box).mse


def test_a_result_without_a_problem_is_trimmed_by_an_eighth(tmp_path):
    assert "eighth" in evaluate(result(tmp_path / "v.zarr", VOLUME), TRUTH).region


@pytest.mark.parametrize(
    ("inner", "box"),
    [
        ("all", "0:16,0:9,0:48"),
        (Box((1, 2, 3), (16, 9, 20)), "1:16,2:9,3:20"),
        (":,2:, :20", "0:16,2:9,0:20"),
        ("0:16,0:9,6:42", "0:16,0:9,6:42"),
    ],
)
def test_regions(inner, box):
    assert evaluate(VOLUME, TRUTH, inner=inner).box == box


def test_of_a_wider_reference_the_middle_is_taken():
    """As `simulate` records it."""
    large = RANDOM.normal(size=(16, 9, 60)).astype(np.float32)
    large[:, :, 6:54] = TRUTH
    assert evaluate(VOLUME, large) == evaluate(VOLUME, TRUTH)


@pytest.mark.parametrize("first", [0, 3, 5])
def test_of_a_reference_with_more_rows_those_are_taken_that_are_named(first):
    large = RANDOM.normal(size=(16, 14, 60)).astype(np.float32)
    large[:, first : first + 9, 6:54] = TRUTH
    want = evaluate(VOLUME, TRUTH)
    assert evaluate(VOLUME, large, rows=slice(first, first + 9)) == want
    # Which rows the volume's are cannot be told: the first need not be.
    with pytest.raises(
        InputError, match=r"y is 14, while the volume's \(z, y, x\) is \(16, 9, 48\)"
    ) as told:
        evaluate(VOLUME, large)
    assert "--rows A:B" in str(told.value)
    with pytest.raises(InputError, match="has more rows"):
        evaluate(VOLUME, large, inner="0:16,0:9,6:42")
    assert evaluate(VOLUME, TRUTH, rows=slice(None)) == want


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (slice(0, 8), "are 8 rows of the reference"),
        (slice(6, 15), "must lie within the reference's 14 rows"),
        (slice(-9, None), "must lie within"),
        (slice(0, 9, 2), "must lie within"),
        (slice(9, 0), "must lie within"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, why):
    large = RANDOM.normal(size=(16, 14, 48)).astype(np.float32)
    with pytest.raises(InputError, match=why) as told:
        evaluate(VOLUME, large, rows=rows)
    assert told.value.argument == "rows"


def test_rows_that_simulate_records_are_named_alike_on_the_command_line(tmp_path, capsys):
    np.save(tmp_path / "truth.npy", TRUTH)
    np.save(tmp_path / "volume.npy", VOLUME[:, 2:6])
    words = ["evaluate", str(tmp_path / "volume.npy"), str(tmp_path / "truth.npy")]
    assert main([*words, "--rows", "2:6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == evaluate(VOLUME[:, 2:6], TRUTH[:, 2:6]).to_dict()
    assert main(words) == 2
    assert "has more rows than the volume" in capsys.readouterr().err


def test_paths_and_sources_give_the_same(tmp_path):
    np.save(tmp_path / "truth.npy", TRUTH)
    np.save(tmp_path / "volume.npy", VOLUME)
    want = evaluate(VOLUME, TRUTH)
    assert evaluate(tmp_path / "volume.npy", str(tmp_path / "truth.npy")) == want
    assert evaluate(ArrayVolume(VOLUME), ArrayVolume(TRUTH)) == want
    stored = result(tmp_path / "v.zarr", VOLUME)
    assert evaluate(stored, result(tmp_path / "r.zarr", TRUTH)) == want


def test_small_regions_have_no_ssim():
    scores = evaluate(VOLUME, TRUTH, inner="0:10,:,:")
    assert scores.ssim is None
    assert scores.mse > 0
    assert evaluate(VOLUME, TRUTH, inner="0:11,:,0:11").ssim is not None


def test_an_unfinished_result_is_refused(tmp_path):
    path = result(tmp_path / "v.zarr", VOLUME, state="running")
    with pytest.raises(StorageError, match="not whole"):
        evaluate(path, TRUTH)
    with pytest.raises(StorageError, match="not whole"):
        evaluate(TRUTH, path)


def holed(value):
    broken = TRUTH.copy()
    broken[3, 4, 20] = value
    return broken


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"reference": TRUTH[:15]}, "reference"),
        ({"reference": TRUTH[:, :8]}, "reference"),
        ({"volume": VOLUME[:, :8]}, "reference"),
        ({"reference": TRUTH[:, :, :46]}, "reference"),
        ({"volume": VOLUME[:, :, :47]}, "reference"),
        ({"reference": np.ones_like(TRUTH)}, "reference"),
        ({"reference": holed(np.nan)}, "reference"),
        ({"volume": holed(np.inf)}, "volume"),
        ({"volume": "nowhere.zarr"}, "volume"),
        ({"inner": "middle"}, "inner"),
        ({"inner": "0:1,0:1"}, "inner"),
        ({"inner": "-4:,:,:"}, "inner"),
        ({"inner": "0:16,4:4,0:48"}, "inner"),
        ({"inner": "0:16,0:9,40:30"}, "inner"),
        ({"inner": "0:16,0:10,0:48"}, "inner"),
        ({"inner": Box((0, 0, 0), (4, 0, 4))}, "inner"),
        ({"inner": Box((0, 0, -1), (4, 4, 4))}, "inner"),
        ({"scheduler": "processes"}, "scheduler"),
        ({"address": "auto"}, "address"),
        ({"volume": da.from_array(VOLUME[0])}, "source"),
        ({"volume": da.from_array(VOLUME)[da.from_array(VOLUME)[:, 0, 0] > 0]}, "source"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, argument):
    with pytest.raises(InputError) as caught:
        evaluate(**({"volume": VOLUME, "reference": TRUTH} | change))
    assert caught.value.argument == argument


def test_a_hole_outside_the_region_does_not_matter():
    assert evaluate(holed(np.nan), TRUTH, inner="4:16,:,:").mse == 0


def test_a_reach_beyond_the_middle_leaves_no_inner_region(tmp_path):
    path = result(tmp_path / "v.zarr", VOLUME, geometry=geometry(16, 72.0))
    with pytest.raises(DdgmError, match="leaves nothing"):
        evaluate(path, TRUTH)
    assert evaluate(path, TRUTH, inner="all").voxels == TRUTH.size
