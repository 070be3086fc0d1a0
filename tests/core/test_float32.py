"""Values as float32: what does not fit is named, what fits is kept."""

import numpy as np
import pytest

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError

LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", ">f8", "longdouble", "i1", "u8", "i8"])
def test_values_are_kept(dtype):
    data = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for view in (data, data[:, ::2], data.transpose(2, 0, 1)):
        values = as_float32(view, "source", "a")
        np.testing.assert_array_equal(values, view)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert not np.shares_memory(values, data)


def test_infinite_values_and_the_largest_one_stay_what_they_are():
    data = np.array([np.inf, -np.inf, np.nan, LARGEST, -LARGEST])
    np.testing.assert_array_equal(as_float32(data, "source", "a"), data.astype(np.float32))


@pytest.mark.parametrize("value", [4e40, -1e300, np.longdouble("1e300")])
def test_a_value_beyond_float32_is_named_with_its_place(value):
    data = np.zeros((2, 3, 4), np.asarray(value).dtype)
    data[0, 0, 0] = np.inf
    data[1, 2, 3] = value
    with pytest.raises(InputError, match=r"source = a: holds .*e\+.* at \(11, 22, 33\)") as error:
        as_float32(data, "source", "a", (10, 20, 30))
    assert f"{value:g}" in str(error.value)
    assert "beyond float32's 3.4e+38" in str(error.value)


def test_nothing_is_copied_that_need_not_be():
    data = np.zeros((2, 3), np.float32)
    assert as_float32(data, "source", "a", copy=False) is data
    assert as_float32(data, "source", "a") is not data
