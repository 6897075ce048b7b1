"""The benchmark of planted failures spoils what it says it spoils."""

import numpy as np
import pytest

from benchmarks.planted import samples
from examples.textline import samples as plain


@pytest.mark.parametrize("plant", ["", "outliers", "channel"])
def test_one_validation_line_in_a_hundred_is_spoilt_and_no_calibration_line(plant):
    for split in ("calibration", "validation"):
        pairs = zip(samples(split, 110, plant), plain(split, 110), strict=True)
        unlike = [
            k for k, (a, b) in enumerate(pairs) if not np.array_equal(a.inputs["x"], b.inputs["x"])
        ]
        assert unlike == ([7, 107] if plant and split == "validation" else [])


def test_a_channel_that_was_never_scaled_is_the_pixels_themselves():
    found = list(samples("validation", 8, "channel"))[7].inputs["x"]
    assert found[1] == pytest.approx((found[0] + 1) / 2 * 255, abs=1e-3)
    assert np.array_equal(found[0], found[2])
