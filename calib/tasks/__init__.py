"""What a model's outputs mean, and how they are judged: one kind of task a file."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from calib.tasks.answers import QuestionAnswering, QuestionAnsweringSpec
from calib.tasks.base import Kind
from calib.tasks.classification import Classification, ClassificationSpec
from calib.tasks.detection import Detection
from calib.tasks.detection_spec import DetectionSpec
from calib.tasks.embedding import Embedding, EmbeddingSpec
from calib.tasks.multilabel import MultiLabel, MultiLabelSpec
from calib.tasks.python import PythonTask, PythonTaskSpec
from calib.tasks.recognition import TextRecognition, TextRecognitionSpec
from calib.tasks.regression import Regression, RegressionSpec
from calib.tasks.retrieval import Retrieval, RetrievalSpec
from calib.tasks.segmentation import Segmentation, SegmentationSpec
from calib.tasks.similarity import Similarity, SimilaritySpec
from calib.tasks.tagging import TokenClassification, TokenClassificationSpec

TaskSpec = Annotated[
    ClassificationSpec
    | RegressionSpec
    | EmbeddingSpec
    | DetectionSpec
    | SegmentationSpec
    | TokenClassificationSpec
    | QuestionAnsweringSpec
    | MultiLabelSpec
    | TextRecognitionSpec
    | RetrievalSpec
    | SimilaritySpec
    | PythonTaskSpec,
    Field(discriminator="kind"),
]

_Make = Callable[[Any, Sequence[str], Sequence[str]], Kind[Any, Any]]

_KINDS: dict[type[BaseModel], _Make] = {
    ClassificationSpec: Classification,
    RegressionSpec: lambda spec, names, _: Regression(spec, names),
    EmbeddingSpec: lambda spec, names, _: Embedding(spec, names),
    DetectionSpec: Detection,
    SegmentationSpec: Segmentation,
    TokenClassificationSpec: TokenClassification,
    QuestionAnsweringSpec: lambda spec, *_: QuestionAnswering(spec),
    MultiLabelSpec: MultiLabel,
    TextRecognitionSpec: TextRecognition,
    RetrievalSpec: lambda spec, names, _: Retrieval(spec, names),
    SimilaritySpec: lambda spec, names, _: Similarity(spec, names),
    PythonTaskSpec: lambda spec, names, _: PythonTask(spec, names),
}


def kind_from_spec(
    spec: BaseModel, names: Sequence[str], class_names: Sequence[str] = ()
) -> Kind[Any, Any]:
    """The kind that a spec names.

    Args:
        spec: one of TaskSpec.
        names: of the model's outputs, in its order.
        class_names: by class; numbers take their place where there are none.
    """
    return _KINDS[type(spec)](spec, names, class_names)
