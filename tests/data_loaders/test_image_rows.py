"""Pictures in rows: the same samples as of folders, for every kind of label."""

import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from data_loaders import DataError, DataSpec, data_set_from_spec

FRAME = {"input_name": "x", "height": 8, "width": 8, "resize": "fit_pad"}
COUNT = 6


def data(**spec):
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python({**FRAME, **spec}))


def picture(number, size=(12, 8), mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
    if mode == "L":
        pixels = pixels[..., 0] % 3
    stream = io.BytesIO()
    Image.fromarray(pixels, mode).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        path = tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "set"


def hugging_face(tmp_path, **columns):
    """A parquet file as the `datasets` package writes it: {bytes, path} and its features."""
    features = {"image": datasets.Image()}
    if "mask" in columns:
        features["mask"] = datasets.Image()
    made = {"image": [{"bytes": picture(n), "path": f"{n}.png"} for n in range(COUNT)], **columns}
    made = datasets.Dataset.from_dict(made)
    for name, feature in features.items():
        made = made.cast_column(name, feature)
    made.to_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def inputs(found):
    return [s.inputs["x"].tobytes() for s in sorted(found, key=lambda s: s.id)]


@pytest.mark.parametrize("form", ["struct", "binary", "streaming", "kept", "saved", "imagefolder"])
def test_a_classification_set_is_that_of_a_folder(tmp_path, folder, form, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    labels = [n % 2 for n in range(COUNT)]
    path = hugging_face(tmp_path, label=labels, id=[str(n) for n in range(COUNT)])
    rows = {"kind": "file", "path": str(path)}
    id_column = "id"
    if form == "binary":
        table = pq.read_table(path)
        plain = pa.array([row["bytes"] for row in table["image"].to_pylist()], pa.binary())
        pq.write_table(table.set_column(0, "image", plain), path)
    elif form in ("streaming", "kept"):
        rows = {"kind": "huggingface", "path": "parquet", "data_files": str(path)}
        rows["streaming"] = form == "streaming"
    elif form == "saved":
        datasets.Dataset.from_parquet(str(path)).save_to_disk(tmp_path / "saved")
        rows = {"kind": "huggingface", "path": str(tmp_path / "saved")}
    elif form == "imagefolder":
        rows = {"kind": "huggingface", "path": str(folder), "streaming": True}
        id_column = None
    found = list(data(kind="image_rows", rows=rows, label_column="label", id_column=id_column))
    wanted = list(data(kind="images", path=str(folder)))
    assert {s.inputs["x"].tobytes(): s.label for s in found} == {
        s.inputs["x"].tobytes(): s.label for s in wanted
    }
    assert (
        found[0].preview.png
        == next(s for s in wanted if s.digest() == found[0].digest()).preview.png
    )


def test_masks_in_a_column_are_those_of_files(tmp_path):
    masks = [{"bytes": picture(n, mode="L"), "path": None} for n in range(COUNT)]
    path = hugging_face(tmp_path, mask=masks)
    for kind, name in (("images", "image"), ("masks", "mask")):
        (tmp_path / kind).mkdir()
        for number, row in enumerate(pq.read_table(path)[name].to_pylist()):
            (tmp_path / kind / f"{number}.png").write_bytes(row["bytes"])
    values = {"values": {0: 1, 1: 0, 2: 255}, "classes": ["a", "b"]}
    rows = {"kind": "file", "path": str(path)}
    found = data(kind="image_rows", rows=rows, mask_column="mask", **values)
    folders = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    for one, two in zip(found, data(kind="masks", **folders, **values), strict=True):
        np.testing.assert_array_equal(one.label, two.label)
        np.testing.assert_array_equal(one.inputs["x"], two.inputs["x"])
        assert one.frame == two.frame


@pytest.mark.parametrize("form", ["lists", "objects"])
@pytest.mark.parametrize(
    ("box_format", "box"),
    [("xywh", [3, 2, 6, 4]), ("xyxy", [3, 2, 9, 6]), ("yolo", [0.5, 0.5, 0.5, 0.5])],
)
def test_objects_in_a_column_are_boxes(tmp_path, form, box_format, box):
    objects = {"bbox": [box, box], "category": [1, 0], "area": [24.0, 20.0]}
    if form == "objects":
        names = list(objects)
        objects = [
            dict(zip(names, values, strict=True)) for values in zip(*objects.values(), strict=True)
        ]
    path = hugging_face(tmp_path, objects=[objects] * COUNT)
    rows = {"kind": "file", "path": str(path)}
    spec = {"kind": "image_rows", "rows": rows, "objects_column": "objects"}
    sample = next(iter(data(**spec, box_format=box_format)))
    np.testing.assert_allclose(sample.label.boxes, [[3, 2, 9, 6]] * 2)
    assert sample.label.classes.tolist() == [1, 0]
    assert sample.label.areas.tolist() == [24, 20]
    assert sample.metadata == {"objects": "2-5"}


def test_texts_of_lines_are_labels(tmp_path):
    path = hugging_face(tmp_path, text=[f"line {n}" for n in range(COUNT)])
    rows = {"kind": "file", "path": str(path)}
    found = list(data(kind="image_rows", rows=rows, text_column="text"))
    assert [s.label for s in found] == [f"line {n}" for n in range(COUNT)]
    assert found[2].preview.text == "line 2"


def test_a_row_names_no_picture_of_this_machine(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "private.png").write_bytes(picture(1))
    (tmp_path / "rows" / "own.png").write_bytes(picture(2))
    table = {
        "image": [{"bytes": None, "path": "own.png"}, {"bytes": None, "path": "../private.png"}]
    }
    pq.write_table(pa.table(table), tmp_path / "rows" / "a.parquet")
    rows = {"kind": "file", "path": str(tmp_path / "rows" / "a.parquet")}
    found = iter(data(kind="image_rows", rows=rows))
    assert next(found).id == "row-000000"
    with pytest.raises(DataError, match=r"private.png: is a link that leads out"):
        next(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"no picture", r"a.parquet, row 0, image: is no image, or a damaged one"),
        (None, r"a.parquet, row 0, image: holds no picture \(got NoneType"),
        (5, r"a.parquet, row 0, image: holds no picture \(got int"),
    ],
)
def test_what_is_no_picture_is_told_with_file_and_row(tmp_path, value, message):
    pq.write_table(pa.table({"image": [value]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        list(data(kind="image_rows", rows={"kind": "file", "path": str(tmp_path / "a.parquet")}))


def test_one_label_is_enough(tmp_path):
    with pytest.raises(ValidationError, match="give one of"):
        data(
            kind="image_rows",
            rows={"kind": "file", "path": "a.parquet"},
            label_column="a",
            mask_column="b",
        )


def test_folders_behind_a_url_give_the_samples_of_folders_here(folder, server):
    server.folder = folder.parent
    here = list(data(kind="images", path=str(folder)))
    there = data(kind="images", path=f"{server.url}/set")
    assert there.class_names == ("cat", "dog")
    assert [(s.id, s.label, s.digest()) for s in there] == [
        (s.id, s.label, s.digest()) for s in here
    ]
    (folder / "cat" / "6.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"http://.*/set/cat/6.png: is no image"):
        list(data(kind="images", path=f"{server.url}/set"))


def test_what_belongs_to_pictures_may_lie_behind_a_url_too(tmp_path, server):
    for kind in ("pictures", "masks", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(3):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(picture(number))
        (tmp_path / "masks" / f"{number}.png").write_bytes(picture(number, mode="L"))
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "table.tsv").write_text("file\ttext\n0.png\ta\n2.png\tb\n")
    records = [{"id": n, "file_name": f"{n}.png"} for n in range(3)]
    boxes = [{"image_id": 1, "category_id": 7, "bbox": [3, 2, 6, 4]}]
    content = {"images": records, "annotations": boxes, "categories": [{"id": 7, "name": "a"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))

    def sets(root):
        pictures = {"images": f"{root}/pictures"}
        yield data(kind="masks", masks=f"{root}/masks", **pictures)
        yield data(kind="yolo", labels=f"{root}/labels", classes=["a"], **pictures)
        yield data(kind="coco", annotations=f"{root}/coco.json", **pictures)
        yield data(kind="text_images", table=f"{root}/table.tsv", **pictures)

    for here, there in zip(sets(tmp_path), sets(server.url), strict=True):
        assert [s.id for s in there] == [s.id for s in here]
        for one, two in zip(here, there, strict=True):
            assert one.digest() == two.digest()
            assert repr(one.label) == repr(two.label)
        assert [s.id for s in there.part(1, 2)] == [s.id for s in here][1:2]
    for name, message in (
        ("9.png", r"/pictures/9.png: there is no such file"),
        ("../coco.json", "leads out of the folder"),
    ):
        (tmp_path / "table.tsv").write_text(f"file\ttext\n{name}\ta\n")
        lines = list(sets(server.url))[3]
        with pytest.raises(DataError, match=message):
            list(lines)
