"""Thumbnails with what both models say."""

import io

import numpy as np
from PIL import Image

from calib.tasks import kind_from_spec
from calib.tasks.base import Drawing
from calib.tasks.detection_spec import DetectionSpec
from calib.tasks.drawing import FP32_COLOUR, OWN_COLOUR
from calib.tasks.segmentation import SegmentationSpec
from data_loaders.pictures import thumbnail_from_image
from data_loaders.targets import Frame
from data_loaders.types import Sample

BLACK = thumbnail_from_image(Image.new("RGB", (320, 160)))


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(found, colour, at):
    return (abs(found[at[1], at[0]] - np.array(colour)) < 8).all()


def test_boxes_are_drawn_where_the_picture_lies_in_the_thumbnail():
    spec = DetectionSpec(columns=["x1", "y1", "x2", "y2", "score", "class"])
    kind = kind_from_spec(spec, ["out"])
    assert isinstance(kind, Drawing)
    inputs = {"x": np.zeros((3, 160, 320), dtype="f4")}
    # The picture, 100 by 50, is twice as large in the input and 40 pixels from its left.
    sample = Sample("a", inputs, frame=Frame(50, 100, 2.0, 2.0, left=40.0))
    answers = [
        kind.answer({"out": np.array([[*box, 0.9, 0]])}, sample)
        for box in ([60.0, 20, 120, 60], [140.0, 20, 200, 60])
    ]
    found = pixels(kind.draw(BLACK, sample, *answers))
    assert found.shape == (80, 160, 3)
    assert near(found, FP32_COLOUR, (30, 20))  # the left edge, at half the input's size
    assert near(found, FP32_COLOUR, (45, 10))
    edge = found[10, 70:100]
    dashes = (abs(edge - np.array(OWN_COLOUR)) < 8).all(axis=1)
    assert 0.3 < dashes.mean() < 0.7
    assert (found[50:, 110:] == 0).all()


def test_boxes_are_drawn_right_into_a_thumbnail_of_the_picture_as_it_was():
    spec = DetectionSpec(columns=["x1", "y1", "x2", "y2", "score", "class"])
    kind = kind_from_spec(spec, ["out"])
    # A wide picture, letterboxed into a square input; the thumbnail is of the picture.
    inputs = {"x": np.zeros((3, 320, 320), dtype="f4")}
    sample = Sample("a", inputs, frame=Frame(160, 320, 1.0, 1.0, top=80.0))
    found = kind.answer({"out": np.array([[40.0, 120, 120, 200, 0.9, 0]])}, sample)
    nothing = kind.answer({"out": np.zeros((0, 6))}, sample)
    drawn = pixels(kind.draw(BLACK, sample, found, nothing))
    assert drawn.shape == (80, 160, 3)
    assert near(drawn, FP32_COLOUR, (20, 40))
    assert near(drawn, FP32_COLOUR, (40, 20))


def test_pixels_of_another_class_are_orange_and_the_others_as_they_were():
    kind = kind_from_spec(SegmentationSpec(), ["out"])
    reference = np.zeros((16, 32), dtype=int)
    own = reference.copy()
    own[:, 16:] = 1
    found = pixels(kind.draw(BLACK, Sample("a", {}), reference, own))
    assert (found[:, :70] == 0).all()
    assert (found[:, 90:, 0] > 100).all()
