"""Statistics in parts: shards merge to the bytes of one process, whatever the split."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.calibrators import (
    EntropySpec,
    MinMaxSpec,
    PartedAccumulator,
    PercentileSpec,
    convergence,
    statistics_from_array,
)
from calib.calibrators.not_finite import NotFinite
from calib.calibrators.parts import PARTS_MAX, TensorParts, part_size
from calib.calibrators.statistics_file import (
    StatisticsFile,
    load_statistics,
    merge_files,
    refuse_stale,
    save_statistics,
)
from calib.errors import StoreError


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=rng.integers(0, 40)) * 10 ** rng.uniform(-2, 2)).astype(np.float32)
        for _ in range(count)
    ]


def counted(numbered):
    counter = PartedAccumulator("x")
    for number, batch in numbered:
        counter.add(number, batch)
    return counter.freeze()


def as_bytes(parts, folder, name="one.npz", shards=((1,), 1)):
    content = StatisticsFile({"x": parts}, {"model": "m"}, shards, 1, 1)
    save_statistics(folder / name, content)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 40])
def test_each_part_holds_its_batches(count):
    data = batches(count)
    found = counted(enumerate(data))
    assert found.size == part_size(count)
    assert len(found.parts) == -(-count // found.size) <= PARTS_MAX
    for number, part in enumerate(found.parts):
        own = np.concatenate(data[number * found.size : (number + 1) * found.size])
        expected = statistics_from_array("x", own)
        assert (part.count, part.minimum, part.maximum) == (
            expected.count,
            expected.minimum,
            expected.maximum,
        )
        assert (part.counts == expected.counts).all()
        assert part.exponent == expected.exponent


@given(st.integers(1, 40), st.integers(1, 5), st.randoms())
@settings(deadline=None, max_examples=60)
def test_shards_merge_to_the_bytes_of_one_process(tmp_path_factory, count, shards, random):
    folder = tmp_path_factory.mktemp("shards")
    data = list(enumerate(batches(count)))
    parts = [counted(data[k::shards]) for k in range(shards)]
    random.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged)
    assert as_bytes(merged, folder) == as_bytes(counted(data), folder)


def test_parts_without_values_do_not_change_the_whole():
    found = counted([(0, np.zeros(0, np.float32)), (3, np.array([1, -2], np.float32))])
    assert found.whole().amax == 2
    assert found.whole().count == 2


def test_folded_counts_are_those_of_a_histogram_with_wider_bars():
    x = np.random.default_rng(3).normal(size=10_000).astype(np.float32)
    found = statistics_from_array("x", x)
    expected, _ = np.histogram(np.abs(x), bins=128, range=(0, found.end))
    assert found.folded(128) == tuple(expected)
    assert found.end / 2 <= np.abs(x).max() < found.end


def test_the_standard_error_is_that_of_the_spread_between_samples():
    """The jackknife against the truth: the same threshold from 60 independent data sets."""
    rng = np.random.default_rng(3)
    spec = PercentileSpec(percentile=99)
    thresholds, errors = [], []
    for _ in range(60):
        found = counted((k, rng.normal(size=500).astype(np.float32)) for k in range(8))
        thresholds.append(spec.amax(found.whole()))
        errors.append(convergence(found, spec).standard_error_pct)
    truth = 100 * np.std(thresholds, ddof=1) / np.mean(thresholds)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(truth, rel=0.35)


def test_growth_ends_with_the_threshold_and_minmax_only_grows():
    found = counted(enumerate(batches(30)))
    grown = convergence(found, MinMaxSpec())
    assert grown.growth[-1] == found.whole().amax
    assert list(grown.growth) == sorted(grown.growth)
    assert convergence(found, EntropySpec()).growth[-1] == EntropySpec().amax(found.whole())


def test_a_settled_threshold_has_seen_enough_and_one_that_jumps_late_has_not():
    rng = np.random.default_rng(0)
    data = [rng.uniform(-1, 1, size=5000).astype(np.float32) for _ in range(8)]
    settled = convergence(counted(enumerate(data)), MinMaxSpec())
    assert settled.enough(5.0) is True
    data[7] = data[7] * 3
    assert convergence(counted(enumerate(data)), MinMaxSpec()).enough(5.0) is False


def test_too_few_parts_are_no_evidence():
    found = convergence(counted(enumerate(batches(3))), MinMaxSpec())
    assert found.standard_error_pct is None
    assert found.enough(5.0) is None


def test_statistics_survive_the_file(tmp_path):
    parts = {name: counted(enumerate(batches(9, seed))) for seed, name in enumerate(("b:0", "ä"))}
    parts = {name: p.renamed(name) for name, p in parts.items()}
    content = StatisticsFile(parts, {"model": "abc"}, ((2, 3), 4), 9, 70)
    save_statistics(tmp_path / "s.npz", content)
    loaded = load_statistics(tmp_path / "s.npz")
    assert (loaded.made_from, loaded.shards, loaded.batches, loaded.samples, loaded.is_whole) == (
        {"model": "abc"},
        ((2, 3), 4),
        9,
        70,
        False,
    )
    for name, expected in parts.items():
        assert as_bytes(loaded.parts[name].renamed("x"), tmp_path) == as_bytes(
            expected.renamed("x"), tmp_path
        )


def shard_file(folder, number, of, made_from=None, count=12):
    data = list(enumerate(batches(count)))
    path = folder / f"{number}.npz"
    parts = {"x": counted(data[number - 1 :: of])}
    own = len(data[number - 1 :: of])
    made = made_from or {"model": "m", "data": "d"}
    save_statistics(path, StatisticsFile(parts, made, ((number,), of), own, own))
    return path


def test_merged_files_are_the_file_of_one_process(tmp_path):
    paths = [shard_file(tmp_path, number, 3) for number in (3, 1, 2)]
    merged = merge_files(paths)
    assert merged.is_whole
    save_statistics(tmp_path / "merged.npz", merged)
    alone = shard_file(tmp_path, 1, 1)
    assert (tmp_path / "merged.npz").read_bytes() == alone.read_bytes()


def test_a_shard_given_twice_or_made_from_something_else_is_refused(tmp_path):
    one = shard_file(tmp_path, 1, 2)
    with pytest.raises(StoreError, match=r"got shards \[1\] of 2; expected others than \[1\]"):
        merge_files([one, one])
    other = shard_file(tmp_path, 2, 2, made_from={"model": "m", "data": "other"})
    with pytest.raises(StoreError, match=r'another data .got data "other"; expected data "d"'):
        merge_files([one, other])


def test_stale_statistics_say_what_changed(tmp_path):
    refuse_stale(tmp_path, {"model": "a", "more": 1}, {"model": "a"})
    with pytest.raises(StoreError, match="is stale: it was made from another model, another batch"):
        refuse_stale(
            tmp_path, {"model": "a", "batch_size": 4}, {"model": "b", "batch_size": 8, "data": None}
        )


@pytest.mark.parametrize("content", [b"", b"PK garbage", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "statistics.npz"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="no calibration statistics"):
        load_statistics(path)


def test_a_cut_or_older_file_is_refused(tmp_path):
    path = shard_file(tmp_path, 1, 1)
    whole = path.read_bytes()
    for size in (len(whole) // 3, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="no calibration statistics"):
            load_statistics(path)
    np.savez(path, header=np.array('{"format": 1}'))
    with pytest.raises(StoreError, match="format 1, expected 3"):
        load_statistics(path)
    with pytest.raises(StoreError):
        load_statistics(tmp_path / "none.npz")


def test_what_is_not_finite_is_kept_by_shard_and_merges_to_the_bytes_of_one_process(tmp_path):
    data = [batch.reshape(-1, 1) for batch in batches(20)]
    for number in (3, 4, 17):
        data[number] = np.array([[1.0], [np.nan], [-np.inf]], dtype=np.float32)

    def counted_in(shard, of, name):
        counter = PartedAccumulator("x")
        for number, batch in enumerate(data):
            if number % of == shard - 1:
                ids = [f"{number}.{row}" for row in range(len(batch))]
                counter.add(number, batch, ids=ids)
        return as_bytes(counter.freeze(), tmp_path, name, ((shard,), of))

    whole = counted_in(1, 1, "whole.npz")
    for shard in (1, 2, 3):
        counted_in(shard, 3, f"{shard}.npz")
    for order in ((1, 2, 3), (3, 1, 2)):
        merged = merge_files([tmp_path / f"{shard}.npz" for shard in order])
        assert as_bytes(merged.parts["x"], tmp_path, "merged.npz") == whole
    found = load_statistics(tmp_path / "whole.npz").parts["x"].whole()
    assert found.not_finite == NotFinite(3, 0, 3, 6, ("17.1", "17.2", "3.1"))
    assert found.count == sum(len(batch) for batch in data) - 6


def test_a_file_of_format_2_holds_nothing_that_is_not_finite(tmp_path):
    path = shard_file(tmp_path, 1, 1)
    now = load_statistics(path)
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    header = json.loads(str(columns.pop("header")))
    del header["not_finite"]
    np.savez(path, header=np.array(json.dumps({**header, "format": 2})), **columns)
    then = load_statistics(path)
    assert then.parts["x"].whole().not_finite == NotFinite()
    assert as_bytes(then.parts["x"], tmp_path) == as_bytes(now.parts["x"], tmp_path)


def test_no_pickle_is_ever_read(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, header=np.array([{"format": 2}], dtype=object))
    with pytest.raises(StoreError, match="no calibration statistics"):
        load_statistics(path)


def test_parts_of_different_tensors_are_not_merged():
    one = counted([(0, np.ones(3, np.float32))])
    with pytest.raises(ValueError, match="cannot merge"):
        one.merge(TensorParts(1, (statistics_from_array("y", np.ones(2)),)))
