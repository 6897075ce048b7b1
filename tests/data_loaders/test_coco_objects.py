"""COCO's annotations read record by record: as json.load would, in a small part of its memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data_loaders import DataError
from data_loaders import json_lists as module
from data_loaders.coco_objects import CocoObjects
from data_loaders.json_lists import read_lists


def content(seed=0, pictures=30, objects=400):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:pictures].tolist()
    return {
        "info": {"year": 2017, "note": 'quo"te \\ [{'},
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 9} for k in ids],
        "annotations": [
            {
                "id": k,
                # Some of a picture that is not in the list.
                "image_id": int(rng.choice([*ids, 5000])),
                "category_id": int(rng.choice([3, 7, 90])),
                "segmentation": [rng.uniform(0, 500, 12).round(2).tolist()],
                "bbox": rng.uniform(1, 500, 4).round(2).tolist(),
                "iscrowd": int(rng.random() < 0.2),
                **({"area": float(k)} if k % 3 else {}),
            }
            for k in range(objects)
        ],
        "version": 12.5,
        "categories": [{"id": k, "name": f"kind {k}"} for k in (90, 3, 7)],
    }


def plain(data, picture):
    """The same by json and loops."""
    kinds = sorted(c["id"] for c in data["categories"])
    own = [a for a in data["annotations"] if a["image_id"] == picture]
    return (
        [a["bbox"] for a in own],
        [kinds.index(a["category_id"]) for a in own],
        [bool(a["iscrowd"]) for a in own],
        [a.get("area", a["bbox"][2] * a["bbox"][3]) for a in own],
    )


def written(tmp_path, data, **how):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data, **how), encoding="utf-8")
    return path


@pytest.mark.parametrize("chunk", [7, 1000, 1 << 20])
@pytest.mark.parametrize("order", ["images first", "images last"])
def test_it_reads_what_json_reads_whatever_the_order_and_the_window(
    tmp_path, monkeypatch, order, chunk
):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    data = content(objects=400 if chunk > 7 else 40)
    if order == "images last":
        data["images"] = data.pop("images")
    found = CocoObjects(written(tmp_path, data, indent=chunk % 3 or None))
    assert list(found.names) == sorted(i["id"] for i in data["images"])
    assert found.names == {i["id"]: i["file_name"] for i in data["images"]}
    assert found.class_names == ("kind 3", "kind 7", "kind 90")
    for picture in found.names:
        for ours, theirs in zip(found.objects(picture), plain(data, picture), strict=True):
            assert ours.tolist() == theirs


def test_only_the_objects_of_the_pictures_that_are_asked_for_are_kept(tmp_path):
    data = content()
    found = CocoObjects(written(tmp_path, data), skip=4, samples=6)
    assert list(found.names) == sorted(i["id"] for i in data["images"])[4:10]
    kept = sum(a["image_id"] in found.names for a in data["annotations"])
    assert len(found._kinds) == kept < len(data["annotations"])
    for picture in found.names:
        assert found.objects(picture)[0].tolist() == plain(data, picture)[0]


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        (
            '{"images": [{"id": 1},\n {"id": 2 "x": 3}]}',
            "Expecting ',' delimiter",
            "line 2 column 11",
        ),
        ('{"images": [{"id": 1} {"id": 2}]}', "Expecting ',' delimiter", "column 23"),
        ('{"images": [{"id": 1}', "Expecting ',' delimiter", "column 22"),
        ('{"images": [{"id": 1}]} x', "Extra data", "column 25"),
        ('{"images": [{"id": nul}]}', "Expecting value", "column 20"),
        ('{"images"; []}', "Expecting ':' delimiter", "column 10"),
        ("{3: []}", "property name", "column 3"),
        ('{"images": [{"id": "open}]}', "Unterminated string", "column 20"),
    ],
)
@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_malformed_json_is_told_with_its_place(tmp_path, monkeypatch, text, problem, place, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_lists(path, {"images": lambda _: None}, "images")
    assert problem in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "holds no object"),
        ({"images": [], "annotations": []}, "no list of categories"),
        ({"images": [{"id": [1]}], "annotations": [], "categories": []}, "no list of images"),
        ({"images": [{"id": 1}, {"id": "a"}], "annotations": [], "categories": []}, "order"),
        (
            {"images": [], "annotations": [{"image_id": 1, "category_id": 1}], "categories": []},
            "KeyError: 'bbox'",
        ),
    ],
)
def test_a_file_that_is_none_of_cocos_is_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        CocoObjects(written(tmp_path, data))


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b'{"images": ["\xff"]}')
    with pytest.raises(DataError, match="cannot be read as JSON"):
        CocoObjects(tmp_path / "bytes.json")
    with pytest.raises(DataError, match="no such file"):
        CocoObjects(tmp_path / "nowhere.json")
    (tmp_path / "deep.json").write_text('{"images": ' + "[" * 100_000)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        CocoObjects(tmp_path / "deep.json")


MEASURE = """
import json, sys
from pathlib import Path
from data_loaders.coco_objects import CocoObjects
def peak():
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith("VmHWM"))
before = peak()
if sys.argv[1] == "plain":
    with open(sys.argv[2]) as file:
        kept = json.load(file)
else:
    kept = CocoObjects(Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_large_file_takes_a_small_part_of_what_reading_it_whole_takes(tmp_path):
    outline = ", ".join(f"{k * 1.37:.2f}" for k in range(100))
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"annotations": [')
        file.write(
            ",".join(
                f'{{"id": {k}, "image_id": {k % 9000}, "category_id": {k % 80}, "iscrowd": 0, '
                f'"area": {k}.5, "bbox": [1.5, 2.5, 30.25, {k % 99}], '
                f'"segmentation": [[{outline}]]}}'
                for k in range(72_000)
            )
        )
        images = ",".join(f'{{"id": {k}, "file_name": "{k:012}.jpg"}}' for k in range(9000))
        kinds = ",".join(f'{{"id": {k}, "name": "kind {k}"}}' for k in range(80))
        file.write(f'], "images": [{images}], "categories": [{kinds}]}}')
    assert path.stat().st_size > 60e6
    whole, own = (
        int(
            subprocess.run(
                [sys.executable, "-c", MEASURE, how, str(path)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for how in ("plain", "stream")
    )
    # 49 bytes an object are 3.5 MB; the window and the arrays put in order are some times that.
    assert own < whole / 10
    assert own < 40_000
