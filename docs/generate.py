"""Writes what is generated from the code: docs/config.md, the table in docs/gate.md, the schemas.

Run it with `make docs`; a test fails when one of the files is out of date.
"""

import json
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from calib.config import Experiment, experiment_schema
from calib.evidence.evaluation import Evaluation
from calib.gate.limits import LimitsSpec
from calib.gate.rules import RULES
from calib.results import VerdictFile

ROOT = Path(__file__).parent.parent
_BEGIN, _END = "<!-- generated: limits -->", "<!-- end -->"
_INTRODUCTION = """# Every setting

An experiment is one YAML file with the fields of [Experiment](#experiment). An unknown key, a value
out of range or a key given twice is an error that names the file and the field. A field with no
default is required. `--set path.to.field=value` overrides a field for one run; list items are
addressed by number: `--set calibration.calibrators.0.levels=64`.

Where a section has a `kind`, it decides which of the tables below holds.

This page is generated from the code by `make docs`.
"""


def config_page() -> str:
    """docs/config.md: a table for each part of the experiment."""
    sections = [_section(model) for model in _models(Experiment)]
    return "\n".join([_INTRODUCTION, *sections])


def gate_page(page: str) -> str:
    """docs/gate.md with its table of limits written anew."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{_limits_table()}{_END}{after}"


def schema_file() -> str:
    """configs/experiment.schema.json, for editors."""
    return json.dumps(experiment_schema(), indent=1) + "\n"


def verdict_schema_file() -> str:
    """docs/verdict.schema.json, for what reads verdict.json."""
    schema = VerdictFile.model_json_schema(mode="serialization")
    schema["title"] = "calib verdict"
    return json.dumps(schema, indent=1) + "\n"


def evaluation_schema_file() -> str:
    """docs/evaluation.schema.json, for what reads signed evidence."""
    schema = Evaluation.model_json_schema(by_alias=True, mode="serialization")
    schema["title"] = "calib evaluation predicate"
    return json.dumps(schema, indent=1) + "\n"


def _limits_table() -> str:
    lines = ["| limit | what it holds against | passes when | judged by |", "|---|---|---|---|"]
    for rule in RULES:
        text = LimitsSpec.model_fields[rule.name].description
        sign = "≤" if rule.is_maximum else "≥"
        how = "its bound" if rule.sampled else "the value itself"
        lines.append(f"| `{rule.name}` | {text} | {rule.title} {sign} limit | {how} |")
    return "\n".join(lines) + "\n"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and every one below it, each once, in the order of their fields."""
    seen: dict[type[BaseModel], None] = {}

    def visit(current: type[BaseModel]) -> None:
        if current in seen:
            return
        seen[current] = None
        for field in current.model_fields.values():
            for part in _parts(field.annotation):
                visit(part)

    visit(model)
    yield from seen


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts(argument)


def _section(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    title = f"{model.__name__.removesuffix('Spec')}" + (
        f" (`kind: {kind.default}`)" if kind else ""
    )
    documentation = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description or ''} |"
        for name, field in model.model_fields.items()
        if name != "kind"
    ]
    table = ["| field | type | default | |", "|---|---|---|---|", *rows] if rows else ["No fields."]
    return "\n".join([f"## {title}", "", documentation, "", *table, ""])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
    else:
        value = field.default
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "–"  # noqa: RUF001
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    match value:
        case Enum():
            return str(value.value)
        case tuple() | list():
            return "[" + ", ".join(_plain(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
        case bool():
            return str(value).lower()
        case "":
            return '""'
    return str(value)


def _type(annotation: Any) -> str:
    """The type as a reader of YAML would name it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{_plain(argument)}`" for argument in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        name = annotation.__name__.removesuffix("Spec")
        kind = annotation.model_fields.get("kind")
        anchor = f"{name.lower()}-kind-{kind.default}" if kind else name.lower()
        return f"[{name}](#{anchor})"
    names = {str: "text", Path: "path", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", "anything"))


def main() -> None:
    """Write all of them."""
    (ROOT / "docs" / "config.md").write_text(config_page(), encoding="utf-8")
    gate = ROOT / "docs" / "gate.md"
    gate.write_text(gate_page(gate.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "configs" / "experiment.schema.json").write_text(schema_file(), encoding="utf-8")
    (ROOT / "docs" / "verdict.schema.json").write_text(verdict_schema_file(), encoding="utf-8")
    evaluation = ROOT / "docs" / "evaluation.schema.json"
    evaluation.write_text(evaluation_schema_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
