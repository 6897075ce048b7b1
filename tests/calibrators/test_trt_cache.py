"""Calibration caches: known values, round trips, and what is no cache."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.calibrators.trt_cache import (
    CalibrationCache,
    cache_from_amax,
    load_cache,
    version_number,
)
from calib.errors import StoreError

# Rows of a public TensorRT 10.3 cache; the thresholds follow from 2048 bins.
PUBLIC = "TRT-100300-EntropyCalibration2\nimages: 3c010a14\nflat: 3c010204\nbig: 4000890a\n"


def written(tmp_path, text):
    path = tmp_path / "calibration.cache"
    path.write_text(text, encoding="utf-8")
    return path


def test_public_rows_have_the_thresholds_that_the_algorithm_gives(tmp_path):
    cache = load_cache(written(tmp_path, PUBLIC))
    assert cache.amax["images"] == pytest.approx(2048.5 / 2048, rel=1e-6)
    assert cache.amax["flat"] == pytest.approx(1.0, rel=1e-6)
    assert cache.amax["big"] == pytest.approx(255 * 2048.5 / 2048, rel=1e-6)
    assert (cache.version, cache.algorithm) == (100300, "EntropyCalibration2")
    assert cache.tensorrt == "10.3.0"
    assert cache.text() == PUBLIC


@pytest.mark.parametrize(
    ("version", "number"), [("7.1.3", 7103), ("8.6.1", 8601), ("8.5.2", 8502), ("10.13.3", 101303)]
)
def test_version_numbers_follow_the_header_file(version, number):
    assert version_number(version) == number
    assert CalibrationCache(number, "EntropyCalibration2", {}).tensorrt == version


names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30
).filter(lambda name: name == name.strip())


@given(st.dictionaries(names, st.floats(2.0**-100, 2.0**100, width=32), max_size=8))
def test_what_is_written_is_read_back_to_the_bit(tmp_path_factory, amax):
    cache = cache_from_amax(amax, "8.6.1", "MinMaxCalibration")
    path = tmp_path_factory.mktemp("cache") / "c"
    path.write_text(cache.text(), encoding="utf-8", newline="")
    assert load_cache(path) == cache
    for name, scale in cache.scales.items():
        assert struct.pack(">f", scale) == np.array(amax[name] / 127, dtype=">f4").tobytes()


def test_names_may_hold_colons_and_unknown_rows_are_kept(tmp_path):
    text = "TRT-8600-EntropyCalibration2\na: b: 3c010a14\nshort: 10204\n# a remark\nbad: xyz\n"
    cache = load_cache(written(tmp_path, text))
    assert set(cache.scales) == {"a: b", "short"}
    assert cache.scales["short"] == struct.unpack(">f", bytes.fromhex("00010204"))[0]
    assert cache.unknown == ("# a remark", "bad: xyz")
    assert cache.text().endswith("# a remark\nbad: xyz\n")


@pytest.mark.parametrize("text", ["", "hello\n", "TRT-8600\n", "{}"])
def test_what_is_no_cache_is_refused(tmp_path, text):
    with pytest.raises(StoreError, match="is no TensorRT calibration cache"):
        load_cache(written(tmp_path, text))
    with pytest.raises(StoreError, match="no such file"):
        load_cache(tmp_path / "none")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_that_tensorrt_would_choke_on_are_refused(bad):
    with pytest.raises(ValueError, match="x: amax"):
        cache_from_amax({"x": bad}, "10.3.0", "EntropyCalibration2")
    with pytest.raises(ValueError, match="algorithm"):
        cache_from_amax({}, "10.3.0", "Entropy")
