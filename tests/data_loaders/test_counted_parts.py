"""What one reading found out spares the next one: files that are counted are skipped."""

import json

import pytest
from pydantic import TypeAdapter

from data_loaders import DataError, DataSpec, data_set_from_spec


def data(path, **more):
    rows = {"kind": "file", "path": path}
    content = {"kind": "columns", "rows": rows, "inputs": {"x": "a"}, **more}
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python(content))


@pytest.fixture
def files(tmp_path):
    for number in range(4):
        lines = "".join(json.dumps({"a": 10 * number + i}) + "\n" for i in range(10))
        (tmp_path / f"{number}.jsonl").write_text(lines)
    return tmp_path


def test_files_that_were_counted_are_not_opened_again(files, server):
    first = data(f"{server.url}/{{0..3}}.jsonl")
    whole = [(s.id, float(s.inputs["x"])) for s in first]
    second = data(f"{server.url}/{{0..3}}.jsonl")
    second.recall(json.loads(json.dumps(first.known())))
    server.asked.clear()
    found = [(s.id, float(s.inputs["x"])) for s in second.part(22, 28)]
    assert found == whole[22:28]
    assert {path for _, path, _ in server.asked} == {"/2.jsonl"}


def test_a_subset_that_was_drawn_is_not_drawn_again(files, server):
    first = data(f"{server.url}/{{0..3}}.jsonl", subset={"count": 2, "seed": 4})
    drawn = [s.id for s in first]
    second = data(f"{server.url}/{{0..3}}.jsonl", subset={"count": 2, "seed": 4})
    second.recall(json.loads(json.dumps(first.known())))
    server.asked.clear()
    assert [s.id for s in second] == drawn
    assert len({path for _, path, _ in server.asked}) <= 2


def test_a_file_that_lost_rows_is_told(files):
    first = data(str(files))
    list(first)
    (files / "1.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"1.jsonl: has changed since it was read first"):
        list(first)
