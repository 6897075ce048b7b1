"""From a detector's raw outputs to boxes, scores and classes in its input's pixels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from calib.tasks.average_precision import Found
from calib.tasks.base import output_of, refuse
from calib.tasks.boxes import corners_from_columns, thinned_out
from calib.tasks.detection_spec import AnchorsSpec, DetectionSpec
from data_loaders.base import resolve_entry
from data_loaders.types import Array, Sample

_BOX_NAMES = frozenset({"x1", "y1", "x2", "y2", "x", "y", "w", "h", "cx", "cy"})


def decode(
    spec: DetectionSpec, outputs: Mapping[str, Array], sample: Sample, size: tuple[int, int]
) -> Found:
    """The boxes of one picture, in pixels of the input, the highest score first.

    Boxes and scores that are no numbers are left out: a model that gives them has found nothing.

    Args:
        spec: how to read them.
        outputs: of one sample, without batch axis, by name.
        sample: for messages.
        size: height and width of the input, in pixels.

    Raises:
        DataError: if the outputs have not the form that the spec tells.
    """
    if spec.entry is not None:
        found = _from_hook(spec.entry, outputs, sample)
    else:
        table = (
            _grids(spec, outputs, sample, size) if spec.anchors else _table(spec, outputs, sample)
        )
        found = _from_table(spec, table, outputs, sample, size)
    usable = np.isfinite(found.boxes).all(axis=1) & (found.scores >= spec.score_min)
    usable &= found.classes >= 0
    boxes, scores, classes = found.boxes[usable], found.scores[usable], found.classes[usable]
    if spec.nms_overlap_max is not None:
        order = thinned_out(boxes, scores, classes, spec.nms_overlap_max)
    else:
        order = np.argsort(-scores, kind="stable")
    order = order[: spec.detections_max]
    return Found(boxes[order], scores[order], classes[order])


def _from_hook(entry: str, outputs: Mapping[str, Array], sample: Sample) -> Found:
    found = resolve_entry(entry)(dict(outputs))
    try:
        boxes, scores, classes = (np.asarray(part) for part in found)
        return Found(
            boxes.reshape(len(scores), 4).astype(np.float64),
            scores.astype(np.float64),
            classes.astype(np.int64).reshape(len(scores)),
        )
    except (TypeError, ValueError) as error:
        raise refuse(
            sample,
            f"{entry} gave no detections: {error}",
            type(found).__name__,
            "boxes (n, 4), scores (n,), classes (n,)",
        ) from error


def _table(spec: DetectionSpec, outputs: Mapping[str, Array], sample: Sample) -> Array:
    """The rows of the output that has the boxes: float64 (boxes, columns)."""
    name = spec.output or next(iter(outputs))
    array = _squeezed(output_of(outputs, name, sample))
    if array.ndim == 3 and spec.columns == spec.columns[:4] and array.shape[-1] == 4:
        array = array.reshape(-1, 4)
    table = _two_axes(array, sample, name)
    table = table.T if spec.columns_axis == "first" else table
    _check_columns(spec, table.shape[1], sample, name)
    return table.astype(np.float64)


def _squeezed(array: Array) -> Array:
    """Without axes of length 1, as long as more than two are left."""
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    return array


def _two_axes(array: Array, sample: Sample, name: str) -> Array:
    if array.ndim != 2:
        raise refuse(sample, f"{name} is no table of boxes", f"shape {array.shape}", "two axes")
    return array


def _check_columns(spec: DetectionSpec, columns: int, sample: Sample, name: str) -> None:
    open_ended = spec.columns[-1] == "scores"
    wanted = len(spec.columns)
    if columns < wanted or (columns > wanted and not open_ended):
        raise refuse(
            sample,
            f"{name} has other columns than task.columns",
            f"{columns} of them",
            f"{wanted}{' or more' if open_ended else ''}: {' '.join(spec.columns)}",
        )


def _from_table(
    spec: DetectionSpec,
    table: Array,
    outputs: Mapping[str, Array],
    sample: Sample,
    size: tuple[int, int],
) -> Found:
    names = spec.columns
    box = [name for name in names if name in _BOX_NAMES]
    boxes = corners_from_columns(table[:, [names.index(name) for name in box]], box)
    if spec.normalized:
        boxes = boxes * np.array([size[1], size[0]] * 2)
    scores, classes = _scores(spec, table, outputs, sample)
    if spec.labels is not None:
        told = output_of(outputs, spec.labels, sample).ravel()
        classes = _whole(told)
    elif "class" in names:
        classes = _whole(table[:, names.index("class")])
    if not len(boxes) == len(scores) == len(classes):
        raise refuse(
            sample,
            "boxes, scores and classes are not as many",
            f"{len(boxes)}, {len(scores)}, {len(classes)}",
            "one each",
        )
    rows = len(boxes)
    if spec.count is not None:
        rows = int(_whole(output_of(outputs, spec.count, sample).ravel())[0])
    return Found(boxes[:rows], scores[:rows], classes[:rows] - spec.first_class)


def _whole(values: Array) -> NDArray[np.int64]:
    """Class numbers, which many exporters write as floats; -1 of what is no number."""
    wide = values.astype(np.float64)
    return np.where(np.isfinite(wide), wide, -1).round().astype(np.int64)


def _scores(
    spec: DetectionSpec, table: Array, outputs: Mapping[str, Array], sample: Sample
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The score of each row and, where there is one a class, which it is for; else 0."""
    names = spec.columns
    if spec.scores is not None:
        raw = output_of(outputs, spec.scores, sample).astype(np.float64)
        while raw.ndim > 2 and 1 in raw.shape:
            raw = raw.squeeze(raw.shape.index(1))
        if raw.ndim == 2 and len(raw) != len(table) and raw.shape[1] == len(table):
            raw = raw.T
        raw = raw.reshape(len(table), -1) if raw.size and len(table) else raw.reshape(0, 1)
    elif "scores" in names:
        raw = table[:, len(names) - 1 :]
    else:
        raw = table[:, [names.index("score")]]
    raw = _activated(spec, raw)
    if spec.background != "none":
        raw = raw[:, 1:] if spec.background == "first" else raw[:, :-1]
    # A NaN is never the largest: it would be taken for a sure find.
    raw = np.where(np.isnan(raw), -np.inf, raw)
    classes = raw.argmax(axis=1).astype(np.int64) if raw.shape[1] > 1 else np.zeros(len(raw), int)
    best = raw.max(axis=1, initial=-np.inf)
    if "objectness" in names:
        objectness = table[:, names.index("objectness")]
        best = best * (expit(objectness) if spec.activation == "sigmoid" else objectness)
    first = spec.first_class if "class" not in names and spec.labels is None else 0
    return best, classes + first


def _activated(spec: DetectionSpec, raw: Array) -> Array:
    match spec.activation:
        case "sigmoid":
            return np.asarray(expit(raw))
        case "softmax":
            return np.asarray(softmax(raw, axis=1))
        case "none":
            return raw


def _grids(
    spec: DetectionSpec, outputs: Mapping[str, Array], sample: Sample, size: tuple[int, int]
) -> Array:
    """The rows of all grids, boxes as cx cy w h in pixels: float64 (cells · anchors, columns)."""
    anchors = spec.anchors
    assert anchors is not None  # noqa: S101 - the caller asked
    arrays = [output_of(outputs, name, sample) for name in spec.grids]
    if len(arrays) < len(anchors.strides):
        parts = _split(spec, anchors, arrays[0], sample, size)
    else:
        parts = [
            _cells(spec, anchors, index, array, sample, spec.grids[index])
            for index, array in enumerate(arrays)
        ]
    return np.concatenate(
        [
            _grid_boxes(spec, anchors, index, cells.astype(np.float64))
            for index, cells in enumerate(parts)
        ]
    )


def _split(
    spec: DetectionSpec, anchors: AnchorsSpec, array: Array, sample: Sample, size: tuple[int, int]
) -> list[Array]:
    """Joined grids as one (anchors, rows, columns of the grid, columns of the table) a stride.

    Exporters flatten each grid anchor by anchor, row by row, and join them in order of strides.
    """
    name = spec.grids[0]
    table = _two_axes(_squeezed(array), sample, name)
    table = table.T if spec.columns_axis == "first" else table
    _check_columns(spec, table.shape[1], sample, name)
    sides = [tuple(side // stride for side in size) for stride in anchors.strides]
    many = [len(sizes) for sizes in anchors.sizes] or [1] * len(sides)
    ends = np.cumsum([m * rows * columns for m, (rows, columns) in zip(many, sides, strict=True)])
    if len(table) != ends[-1]:
        raise refuse(
            sample,
            f"{name} does not hold the cells of all strides",
            f"{len(table)} rows",
            f"{ends[-1]} for an input of {size[0]} by {size[1]}",
        )
    parts = np.split(table, ends[:-1])
    return [p.reshape(m, *side, -1) for p, m, side in zip(parts, many, sides, strict=True)]


def _cells(
    spec: DetectionSpec,
    anchors: AnchorsSpec,
    index: int,
    array: Array,
    sample: Sample,
    name: str,
) -> Array:
    """One grid as (anchors, rows, columns of the grid, columns of the table)."""
    many = len(anchors.sizes[index]) if anchors.sizes else 1
    if array.ndim == 3:
        if spec.columns_axis == "last":
            array = array.transpose(2, 0, 1)
        if array.shape[0] % many:
            raise refuse(
                sample,
                f"{name} does not fit its anchors",
                f"{array.shape[0]} channels",
                f"a multiple of {many}",
            )
        array = array.reshape(many, -1, *array.shape[1:]).transpose(0, 2, 3, 1)
    elif array.ndim == 4 and spec.columns_axis == "first":
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[0] != many:
        raise refuse(
            sample,
            f"{name} is no grid of boxes",
            f"shape {array.shape}",
            f"({many} anchors, rows, columns, values), or channels of three axes",
        )
    _check_columns(spec, array.shape[-1], sample, name)
    return array


def _grid_boxes(spec: DetectionSpec, anchors: AnchorsSpec, index: int, cells: Array) -> Array:
    """The formulas are those of the YOLO releases' own decoders."""
    stride = anchors.strides[index]
    rows, columns = cells.shape[1:3]
    place = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)[None]
    at = [spec.columns.index(name) for name in ("cx", "cy", "w", "h")]
    centre, side = cells[..., at[:2]], cells[..., at[2:]]
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is left out afterwards
        if anchors.form == "yolox":
            centre, side = (centre + place) * stride, np.exp(side) * stride
        else:
            size = np.asarray(anchors.sizes[index], dtype=np.float64)[:, None, None, :]
            if anchors.form == "yolov3":
                centre, side = (expit(centre) + place) * stride, np.exp(side) * size
            else:
                centre = (2 * expit(centre) - 0.5 + place) * stride
                side = np.square(2 * expit(side)) * size
    made = cells.copy()
    made[..., at[:2]], made[..., at[2:]] = centre, side
    return made.reshape(-1, cells.shape[-1])
