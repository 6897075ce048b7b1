"""Limits on the metrics of each kind of task; see calib/tasks."""

from pydantic import BaseModel, ConfigDict, Field

METRICS = {
    "map_drop_points_max": ("map_pct", "mAP drop", "points"),
    "ap50_drop_points_max": ("ap50_pct", "AP50 drop", "points"),
    "ap75_drop_points_max": ("ap75_pct", "AP75 drop", "points"),
    "map_small_drop_points_max": ("map_small_pct", "drop of small objects' mAP", "points"),
    "map_medium_drop_points_max": ("map_medium_pct", "drop of medium objects' mAP", "points"),
    "map_large_drop_points_max": ("map_large_pct", "drop of large objects' mAP", "points"),
    "miou_drop_points_max": ("miou_pct", "mean IoU drop", "points"),
    "dice_drop_points_max": ("dice_pct", "mean Dice drop", "points"),
    "entity_f1_drop_points_max": ("entity_f1_pct", "entity F1 drop", "points"),
    "answer_f1_drop_points_max": ("answer_f1_pct", "answer F1 drop", "points"),
    "exact_match_drop_points_max": ("exact_match_pct", "exact match drop", "points"),
    "micro_f1_drop_points_max": ("micro_f1_pct", "F1 drop over all labels", "points"),
    "label_map_drop_points_max": ("label_map_pct", "drop of the classes' mAP", "points"),
    "cer_rise_points_max": ("cer_pct", "character error rate rise", "points"),
    "wer_rise_points_max": ("wer_pct", "word error rate rise", "points"),
    "recall_drop_points_max": ("recall_pct", "recall drop", "points"),
    "ndcg_drop_points_max": ("ndcg_pct", "nDCG drop", "points"),
    "spearman_drop_points_max": ("spearman_pct", "drop of Spearman's correlation", "points"),
    "r2_drop_max": ("r2", "R² drop", ""),
    "own_metric_loss_max": ("value", "loss of the metric", ""),
}
"""By limit: the metric whose loss against FP32 it holds, its title and unit."""


class TaskLimits(BaseModel):
    """What a task's metrics may lose against FP32; a limit of another kind has no evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    map_drop_points_max: float | None = Field(
        default=None, ge=0, description="Detection: COCO's mAP lost against FP32, in points."
    )
    ap50_drop_points_max: float | None = Field(
        default=None, ge=0, description="Detection: AP at an overlap of 0.5 lost, in points."
    )
    ap75_drop_points_max: float | None = Field(
        default=None, ge=0, description="Detection: AP at an overlap of 0.75 lost, in points."
    )
    map_small_drop_points_max: float | None = Field(
        default=None,
        ge=0,
        description="Detection: mAP of objects below 32² pixels of the picture lost, in points.",
    )
    map_medium_drop_points_max: float | None = Field(
        default=None,
        ge=0,
        description="Detection: mAP of objects of 32² to 96² pixels lost, in points.",
    )
    map_large_drop_points_max: float | None = Field(
        default=None, ge=0, description="Detection: mAP of objects over 96² pixels lost, in points."
    )
    miou_drop_points_max: float | None = Field(
        default=None, ge=0, description="Segmentation: mean IoU lost, in points."
    )
    dice_drop_points_max: float | None = Field(
        default=None, ge=0, description="Segmentation: mean Dice lost, in points."
    )
    entity_f1_drop_points_max: float | None = Field(
        default=None, ge=0, description="Token classification: entity F1 lost, in points."
    )
    answer_f1_drop_points_max: float | None = Field(
        default=None, ge=0, description="Question answering: F1 lost, in points."
    )
    exact_match_drop_points_max: float | None = Field(
        default=None, ge=0, description="Question answering: exact matches lost, in points."
    )
    micro_f1_drop_points_max: float | None = Field(
        default=None, ge=0, description="Multi-label: F1 over all labels lost, in points."
    )
    label_map_drop_points_max: float | None = Field(
        default=None, ge=0, description="Multi-label: mAP of the classes lost, in points."
    )
    cer_rise_points_max: float | None = Field(
        default=None,
        ge=0,
        description="Text recognition: rise of the character error rate, in points.",
    )
    wer_rise_points_max: float | None = Field(
        default=None, ge=0, description="Text recognition: rise of the word error rate, in points."
    )
    recall_drop_points_max: float | None = Field(
        default=None, ge=0, description="Retrieval: recall at k lost, in points."
    )
    ndcg_drop_points_max: float | None = Field(
        default=None, ge=0, description="Retrieval: nDCG at k lost, in points."
    )
    spearman_drop_points_max: float | None = Field(
        default=None, ge=0, description="Similarity: rank correlation lost, in hundredths."
    )
    r2_drop_max: float | None = Field(default=None, ge=0, description="Regression: R² lost.")
    own_metric_loss_max: float | None = Field(
        default=None, ge=0, description="`kind: python`: what the metric loses, in its own unit."
    )
    disagreement_points_max: float | None = Field(
        default=None,
        ge=0,
        description="What the kind's first metric lacks to 100 % (or has, of an error rate) with "
        "FP32's answers taken for the truth. Needs no labels.",
    )
    classes_vanished_max: int | None = Field(
        default=None, ge=0, description="Classes that FP32 finds at least in part, and INT8 never."
    )


class AnswerLimits(TaskLimits):
    """Limits on what a model answers: of its task, or of a further head."""

    accuracy_drop_points_max: float | None = Field(
        default=None, ge=0, description="Accuracy lost against FP32, in percentage points."
    )
    accuracy_drop_relative_pct_max: float | None = Field(
        default=None, ge=0, description="Accuracy lost against FP32, in % of FP32's."
    )
    macro_recall_drop_points_max: float | None = Field(
        default=None, ge=0, description="Mean recall over classes lost, in percentage points."
    )
    worst_class_drop_points_max: float | None = Field(
        default=None,
        ge=0,
        description="Recall lost by the class that loses most, in points; detection: AP, "
        "segmentation: IoU.",
    )
    flips_pct_max: float | None = Field(
        default=None, ge=0, le=100, description="Predictions unlike FP32's, in % of the samples."
    )
    worsened_pct_max: float | None = Field(
        default=None, ge=0, le=100, description="Right in FP32 and wrong now, in % of the samples."
    )
    mean_abs_error_increase_pct_max: float | None = Field(
        default=None, ge=0, description="Regression: growth of the mean absolute error, in %."
    )
    embedding_cosine_mean_min: float | None = Field(
        default=None, ge=-1, le=1, description="Embedding: mean cosine to FP32's."
    )
    embedding_cosine_worst_min: float | None = Field(
        default=None, ge=-1, le=1, description="Embedding: smallest cosine to FP32's."
    )
