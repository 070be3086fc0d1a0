"""The tilt-series store: what goes in comes out, and what cannot be used is refused by name."""

import pickle

import numpy as np
import pytest
import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.tilts.bad_pixels import find_bad
from ddgm_dist.tilts.series import (
    BadPixels,
    TiltSeriesMeta,
    create_tilt_series,
    open_tilt_series,
    write_tilt_series,
)
from ddgm_dist.tilts.survey import survey
from tests.small_runs import forget_record

ANGLES = (-40.0, 0.0, 33.5)
META = TiltSeriesMeta(
    ANGLES, shifts_px=((0.0, 1.5),) * 3, pixel_size_nm=2.0, thickness_px=12, description="a test"
)


@pytest.fixture
def projections():
    return np.random.default_rng(0).normal(size=(3, 21, 1100)).astype(np.float32)


def hand_written(path, attributes, *, array=None, name="projections", chunks="auto"):
    group = zarr.create_group(str(path), zarr_format=3)
    data = np.zeros((3, 4, 5), np.float32) if array is None else array
    group.create_array(name, data=data, chunks=chunks)
    group.attrs.update(attributes)
    return path


def attribute(**changes):
    return {
        "ddgm_dist": {
            "kind": "tilt-series",
            "version": 1,
            "angles_deg": list(ANGLES),
            **changes,
        }
    }


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "int8"])
def test_what_is_written_is_read(tmp_path, projections, dtype):
    data = (projections * 20).astype(dtype)
    series = write_tilt_series(tmp_path / "a.zarr", data, META)
    assert (series.shape, series.dtype, series.meta) == (data.shape, dtype, META)
    block = series.read(slice(5, 17), slice(1000, 1100))
    np.testing.assert_array_equal(block, data[:, 5:17, 1000:].astype(np.float32))
    assert block.dtype == np.float32
    assert block.flags.writeable
    block[:] = 0
    np.testing.assert_array_equal(series.read(slice(None)), data.astype(np.float32))


def test_blocks_in_any_order_make_the_same_store(tmp_path, projections):
    whole = write_tilt_series(tmp_path / "a.zarr", projections, META)
    with create_tilt_series(tmp_path / "b.zarr", projections.shape, META) as writer:
        for rows in (slice(16, 21), slice(0, 5), slice(5, 16)):
            writer.write(rows, projections[:, rows])
    assert open_tilt_series(tmp_path / "b.zarr").fingerprint() == whole.fingerprint()


def test_layout_of_the_array(tmp_path, projections):
    write_tilt_series(tmp_path / "a.zarr", projections, META)
    array = zarr.open_array(str(tmp_path / "a.zarr/projections"), mode="r")
    assert array.chunks == (3, 8, 1024)
    assert array.metadata.dimension_names == ("tilt", "y", "u")
    (codec,) = array.compressors
    assert codec.to_dict() == {"name": "zstd", "configuration": {"level": 1, "checksum": True}}


def test_zarr_python_reads_what_we_write_and_we_read_what_it_writes(tmp_path, projections):
    write_tilt_series(tmp_path / "a.zarr", projections, META)
    np.testing.assert_array_equal(
        zarr.open_group(str(tmp_path / "a.zarr"))["projections"][:], projections
    )
    hand_written(tmp_path / "b.zarr", attribute(), array=projections)
    series = open_tilt_series(tmp_path / "b.zarr")
    np.testing.assert_array_equal(series.read(slice(None)), projections)
    assert series.meta == TiltSeriesMeta(ANGLES)


def test_fingerprint_depends_on_content_and_not_on_chunks_dtype_or_description(tmp_path):
    data = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    prints = {
        open_tilt_series(
            hand_written(tmp_path / f"{i}.zarr", attribute(description=str(i)), array=a, chunks=c)
        ).fingerprint()
        for i, (a, c) in enumerate(
            [(data, (3, 20, 30)), (data, (1, 7, 11)), (data.astype(np.float32), (3, 3, 30))]
        )
    }
    assert len(prints) == 1
    other = data.copy()
    other[2, 19, 29] += 1
    changed = [
        hand_written(tmp_path / "x.zarr", attribute(), array=other),
        hand_written(tmp_path / "y.zarr", attribute(angles_deg=[-40, 0, 33]), array=data),
        hand_written(tmp_path / "z.zarr", attribute(shifts_px=[[0, 1]] * 3), array=data),
    ]
    prints |= {open_tilt_series(path).fingerprint() for path in changed}
    assert len(prints) == 4


def test_fingerprint_and_bad_pixels_do_not_depend_on_the_size_of_blocks(
    tmp_path, projections, monkeypatch
):
    projections[2, 3, 7] = np.nan
    projections[1, 20, 1099] = -np.inf
    projections[0, 20, 5] = np.inf
    series = write_tilt_series(tmp_path / "a.zarr", projections, META)
    once = series.fingerprint()
    expected = BadPixels(3, ((2, 3, 7), (0, 20, 5), (1, 20, 1099)))
    assert survey(series).bad == expected
    monkeypatch.setattr("ddgm_dist.tilts.reader._BLOCK_BYTES", 1)
    assert len(list(series.blocks())) == 3
    assert survey(series).bad == expected
    assert series.fingerprint() == once
    assert "3 NaN or infinite" in expected.describe()
    assert "(2, 3, 7)" in expected.describe()
    assert find_bad((0, 0, 0), projections, show=1).first == ((2, 3, 7),)


@pytest.mark.parametrize("chunks", [(3, 8, 1024), (1, 21, 1100), (2, 5, 300)])
@pytest.mark.parametrize("budget", [1, 100_000, 2**26])
def test_blocks_cover_the_series_once(tmp_path, projections, monkeypatch, chunks, budget):
    for module in ("strips", "digests"):
        monkeypatch.setattr(f"ddgm_dist.tilts.{module}.PIECE", (4, 256))
    path = hand_written(tmp_path / "a.zarr", attribute(), array=projections, chunks=chunks)
    series = open_tilt_series(path)
    once = series.fingerprint()
    monkeypatch.setattr("ddgm_dist.tilts.reader._BLOCK_BYTES", budget)
    seen = np.zeros(series.shape, int)
    for block in series.blocks():
        seen[block] += 1
        # No larger than asked, or than one chunk filled up to whole pieces.
        least = chunks[0] * (chunks[1] + 3) * (chunks[2] + 255)
        assert seen[block].size <= max(budget // 4, least)
    assert (seen == 1).all()
    assert series.fingerprint() == once
    changed = projections.copy()
    changed[2, 20, 1099] += 1
    other = hand_written(tmp_path / "b.zarr", attribute(), array=changed, chunks=chunks)
    assert open_tilt_series(other).fingerprint() != once


def test_every_tilt_s_columns_are_read(tmp_path, projections, monkeypatch):
    series = write_tilt_series(tmp_path / "a.zarr", projections, META)
    for budget in (1, 2**26):  # one read after the other, or all at once
        monkeypatch.setattr("ddgm_dist.tilts.reader._BLOCK_BYTES", budget)
        for first in ([0, 900, 1000], [7, 7, 7], [800, 0, 3]):
            read = series.read_lines(slice(3, 20), first, 100)
            for tilt, start in enumerate(first):
                expected = projections[tilt, 3:20, start : start + 100]
                np.testing.assert_array_equal(read[tilt], expected)
    for first in ([0, 0, 1001], [-1, 0, 0], [0, 0]):
        with pytest.raises(IndexError):
            series.read_lines(slice(0, 1), first, 100)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_lost_chunk_is_an_error_with_its_place(tmp_path, projections, dtype):
    """Neither zeros, nor bad pixels that a run may mask."""
    series = write_tilt_series(tmp_path / "a.zarr", (projections * 20).astype(dtype), META)
    (tmp_path / "a.zarr/projections/c/0/1/1").unlink()
    place = (
        r"chunk \(0, 1, 1\) of .*a\.zarr/projections is missing: "
        r"tilts 0 to 2, rows 8 to 15, columns 1024 to 1099"
    )
    for opened in (series, open_tilt_series(tmp_path / "a.zarr")):  # also one that it was read by
        for read in (
            lambda opened=opened: survey(opened),
            lambda opened=opened: opened.read(slice(15, 17), slice(1000, 1100)),
            lambda opened=opened: opened.read_lines(slice(3, 9), [0, 1000, 7], 100),
        ):
            with pytest.raises(StorageError, match=place) as caught:
                read()
            assert "\n" not in str(caught.value)
    assert np.isfinite(series.read(slice(16, 21))).all()  # the rest can be read
    assert np.isfinite(series.read(slice(8, 16), slice(0, 1024))).all()


def test_a_chunk_of_zeros_is_there(tmp_path):
    series = write_tilt_series(tmp_path / "a.zarr", np.zeros((3, 21, 30), np.uint16), META)
    assert not series.read(slice(None)).any()


def test_a_damaged_chunk_is_an_error_with_its_place(tmp_path, projections):
    write_tilt_series(tmp_path / "a.zarr", projections, META)
    series = open_tilt_series(forget_record(tmp_path / "a.zarr"))
    for row in (0, 2):
        chunk = tmp_path / f"a.zarr/projections/c/0/{row}/0"
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    place = (
        r"chunk \(0, 0, 0\) of .*a\.zarr/projections is unreadable: "
        r"tilts 0 to 2, rows 0 to 7, columns 0 to 1023; .*checksum.*goes for 1 more"
    )
    with pytest.raises(StorageError, match=place):
        series.read(slice(0, 21))


def test_a_lost_part_of_a_shard_is_an_error_with_its_place(tmp_path, projections):
    path = hand_written(tmp_path / "a.zarr", attribute())
    group = zarr.open_group(str(path))
    projections[:, 5:10, 300:600] = 0  # zarr-python leaves it out
    array = group.create_array(
        "projections", data=projections, chunks=(3, 5, 300), shards=(3, 10, 600), overwrite=True
    )
    assert array.shards == (3, 10, 600)
    with pytest.raises(StorageError, match="is missing: tilts 0 to 2, rows 5 to 9, columns 300 to"):
        open_tilt_series(path).read(slice(0, 7))


def test_a_store_crosses_process_borders(tmp_path, projections):
    series = write_tilt_series(tmp_path / "a.zarr", projections, META)
    copy = pickle.loads(pickle.dumps(series))
    np.testing.assert_array_equal(copy.read(slice(2, 4)), projections[:, 2:4])


@pytest.mark.parametrize("rows", [slice(0, 22), slice(-1, 3), slice(0, 8, 2), slice(5, 4)])
def test_rows_outside_are_not_shortened_silently(tmp_path, projections, rows):
    series = write_tilt_series(tmp_path / "a.zarr", projections, META)
    with pytest.raises(IndexError):
        series.read(rows)


def test_an_interrupted_writer_leaves_no_store(tmp_path, projections):
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        create_tilt_series(tmp_path / "a.zarr", projections.shape, META) as writer,
    ):
        writer.write(slice(None), projections)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_never_written_are_missed(tmp_path, projections):
    writer = create_tilt_series(tmp_path / "a.zarr", projections.shape, META)
    writer.write(slice(0, 8), projections[:, :8])
    with pytest.raises(StorageError, match="13 rows were never written whole, the first is 8"):
        writer.close()
    with pytest.raises(ValueError, match="block"):
        writer.write(slice(8, 16), projections[:, :8, :-1])


def test_columns_are_written_in_whole_chunks_and_none_is_forgotten(tmp_path, projections):
    writer = create_tilt_series(tmp_path / "a.zarr", projections.shape, META)
    with pytest.raises(ValueError, match="whole chunks of 1024"):
        writer.write(slice(0, 8), projections[:, :8, :1000], slice(0, 1000))
    right, left = slice(1024, 1100), slice(0, 1024)
    writer.write(slice(None), projections[..., right], right)
    with pytest.raises(StorageError, match="21 rows were never written whole"):
        writer.close()
    writer.write(slice(None), projections[..., left], left)
    writer.close()
    series = open_tilt_series(tmp_path / "a.zarr")
    np.testing.assert_array_equal(series.read(slice(None)), projections)


def test_an_existing_output_is_replaced_only_on_request_and_only_if_it_is_a_store(
    tmp_path, projections
):
    write_tilt_series(tmp_path / "a.zarr", projections, META)
    with pytest.raises(InputError, match="exists already"):
        write_tilt_series(tmp_path / "a.zarr", projections + 1, META)
    again = write_tilt_series(tmp_path / "a.zarr", projections + 1, META, overwrite=True)
    np.testing.assert_array_equal(again.read(slice(None)), projections + 1)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious.txt").write_text("keep")
    with pytest.raises(InputError, match="not a Zarr store"):
        write_tilt_series(tmp_path / "home", projections, META, overwrite=True)
    assert (tmp_path / "home/precious.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("changes", "argument", "says"),
    [
        ({"kind": "volume"}, "tilts", "holds a 'volume'"),
        ({"version": 2}, "tilts", "version 2"),
        ({"version": None}, "tilts", "version None"),
        ({"angles_deg": None}, "angles_deg", "no tilt angles"),
        ({"angles_deg": []}, "angles_deg", "no tilt angles"),
        ({"angles_deg": [0, None, 1]}, "angles_deg", "angle of tilt 1"),
        ({"angles_deg": [0, float("nan"), 1]}, "angles_deg", "angle of tilt 1"),
        ({"angles_deg": [0, float("inf"), 1]}, "angles_deg", "angle of tilt 1"),
        ({"angles_deg": [0, "flat", 1]}, "angles_deg", "list of numbers"),
        ({"angles_deg": 7}, "angles_deg", "list of numbers"),
        ({"angles_deg": [0, 1]}, "angles_deg", "2 angles"),
        ({"angles_deg": [0, 85, 1]}, "angles_deg", "below 85 degrees"),
        ({"angles_deg": [0, 84.9, -86]}, "angles_deg", "tilt 2"),
        ({"shifts_px": [[0, 1]]}, "shifts_px", "1 shifts"),
        ({"shifts_px": [[0, 1], [0, 1], [0]]}, "shifts_px", r"\[dy, dx\]"),
        ({"shifts_px": [[0, 1], [0, None], [0, 0]]}, "shifts_px", "shift of tilt 1"),
        ({"shifts_px": 3}, "shifts_px", "list of numbers"),
        ({"pixel_size_nm": 0}, "pixel_size_nm", "positive"),
        ({"pixel_size_nm": "big"}, "pixel_size_nm", "list of numbers"),
        ({"thickness_px": 0}, "thickness_px", "at least 1"),
        ({"thickness_px": 2.5}, "thickness_px", "whole number"),
    ],
)
def test_bad_metadata_are_refused_by_name(tmp_path, changes, argument, says):
    path = hand_written(tmp_path / "a.zarr", attribute(**changes))
    with pytest.raises(InputError, match=says) as refused:
        open_tilt_series(path)
    assert refused.value.argument == argument
    assert refused.value.exit_status == 2
    assert str(path) in str(refused.value)


def test_the_steepest_allowed_angle_opens(tmp_path):
    assert open_tilt_series(
        hand_written(tmp_path / "a.zarr", attribute(angles_deg=[84.99, -84.99, 0]))
    ).shape == (3, 4, 5)


def test_bad_stores_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_tilt_series(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="is a URL"):
        open_tilt_series("ftp://server/a.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="not a Zarr store"):
        open_tilt_series(tmp_path / "folder")
    zarr.create_array(str(tmp_path / "array.zarr"), shape=(3, 4, 5), dtype="f4")
    with pytest.raises(InputError, match="not a Zarr group"):
        open_tilt_series(tmp_path / "array.zarr")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr/zarr.json").write_text("{")
    with pytest.raises(InputError, match="not a Zarr group"):
        open_tilt_series(tmp_path / "broken.zarr")
    with pytest.raises(InputError, match="no array 'projections'"):
        open_tilt_series(hand_written(tmp_path / "b.zarr", attribute(), name="data"))
    flat = hand_written(tmp_path / "c.zarr", attribute(), array=np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"\(tilt, y, u\)"):
        open_tilt_series(flat)
    wave = hand_written(tmp_path / "d.zarr", attribute(), array=np.zeros((3, 4, 5), np.complex64))
    with pytest.raises(InputError, match="complex64"):
        open_tilt_series(wave)
    with pytest.raises(InputError, match="no group attribute"):
        open_tilt_series(hand_written(tmp_path / "e.zarr", {}))


def test_bad_metadata_cannot_be_written_either(tmp_path, projections):
    for meta in (TiltSeriesMeta(()), TiltSeriesMeta((0.0, 90.0, 1.0)), TiltSeriesMeta((0.0,))):
        with pytest.raises(InputError, match="angles_deg"):
            write_tilt_series(tmp_path / "a.zarr", projections, meta)
    with pytest.raises(InputError, match="projections"):
        write_tilt_series(tmp_path / "a.zarr", projections[0], META)
    assert not (tmp_path / "a.zarr").exists()
