"""How a detector's outputs are read: the settings."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_BOX_FORMS = ({"x1", "y1", "x2", "y2"}, {"x", "y", "w", "h"}, {"cx", "cy", "w", "h"})
_OTHERS = {"score", "scores", "objectness", "class", "batch", "skip"}


class AnchorsSpec(BaseModel):
    """A head that tells boxes by a grid: one output a stride."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["yolov3", "yolov5", "yolox"] = Field(
        description="With s the sigmoid: yolov3: s(xy) + cell, e^wh · anchor; yolov5: 2s(xy) - 0.5 "
        "+ cell, (2s(wh))² · anchor; yolox: xy + cell, e^wh · stride, without anchors."
    )
    strides: tuple[int, ...] = Field(min_length=1, description="Pixels a cell, by output.")
    sizes: tuple[tuple[tuple[float, float], ...], ...] = Field(
        default=(), description="Width and height of each anchor in pixels, by output."
    )

    @model_validator(mode="after")
    def _one_set_a_stride(self) -> Self:
        if self.form == "yolox":
            if self.sizes:
                raise ValueError("yolox has no anchors, so there are no sizes to give")
        elif len(self.sizes) != len(self.strides) or not all(self.sizes):
            raise ValueError("give the sizes of the anchors, one list for each stride")
        return self


class DetectionSpec(BaseModel):
    """Boxes with a class and a score; scored by COCO's mean average precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["detection"] = "detection"
    output: str | None = Field(
        default=None,
        description="The output that has the boxes, and the rest unless told; the model's first.",
    )
    scores: str | None = Field(default=None, description="The output that has the scores alone.")
    labels: str | None = Field(default=None, description="The output that has the classes alone.")
    count: str | None = Field(
        default=None, description="The output that tells how many of the rows are boxes."
    )
    grids: tuple[str, ...] = Field(
        default=(),
        description="The outputs of a grid head, in the order of `anchors.strides`; or the one "
        "that holds the cells of all strides, one grid after the other.",
    )
    columns: tuple[str, ...] = Field(
        default=("x1", "y1", "x2", "y2"),
        description="What each column of `output` is: a box as x1 y1 x2 y2, x y w h or cx cy w h; "
        "score, objectness, class, batch, skip; last `scores`, one column a class.",
    )
    columns_axis: Literal["first", "last"] = Field(
        default="last", description="The axis of the columns in one sample's output."
    )
    activation: Literal["none", "sigmoid", "softmax"] = Field(
        default="none", description="Applied to scores (and objectness) before use."
    )
    background: Literal["none", "first", "last"] = Field(
        default="none", description="Which of the scores stands for no object."
    )
    first_class: int = Field(
        default=0, ge=0, description="The number that the model gives the first class."
    )
    normalized: bool = Field(
        default=False, description="Boxes are in parts of the input's sides, not in its pixels."
    )
    anchors: AnchorsSpec | None = Field(
        default=None, description="How `grids` are decoded; then `columns` tells theirs."
    )
    entry: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="`module:function` that decodes in place of all this: it gets one sample's "
        "outputs by name and gives boxes (n, 4) as corners in input pixels, scores, classes.",
    )
    nms_overlap_max: float | None = Field(
        default=None, gt=0, le=1, description="Thin out boxes that overlap more; not if absent."
    )
    score_min: float = Field(
        default=0.001, ge=0, le=1, description="Boxes that score less are none, for the mAP."
    )
    shown_score_min: float = Field(
        default=0.3, ge=0, le=1, description="Boxes that a user of the model would see."
    )
    detections_max: int = Field(default=100, ge=1, description="Most boxes of one picture.")

    @model_validator(mode="after")
    def _columns_make_sense(self) -> Self:
        names = [name for name in self.columns if name not in _OTHERS]
        if set(names) not in _BOX_FORMS or len(names) != len(set(names)):
            raise ValueError(f"columns tell no box: {', '.join(names)}")
        if "scores" in self.columns[:-1]:
            raise ValueError("scores, one column a class, come last in columns")
        if bool(self.anchors) != bool(self.grids):
            raise ValueError("grids and anchors go together")
        if self.anchors and len(self.grids) not in (1, len(self.anchors.strides)):
            raise ValueError("anchors.strides needs one stride for each of grids")
        told = {"score", "scores"} & set(self.columns)
        if not self.entry and not self.scores and not told:
            raise ValueError(
                "where are the scores? Name them in columns, or their output in scores"
            )
        if self.scores and told:
            raise ValueError("scores is an output of its own, and in columns: give one of them")
        return self
