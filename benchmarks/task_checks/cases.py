"""Real outputs of the examples' nets, as FP32 gives them and with weights rounded to 8 bits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import yaml
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import BaseModel, TypeAdapter

from calib.tasks import TaskSpec
from data_loaders import DataSpec, batches, data_set_from_spec
from data_loaders.base import resolve_entry
from data_loaders.targets import PairTarget
from data_loaders.types import Sample

Outputs = dict[str, NDArray[np.generic]]
"""Of one sample, without batch axis, by name."""

_ROOT = Path(__file__).parents[2]
_BATCH = 8
_LEVELS = 127


@dataclass(frozen=True, slots=True)
class Case:
    """A net, samples, and what both engines say of them.

    Attributes:
        name: for the table.
        spec: of the task.
        class_names: by class; none where the task has none.
        samples: with labels.
        reference: FP32's outputs, one a sample.
        candidate: those of the net with rounded weights.
    """

    name: str
    spec: BaseModel
    class_names: tuple[str, ...]
    samples: Sequence[Sample]
    reference: Sequence[Outputs]
    candidate: Sequence[Outputs]


def from_config(name: str, samples: int, **arguments: Mapping[str, int]) -> Case:
    """A case of `configs/<name>_int8.yaml`, with fewer samples.

    Args:
        name: of the experiment.
        samples: of its validation data to take.
        arguments: `args` of the data's entries by field, e.g. documents={"count": 9}.
    """
    config = yaml.safe_load((_ROOT / "configs" / f"{name}_int8.yaml").read_text())
    path = resolve_entry(config["model"]["entry"])()
    data = {**config["data"]["validation"], "samples": samples}
    for field, values in arguments.items():
        data[field] = {**data[field], "args": {**data[field]["args"], **values}}
    source = data_set_from_spec(TypeAdapter(DataSpec).validate_python(data))
    found = list(source)
    return Case(
        name,
        TypeAdapter(TaskSpec).validate_python(config["task"]),
        tuple(source.class_names or ()),
        found,
        answers(onnx.load(path), found),
        answers(rounded(onnx.load(path)), found),
    )


def answers(model: onnx.ModelProto, samples: Sequence[Sample]) -> list[Outputs]:
    """What a model says of each sample, by ONNX Runtime."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found: dict[str, Outputs] = {}
    for batch in batches(samples, _BATCH):
        values = session.run(names, dict(batch.inputs))
        for row, sample in enumerate(batch.samples):
            found[sample.id] = {n: value[row] for n, value in zip(names, values, strict=True)}
    return [found[sample.id] for sample in samples]


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the weights of its products rounded to 8 bits, a scale for each channel."""
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    for tensor in chain(model.graph.initializer, constants):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim not in (2, 4):
            continue
        others = (1, 2, 3) if values.ndim == 4 else (0,)
        scale = np.abs(values).max(axis=others, keepdims=True) / _LEVELS
        scale[scale == 0] = 1
        tensor.CopyFrom(numpy_helper.from_array(np.round(values / scale) * scale, tensor.name))
    return model


def pairs_of(case: Case, groups: Mapping[str, str], spec: BaseModel) -> Case:
    """Pairs out of a case of retrieval: an opening with its document, and with the next one's.

    Likeness is 2 for an opening and its own document, 1 for one of the same group, else 0.

    Args:
        case: documents, then queries that go by their names.
        groups: group by document.
        spec: of similarity.
    """
    places = {sample.id: place for place, sample in enumerate(case.samples)}
    names = [sample.id.removeprefix("query ") for sample in case.samples]
    queries = [name for name, s in zip(names, case.samples, strict=True) if s.id.startswith("q")]
    samples, order = [], []
    for index, query in enumerate(queries):
        for document in (query, queries[(index + 1) % len(queries)]):
            alike = 2 if query == document else int(groups[query] == groups[document])
            for half in (f"query {query}", f"document {document}"):
                place = places[half]
                label = PairTarget(f"{query} {document}", float(alike))
                samples.append(Sample(f"{half}, {query} {document}", {}, label))
                order.append(place)
    return Case(
        "pairs of texts",
        spec,
        (),
        samples,
        [case.reference[place] for place in order],
        [case.candidate[place] for place in order],
    )


def relabelled(case: Case, name: str, spec: BaseModel, label: Callable[[Sample], object]) -> Case:
    """The same outputs, read by another kind."""
    samples = [Sample(s.id, s.inputs, label(s), s.metadata) for s in case.samples]  # type: ignore[arg-type]
    return Case(name, spec, case.class_names, samples, case.reference, case.candidate)
