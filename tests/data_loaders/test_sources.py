"""Files, folders, patterns and URLs: one content, wherever it lies and however it is cut."""

import contextlib
import gzip
import json

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from data_loaders import DataError, DataSpec, data_set_from_spec, scan, storage, text_files
from data_loaders.files import expanded
from data_loaders.rows import FileRowsSpec, rows_from_spec

ROWS, WIDTH = 600, 8


def arrays(path, **more):
    content = {"kind": "arrays", "path": path, "inputs": {"x": "x"}, "id": "id", **more}
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python(content))


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return pa.table(
        {
            "id": [f"s{i}" for i in range(ROWS)],
            "x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), WIDTH),
            "payload": [rng.bytes(2000) for _ in range(ROWS)],
        }
    )


@pytest.fixture
def parts(tmp_path, table):
    """The table in one file, and in three of a folder, cut elsewhere and in another order."""
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=100)
    for number, (begin, end) in enumerate([(400, 600), (0, 150), (150, 400)]):
        folder = tmp_path / "many" / f"day={number}"
        folder.mkdir(parents=True)
        pq.write_table(table.slice(begin, end - begin), folder / "part.parquet", row_group_size=50)
    (tmp_path / "many" / "_SUCCESS").touch()
    return tmp_path


def test_order_of_files_and_rows_does_not_change_the_digest(parts):
    one, many = (scan(arrays(parts / name), "data") for name in ("one.parquet", "many"))
    assert one.sha256 == many.sha256
    assert list(one.ids.values()) != list(many.ids.values())


@pytest.mark.parametrize("form", ["many", "many/*/*.parquet", "many/day={0..2}/part.parquet"])
@pytest.mark.parametrize("where", ["local", "file", "http", "memory"])
def test_folder_pattern_and_braces_give_the_same_samples_everywhere(parts, server, where, form):
    if where == "memory":
        system = fsspec.filesystem("memory")
        for path in parts.glob("many/*/*.parquet"):
            system.pipe(f"/{parts.name}/{path.relative_to(parts)}", path.read_bytes())
    roots = {
        "local": str(parts),
        "file": f"file://{parts}",
        "http": server.url,
        "memory": f"memory://{parts.name}",
    }
    found = list(arrays(f"{roots[where]}/{form}", slices=["day"]))
    wanted = list(arrays(parts / "many", slices=["day"]))
    assert [s.id for s in found] == [s.id for s in wanted]
    assert [s.metadata["day"] for s in found] == ["0"] * 200 + ["1"] * 150 + ["2"] * 250
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.inputs["x"], two.inputs["x"])


def test_what_is_not_wanted_is_not_fetched(parts, server):
    whole = (parts / "one.parquet").stat().st_size
    url = f"{server.url}/one.parquet"
    assert len(list(arrays(url))) == ROWS
    assert server.sent() < whole / 2  # the payload is most of it, and no input
    server.asked.clear()
    few = list(arrays(url, skip=330, samples=10))
    assert [s.id for s in few] == [f"s{i}" for i in range(330, 340)]
    one_group = server.sent()
    server.asked.clear()
    payload = {"path": url, "inputs": {"x": "x"}, "slices": ("payload",)}
    list(arrays(**payload, skip=330, samples=10))
    assert one_group < 2 * 2**16 + 2**15
    assert server.sent() < whole / 3  # one row group of six


def test_a_part_of_the_samples_is_that_of_a_whole_reading(parts):
    data = arrays(parts / "many")
    whole = [s.id for s in data]
    assert [s.id for s in data.part(140, 420)] == whole[140:420]
    assert [s.id for s in arrays(parts / "many", skip=100).part(0, 7)] == whole[100:107]
    assert list(data.part(600, 700)) == []


def test_rows_of_many_files_are_named_by_file_and_number(parts):
    spec = {"kind": "arrays", "path": str(parts / "many"), "inputs": {"x": "x"}}
    data = data_set_from_spec(TypeAdapter(DataSpec).validate_python(spec))
    ids = [s.id for s in data]
    assert ids[0] == "day=0/part.parquet/row-000000"
    assert ids[200 + 60] == "day=1/part.parquet/row-000060"
    with pytest.raises(DataError, match=r"day=0/part.parquet, row 0: has no column 'y'"):
        list(arrays(parts / "many", inputs={"x": "y"}))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([[1.5, 2.5], [3.5, 4.5]]), [3.5, 4.5]),
        (pa.array([[1, 2], [3, 4]], pa.large_list(pa.int16())), [3, 4]),
        (pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), [[5, 6], [7, 8]]),
        (pa.array([[[1, 2]], [[5, 6]]], pa.list_(pa.list_(pa.int32(), 2), 1)), [[5, 6]]),
        (
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(2, 3, 2)),
            [[6, 7], [8, 9], [10, 11]],
        ),
    ],
    ids=["list", "large list", "nested", "fixed", "tensor"],
)
def test_columns_of_arrays_keep_their_shape(tmp_path, column, value):
    pq.write_table(pa.table({"id": ["a", "b"], "x": column}), tmp_path / "a.parquet")
    sample = list(arrays(tmp_path / "a.parquet"))[1]
    np.testing.assert_array_equal(sample.inputs["x"], np.array(value, np.float32))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "ndjson", "csv", "csv.bz2"])
@pytest.mark.parametrize("ranges", [True, False])
def test_texts_are_streamed_compressed_or_not_with_and_without_ranges(
    tmp_path, server, suffix, ranges
):
    lines = "".join(f'{{"a": "ä{i}"}}\n' for i in range(5000))
    if suffix.startswith("csv"):
        lines = "a\n" + "".join(f"ä{i}\n" for i in range(5000))
    kind = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}.get(suffix.split(".")[-1])
    path = tmp_path / f"rows.{suffix}"
    with pa.output_stream(str(path), compression=kind) as out:
        out.write(lines.encode())
    server.ranges = ranges
    rows = list(rows_from_spec(FileRowsSpec(path=f"{server.url}/{path.name}")))
    assert rows == list(rows_from_spec(FileRowsSpec(path=path)))
    assert rows[4999] == {"a": "ä4999"}


def test_a_torn_archive_is_told_with_its_name(tmp_path):
    content = gzip.compress(json.dumps({"a": 1}).encode() * 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a.jsonl.gz.*cannot be read"):
        list(rows_from_spec(FileRowsSpec(path=tmp_path / "a.jsonl.gz")))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_taken_up_where_it_ended(tmp_path, server, monkeypatch, ranges):
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0, 0.0))
    lines = "".join(f'{{"a": {i}}}\n' for i in range(30_000))
    (tmp_path / "rows.jsonl").write_text(lines)
    server.ranges, server.cut = ranges, 2
    rows = rows_from_spec(FileRowsSpec(path=f"{server.url}/rows.jsonl"))
    assert [row["a"] for row in rows] == list(range(30_000))


def test_a_connection_that_stays_broken_is_one_message(parts, server, monkeypatch):
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0, 0.0))
    server.cut = 10**6
    with pytest.raises(DataError, match=r"one.parquet: the connection failed 4 times at byte"):
        list(arrays(f"{server.url}/one.parquet"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "there is no such file"),
        (403, "access is refused: HTTP 403. Give credentials outside of the config"),
        (401, "access is refused: HTTP 401"),
        (503, "the connection failed 4 times: HTTP 503"),
    ],
)
@pytest.mark.parametrize("name", ["one.parquet", "one.jsonl"])
def test_what_a_server_refuses_is_told(server, monkeypatch, status, message, name):
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0, 0.0))
    server.status = status
    with pytest.raises(DataError, match=f"{name}: {message}"):
        list(arrays(f"{server.url}/{name}"))


def test_parquet_wants_ranges(parts, server):
    server.ranges = False
    with pytest.raises(DataError, match="serve it with ranges"):
        list(arrays(f"{server.url}/one.parquet"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/a.parquet", "needs the package gcsfs. Install it with: pip install gcsfs"),
        ("nonsense://a.parquet", "cannot be opened.*a URL of abfs"),
        ("pipe:cat a.parquet", "is a command, and none is run"),
        ("no/where/*.parquet", "no file is found there"),
        ("no/where.parquet", "there is no such file"),
    ],
)
def test_what_cannot_be_opened_is_told(url, message):
    with pytest.raises(DataError, match=message):
        list(arrays(url))


@pytest.mark.parametrize(
    "bad",
    [
        {"storage": {"key": "AKIAXXX"}},
        {"storage": {"secret": "AKIAXXX"}},
        {"storage": {"client_kwargs": {"aws_secret_access_key": "AKIAXXX"}}},
        {"storage": {"headers": {"x": "AKIAXXX"}}},
        {"storage": {"connection_string": "AKIAXXX"}},
        {"storage": {"sas_token": "AKIAXXX"}},
        {"storage": {"endpoint_url": "https://me:AKIAXXX@host"}},
        {"path": "https://me:AKIAXXX@host/a.parquet"},
        {"path": "https://host/a.parquet?X-Amz-Signature=AKIAXXX"},
        {"path": "https://host/a.parquet?sv=1&sig=AKIAXXX"},
        {"path": "https://host/a.parquet?token=AKIAXXX"},
    ],
    ids=lambda bad: json.dumps(bad).replace("AKIAXXX", "…"),
)
def test_a_secret_in_the_config_is_refused_and_not_shown(bad):
    with pytest.raises(ValidationError) as caught:
        FileRowsSpec(**{"path": "s3://b/a.parquet", **bad})
    (error,) = caught.value.errors()
    assert "which a run would keep with its results" in error["msg"]
    assert "AKIAXXX" not in error["msg"]
    assert isinstance(error["input"], dict)  # of which messages show nothing


def test_options_that_are_no_secrets_are_given_to_the_file_system(tmp_path):
    system = fsspec.filesystem("memory")
    system.pipe("/o/a.jsonl", b'{"a": 1}\n')
    spec = FileRowsSpec(path="memory://o/a.jsonl", storage={"skip_instance_cache": True})
    assert list(rows_from_spec(spec)) == [{"a": 1}]
    for fine in ({"anon": True}, {"token": "anon"}, {"endpoint_url": "https://host"}):
        FileRowsSpec(path="s3://b/a.parquet", storage=fine)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{2..1}{x,y}", ["2x", "2y", "1x", "1y"]),
        ("plain", ["plain"]),
        ("a{}b", ["ab"]),
    ],
)
def test_braces_stand_for_what_a_shell_writes(pattern, names):
    assert list(expanded(pattern)) == names


def test_text_behind_a_link_out_of_a_folder_is_refused(tmp_path):
    (tmp_path / "private.txt").write_text("secret")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(DataError, match="is a link that leads out of the folder"):
        list(rows_from_spec(FileRowsSpec(path=tmp_path / "set")))


@pytest.mark.parametrize(
    ("root", "form"),
    [
        ("local", "many/*"),
        ("local", "many/**"),
        ("local", "many/**/*.parquet"),
        ("local", "many/day={0,1,2}"),
        ("memory", "many/**/*.parquet"),
        ("memory", "many/day={0,1,2}"),
    ],
)
def test_a_pattern_may_stand_for_folders_and_finds_each_file_once(parts, root, form):
    if root == "memory":
        system = fsspec.filesystem("memory")
        for path in parts.glob("many/*/*.parquet"):
            system.pipe(f"/{parts.name}/{path.relative_to(parts)}", path.read_bytes())
    base = str(parts) if root == "local" else f"memory://{parts.name}"
    ids = [s.id for s in data_set_from_spec(_without_ids(f"{base}/{form}"))]
    assert len(ids) == ROWS
    assert ids[0] == "day=0/part.parquet/row-000000"
    assert ids[-1] == "day=2/part.parquet/row-000249"


def _without_ids(path):
    content = {"kind": "arrays", "path": path, "inputs": {"x": "x"}}
    return TypeAdapter(DataSpec).validate_python(content)


def test_a_copy_that_fsspec_keeps_is_fetched_once(parts, server, tmp_path):
    options = {"filecache": {"cache_storage": str(tmp_path / "cache")}}
    url = f"filecache::{server.url}/one.parquet"
    first = [s.digest() for s in arrays(url, storage=options)]
    assert first == [s.digest() for s in arrays(parts / "one.parquet")]
    server.asked.clear()
    assert [s.digest() for s in arrays(url, storage=options)] == first
    assert server.sent() == 0


@pytest.mark.parametrize("suffix", ["jsonl", "txt", "csv"])
def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text_files, "_LINE_CHARACTERS_MAX", 1000)
    with gzip.open(tmp_path / f"a.{suffix}.gz", "wt") as file:
        file.write("0" * 1001)
    with pytest.raises(DataError, match=rf"a.{suffix}.gz: .*a line has over 1,000 characters"):
        list(rows_from_spec(FileRowsSpec(path=tmp_path / f"a.{suffix}.gz")))


@pytest.mark.parametrize("seed", range(12))
def test_damaged_parquet_is_one_message(tmp_path, table, seed):
    rng = np.random.default_rng(seed)
    pq.write_table(table.slice(0, 60), tmp_path / "a.parquet", row_group_size=20)
    content = np.frombuffer((tmp_path / "a.parquet").read_bytes(), np.uint8).copy()
    near_the_end = len(content) - 1 - rng.integers(0, 4000, 6)
    content[near_the_end] ^= rng.integers(1, 255, 6).astype(np.uint8)
    (tmp_path / "a.parquet").write_bytes(content.tobytes())
    with contextlib.suppress(DataError):  # a byte that nobody reads may have changed
        list(arrays(tmp_path / "a.parquet"))


def test_a_row_of_nothing_but_its_folders_is_read(parts):
    spec = {"kind": "arrays", "path": str(parts / "many"), "inputs": {"x": "day"}}
    data = data_set_from_spec(TypeAdapter(DataSpec).validate_python(spec))
    assert [float(s.inputs["x"]) for s in data] == [0.0] * 200 + [1.0] * 150 + [2.0] * 250
