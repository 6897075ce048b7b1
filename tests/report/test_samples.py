"""The table of all samples."""

import csv

import pandas as pd
import pytest
import records

from calib.errors import StoreError
from calib.report import SampleTables
from calib.report.samples import read_samples
from calib.results import RivalAnswer


def write(folder):
    rival = RivalAnswer(prediction="cat", probability=0.9, margin=2.0)
    with SampleTables(folder) as samples:
        samples.add("fp32", records.sample(id="=cmd()", metadata={"a": "b"}))
        samples.add("int8", records.sample(id="small", flip="", margin_loss=0.1))
        samples.add("int8", records.sample(id="flip", flip="worsened", margin_loss=0.2))
        samples.add("int8", records.sample(id="large", flip="", margin_loss=3.0, fp16=rival))


def test_both_tables_hold_every_sample_ranked_and_no_formula(tmp_path):
    write(tmp_path)
    with (tmp_path / "samples.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["id"] == "'=cmd()"
    assert rows[0]["metadata"] == "a=b"
    assert [(r["rank"], r["id"]) for r in rows[1:]] == [
        ("1", "flip"),
        ("2", "large"),
        ("3", "small"),
    ]
    frame = pd.read_parquet(tmp_path / "samples.parquet")
    assert frame["id"].tolist() == ["=cmd()", "flip", "large", "small"]
    assert frame["metadata"].iloc[0] == [("a", "b")]
    assert list(frame.columns) == list(rows[0])
    assert frame.loc[2, ["fp16_prediction", "fp16_probability", "fp16_margin"]].tolist() == [
        "cat",
        0.9,
        2.0,
    ]


def test_columns_are_read_back_by_candidate(tmp_path):
    write(tmp_path)
    found = read_samples(tmp_path, ["id", "flip", "unknown"])
    assert found["int8"] == {"id": ["flip", "large", "small"], "flip": ["worsened", "", ""]}
    assert read_samples(tmp_path / "nowhere", ["id"]) == {}


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.98])
def test_a_damaged_file_is_named_and_nothing_else_is_raised(tmp_path, kept):
    write(tmp_path)
    path = tmp_path / "samples.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept >= 1 else int(kept * len(content))])
    with pytest.raises(StoreError, match=r"samples\.parquet: cannot be read"):
        read_samples(tmp_path, ["id"])
