"""Images are aligned by AreTomo's file, or the file is refused."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    ANGLES,
    angles_file,
    stack,
    tilt_command,
    unused,
)

ALL = slice(None)
ALN = """# AreTomo Alignment / Priims bprmMn
# RawSize = 24 20 7
# NumPatches = {patches}
# DarkFrame =     2     2   -20.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
"""


def aln_file(folder, patches=0):
    rows = [
        f"{i:5d}  90.0000    1.00000    2.000    -1.000     1.0     1.0     1.0     0.0  {a + 1:8.2f}\n"
        for i, a in enumerate(ANGLES)
        if i != 2
    ]
    local = "".join(f"{i} 0 1.0 2.0 3.0 4.0 1.0\n" for i in range(6 * patches))
    local = f"# Local Alignment\n{local}" if patches else ""
    (folder / "ts.aln").write_text(ALN.format(patches=patches) + "".join(rows) + local)


def test_the_alignment_of_aretomo(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    aln_file(tmp_path)
    series = ingest(path, tmp_path / "t.zarr", thickness=9)
    assert series.meta.angles_deg == tuple(a + 1 for i, a in enumerate(ANGLES) if i != 2)
    assert [v.view for v in series.meta.provenance.left_out] == [3]
    # Shifted by (-2, 1), then turned by -90 degrees: x' = y + 1, y' = -(x - 2).
    read, kept = series.read(ALL), np.delete(data, 2, axis=0)
    expected = kept.transpose(0, 2, 1)[:, ::-1]
    np.testing.assert_array_equal(read[:, 2:, 1:], expected[:, :-2, :-1])
    # Angles that differ by an offset alone are no contradiction.
    assert "as those of ts.aln" in unused(series)["ts.tlt"]


def test_a_local_alignment_is_refused_by_name(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path, patches=1)
    with pytest.raises(InputError, match=r"local alignment.*--xf ts\.aln"):
        ingest(path, tmp_path / "t.zarr")
    series = ingest(path, tmp_path / "t.zarr", xf=tmp_path / "ts.aln")
    assert any("local alignment is not used" in line for line in series.meta.provenance.warnings)


def test_aretomo_and_the_tilt_command_do_not_add_up(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path)
    tilt_command(tmp_path, "OFFSET 1.0", "EXCLUDELIST 1")
    series = ingest(path, tmp_path / "t.zarr", thickness=9)
    assert series.meta.angles_deg == tuple(a + 1 for i, a in enumerate(ANGLES) if i != 2)
    assert "ts.aln" in unused(series)["tilt.com"]


def test_an_alignment_of_larger_images_is_scaled_or_refused(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path)
    text = (tmp_path / "ts.aln").read_text()
    (tmp_path / "ts.aln").write_text(text.replace("RawSize = 24 20", "RawSize = 48 40"))
    halved = ingest(path, tmp_path / "h.zarr").read(ALL)
    rows = [
        line.replace(" 2.000 ", " 1.000 ").replace(" -1.000 ", " -0.500 ")
        for line in text.split("\n")
    ]
    (tmp_path / "ts.aln").write_text("\n".join(rows))
    np.testing.assert_array_equal(halved, ingest(path, tmp_path / "s.zarr").read(ALL))
    (tmp_path / "ts.aln").write_text(text.replace("RawSize = 24 20", "RawSize = 30 20"))
    with pytest.raises(InputError, match="about images of 20 x 30 pixels"):
        ingest(path, tmp_path / "t.zarr")
