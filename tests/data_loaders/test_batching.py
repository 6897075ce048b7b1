"""Batches lose nothing, add nothing, and splits do not overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_loaders import (
    DataError,
    FiniteSamples,
    Sample,
    batches,
    refuse_not_finite,
    refuse_overlap,
    scan,
    stack,
)

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=40)


def samples_of(sizes):
    return [
        Sample(id=f"s{i}", inputs={"ids": np.full(size, i + 1, dtype=np.int64)}, label=i)
        for i, size in enumerate(sizes)
    ]


@given(lengths, st.integers(1, 8))
def test_every_sample_is_in_one_batch_and_only_padding_is_added(sizes, batch_size):
    samples = samples_of(sizes)
    seen = []
    for batch in batches(samples, batch_size, pad_values={"ids": -1}):
        assert len(batch) <= batch_size
        seen += batch.ids
        for row, (sample, array) in enumerate(zip(batch.samples, batch.inputs["ids"], strict=True)):
            own = sample.inputs["ids"]
            assert (array[: own.size] == own).all()
            assert (array[own.size :] == -1).all()
            if batch.real is None:
                assert array.size == own.size
            else:
                assert batch.real[row].sum() == own.size
                assert batch.real[row, : own.size].all()
    assert sorted(seen) == sorted(sample.id for sample in samples)


def test_samples_of_one_shape_keep_their_order():
    ids = [i for batch in batches(samples_of([4] * 9), 2) for i in batch.ids]
    assert ids == [f"s{i}" for i in range(9)]


def test_images_of_one_shape_are_stacked_without_a_mask():
    samples = [Sample(id=str(i), inputs={"x": np.zeros((3, 2, 2))}) for i in range(2)]
    batch = stack(samples, {})
    assert batch.inputs["x"].shape == (2, 3, 2, 2)
    assert batch.real is None


def test_samples_with_different_dtypes_are_refused_by_id():
    mixed = [Sample("a", {"x": np.zeros(2, np.float32)}), Sample("b", {"x": np.zeros(2)})]
    with pytest.raises(DataError, match="sample b"):
        stack(mixed, {})


def test_a_scan_counts_and_does_not_depend_on_order():
    samples = samples_of([3, 5, 4])
    found = scan(samples, "data")
    assert (found.samples, found.labelled) == (3, 3)
    assert found.shapes == {"ids": ((3, 4, 5),)}
    assert found.sha256 == scan(samples[::-1], "data").sha256
    assert found.sha256 != scan(samples[:2], "data").sha256


def test_an_empty_split_nan_and_shared_content_are_refused():
    with pytest.raises(DataError, match="holds no samples"):
        scan([], "data.validation")
    bad = [Sample("s9", {"x": np.array([1.0, np.nan])})]
    with pytest.raises(DataError, match=r"s9.*x holds NaN"):
        scan(bad, "data")
    one, other = samples_of([3, 4]), samples_of([3, 5])
    with pytest.raises(DataError, match="s0 = s0"):
        refuse_overlap(scan(one, "a"), scan(other, "b"))


def some_broken():
    values = [np.ones(3, np.float32) for _ in range(6)]
    values[1][2], values[4][0] = np.nan, -np.inf
    return [Sample(f"s{k}", {"x": v, "n": np.array([k])}) for k, v in enumerate(values)]


def test_samples_that_are_not_finite_are_all_named_or_all_left_out():
    with pytest.raises(DataError, match=r"data.validation, sample s1: input x .*the same in s4\)"):
        scan(some_broken(), "data.validation")
    found = scan(some_broken(), "data", drop_not_finite=True)
    assert (found.samples, found.dropped) == (4, ("s1", "s4"))
    kept = [sample for sample in some_broken() if sample.id not in found.dropped]
    assert found.sha256 == scan(kept, "data").sha256
    assert [sample.id for sample in FiniteSamples(some_broken())] == [s.id for s in kept]
    broken = [sample for sample in some_broken() if sample.id in found.dropped]
    with pytest.raises(DataError, match=r"no sample whose inputs are all finite \(got s1, s4\)"):
        scan(broken, "data", drop_not_finite=True)
    with pytest.raises(DataError, match="data, sample s1: input x"):
        list(refuse_not_finite(some_broken(), "data"))


def test_a_data_set_without_broken_samples_has_what_it_had():
    class Texts:
        pad_values = {"x": 1}  # noqa: RUF012

        def __iter__(self):
            return iter(some_broken())

    data = FiniteSamples(Texts())
    assert data.pad_values == {"x": 1}
    assert getattr(data, "class_names", None) is None
    assert len(list(data)) == len(list(data)) == 4
