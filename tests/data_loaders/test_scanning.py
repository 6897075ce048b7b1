"""One reading of a split, or several of a part each: the same is found."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loaders import DataError, Reading, Sample, read, scan

SAMPLES = st.lists(
    st.builds(
        lambda length, label, broken, column: (length, label, broken, column),
        st.integers(1, 5),
        st.sampled_from([None, 0, 1, 2, 0.5]),
        st.sampled_from([False, False, False, True]),
        st.integers(0, 130),
    ),
    min_size=1,
    max_size=30,
)


def sample_of(number, drawn):
    length, label, broken, column = drawn
    values = np.full(length, number % 7, np.float32)
    if broken:
        values[0] = np.nan
    return Sample(f"s{number:02}", {"x": values}, label=label, metadata={"m": str(column)})


@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_parts_put_together_are_what_one_reading_finds(drawn, cuts, drop):
    samples = [sample_of(number, one) for number, one in enumerate(drawn)]
    edges = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    whole = Reading()
    for begin, end in itertools.pairwise(edges):
        part = read(samples[begin:end], "data")
        travelled = json.loads(json.dumps(part.to_json()))
        whole.extend(Reading.from_json(travelled), "data")
    assert outcome(lambda: whole.result("data", drop_not_finite=drop)) == outcome(
        lambda: scan(samples, "data", drop_not_finite=drop)
    )


def outcome(work):
    try:
        return work()
    except DataError as error:
        return str(error)


def test_a_part_of_other_inputs_is_refused_as_in_one_reading():
    one = [Sample("a", {"x": np.zeros(2, np.float32)}), Sample("b", {"x": np.zeros(2)})]
    with pytest.raises(DataError) as expected:
        scan(one, "data")
    whole = read(one[:1], "data")
    with pytest.raises(DataError) as got:
        whole.extend(read(one[1:], "data"), "data")
    assert str(got.value) == str(expected.value)


def test_what_a_split_holds_by_counts_of_numpy():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 50)
    labels = rng.integers(0, 3, 50)
    samples = [
        Sample(f"s{k}", {"x": np.arange(n) + k}, label=int(c))
        for k, (n, c) in enumerate(zip(lengths, labels, strict=True))
    ]
    found = scan(samples, "data")
    assert found.shapes == {"x": ((lengths.min(), int(np.median(lengths)), lengths.max()),)}
    assert found.label_changes == np.count_nonzero(np.diff(labels))
    assert found.label_counts == dict(enumerate(np.bincount(labels)))
