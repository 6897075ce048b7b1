"""Each loader on real files, and what it says of bad ones."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_loaders import DataError, DataSpec, data_set_from_spec

ROWS = [
    {"text": "red fish", "label": "fish", "source": "a"},
    {"text": "blue “fish” swims", "label": "fish", "source": "b"},
    {"text": "a dog", "label": "dog", "source": "a"},
]


def open_set(**spec):
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python(spec))


@pytest.fixture
def tokenizer(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "fish", "blue", "dog", "a"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


def text_set(tokenizer, rows, **more):
    return open_set(
        kind="text",
        rows=rows,
        tokenizer=tokenizer,
        label_column="label",
        classes=["dog", "fish"],
        slice_columns=["source"],
        **more,
    )


def write_rows(folder, suffix):
    path = folder / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    elif suffix == "json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        mark = "," if suffix == "csv" else "\t"
        lines = [mark.join(ROWS[0])] + [mark.join(row.values()) for row in ROWS]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_text_reads_the_same_samples_from_every_format(tmp_path, tokenizer, suffix):
    path = write_rows(tmp_path, suffix)
    samples = list(text_set(tokenizer, {"kind": "file", "path": path}))
    assert [s.id for s in samples] == ["row-000000", "row-000001", "row-000002"]
    assert samples[0].inputs["input_ids"].tolist() == [2, 4, 5, 3]
    assert [s.label for s in samples] == [1, 1, 0]
    assert samples[1].metadata == {"source": "b"}
    assert samples[1].preview.text == ROWS[1]["text"]


@pytest.mark.parametrize("streaming", [False, True])
def test_text_reads_a_hugging_face_data_set_from_a_local_file(tmp_path, tokenizer, streaming):
    path = write_rows(tmp_path, "parquet")
    rows = {
        "kind": "huggingface",
        "path": "parquet",
        "data_files": str(path),
        "streaming": streaming,
    }
    assert [s.label for s in text_set(tokenizer, rows)] == [1, 1, 0]


def test_skip_and_samples_take_a_part_with_stable_ids(tmp_path, tokenizer):
    rows = {"kind": "file", "path": write_rows(tmp_path, "csv")}
    assert [s.id for s in text_set(tokenizer, rows, skip=1, samples=1)] == ["row-000001"]


def test_long_text_is_cut_and_the_vocabulary_size_is_known(tmp_path, tokenizer):
    rows = {"kind": "file", "path": write_rows(tmp_path, "csv")}
    data = text_set(tokenizer, rows, max_length=3)
    assert {len(s.inputs["input_ids"]) for s in data} == {3}
    assert data.vocabulary_size == 9
    assert data.pad_values == {"input_ids": 0}


def test_a_missing_column_names_the_nearest(tmp_path, tokenizer):
    rows = {"kind": "file", "path": write_rows(tmp_path, "csv")}
    with pytest.raises(DataError, match="Did you mean 'text'"):
        list(text_set(tokenizer, rows, text_column="txt"))


def test_an_unknown_label_and_a_missing_tokenizer_are_refused(tmp_path, tokenizer):
    rows = {"kind": "file", "path": write_rows(tmp_path, "csv")}
    with pytest.raises(DataError, match="none of the classes"):
        list(
            open_set(
                kind="text", rows=rows, tokenizer=tokenizer, label_column="label", classes=["cat"]
            )
        )
    with pytest.raises(DataError, match="no tokenizer"):
        text_set(tmp_path / "none", rows)


def test_a_broken_json_line_is_named_by_its_number(tmp_path, tokenizer):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{oops\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        list(text_set(tokenizer, {"kind": "file", "path": path}))


def test_images_take_labels_from_folders_and_scale_as_asked(tmp_path):
    for name, value in (("cat", 255), ("dog", 0)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 10), (value, 0, 0)).save(tmp_path / name / "1.png")
    data = open_set(
        kind="images",
        path=tmp_path,
        input_name="x",
        height=4,
        width=8,
        channels="bgr",
        mean=[0.5],
        std=[0.5],
    )
    samples = list(data)
    assert data.class_names == ("cat", "dog")
    assert [s.label for s in samples] == [0, 1]
    assert samples[0].inputs["x"].shape == (3, 4, 8)
    assert samples[0].inputs["x"][:, 0, 0].tolist() == [-1, -1, 1]
    assert samples[0].preview.png.startswith(b"\x89PNG")


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        list(open_set(kind="images", path=tmp_path, input_name="x", height=4, width=4))


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Object arrays"):
        list(open_set(kind="arrays", path=tmp_path / "a.npz", inputs={"x": "x"}))


def test_arrays_come_from_npz_npy_folders_and_tables(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    y = np.array([0, 1, 0])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder/x.npy", x)
    np.save(tmp_path / "folder/y.npy", y)
    pq.write_table(pa.table({"x": list(x), "y": y}), tmp_path / "a.parquet")
    for name in ("a.npz", "folder", "a.parquet"):
        samples = list(open_set(kind="arrays", path=tmp_path / name, inputs={"x": "x"}, label="y"))
        assert [s.label for s in samples] == [0, 1, 0]
        assert np.stack([s.inputs["x"] for s in samples]).tolist() == x.tolist()


def test_several_columns_make_one_input(tmp_path):
    (tmp_path / "a.csv").write_text("u,v\n1,2\n3,4\n", encoding="utf-8")
    spec = {"kind": "arrays", "path": tmp_path / "a.csv"}
    samples = list(open_set(**spec, inputs={"x": ["u", "v"]}))
    assert samples[1].inputs["x"].tolist() == [3.0, 4.0]
    with pytest.raises(DataError, match="no column 'w'"):
        list(open_set(**spec, inputs={"x": "w"}))


def test_repeated_ids_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1), np.float32), name=np.array(["s", "s"]))
    with pytest.raises(DataError, match="same id"):
        list(open_set(kind="arrays", path=tmp_path / "a.npz", inputs={"x": "x"}, id="name"))


def test_a_python_entry_yields_samples_and_its_mistakes_are_named(tmp_path, monkeypatch):
    (tmp_path / "my_source.py").write_text(
        "def good(n):\n    return ({'inputs': {'x': [i]}, 'label': 'b'} for i in range(n))\n"
        "def bad():\n    return [3]\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    data = open_set(kind="python", entry="my_source:good", args={"n": 2}, classes=["a", "b"])
    assert [s.label for s in data] == [1, 1]
    assert [s.label for s in data] == [1, 1]
    with pytest.raises(DataError, match="sample 0"):
        list(open_set(kind="python", entry="my_source:bad"))
    with pytest.raises(DataError, match="no function 'none'"):
        open_set(kind="python", entry="my_source:none")
