"""What a verdict can be, and what a model's outputs can mean."""

from enum import StrEnum


class Verdict(StrEnum):
    """What a rule, a candidate or a run came to. Neither of the last two is a pass."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_EVIDENCE = "NO_EVIDENCE"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 no evidence, 4 inconclusive; 2 is bad input."""
        codes = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.NO_EVIDENCE: 3}
        return codes.get(self, 4)


class TaskKind(StrEnum):
    """What the model's outputs mean, hence how they are scored."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    EMBEDDING = "embedding"
    DETECTION = "detection"
    SEGMENTATION = "segmentation"
    TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105 - no password
    QUESTION_ANSWERING = "question_answering"
    MULTI_LABEL = "multi_label"
    TEXT_RECOGNITION = "text_recognition"
    RETRIEVAL = "retrieval"
    SIMILARITY = "similarity"
    PYTHON = "python"


class ModelPrecision(StrEnum):
    """What a model as it was given computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    MIXED = "mixed"
