"""Reading settings: a YAML file, overrides of it, and what is wrong with them."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from calib.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

_BYTES_MAX = 10_000_000
_NODES_MAX = 200_000
_BITS_MAX = 64
_LINES_MAX = 20

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxlist, _SHOWN.maxdict = 4, 12, 12
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 300


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would silently win.

    It also refuses anchors that stand for more than anybody wrote, or for themselves.
    """

    def get_single_node(self) -> yaml.Node | None:
        """See `yaml.composer.Composer`."""
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > _NODES_MAX:
            raise yaml.constructor.ConstructorError(
                None, None, f"its anchors stand for over {_NODES_MAX:,} values", node.start_mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    """An integer of a size that Python also writes out: no setting is larger than 64 bits."""
    value = int(loader.construct_yaml_int(node))
    if value.bit_length() > _BITS_MAX:
        raise yaml.constructor.ConstructorError(
            None, None, f"an integer is beyond {_BITS_MAX} bits", node.start_mark
        )
    return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def _written_out(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Number of values below a node, were each alias written out."""
    if id(node) not in known:
        known[id(node)] = None
        found = 1
        if isinstance(node, yaml.CollectionNode):
            for item in node.value:
                parts = item if isinstance(item, tuple) else (item,)
                found += sum(_written_out(part, known) for part in parts)
        known[id(node)] = found
    size = known[id(node)]
    if size is None:
        raise yaml.constructor.ConstructorError(
            None, None, "an anchor stands for itself", node.start_mark
        )
    return size


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping.

    Raises:
        ConfigError: if the file is missing, unreadable, malformed, or holds something else.
    """
    try:
        content = _loaded(_text(path))
    except FileNotFoundError as error:
        raise ConfigError(str(path), "there is no such file", fix=_nearby(path)) from error
    except yaml.YAMLError as error:
        raise _malformed(path, error) from error
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            str(path), "holds no settings", got=type(content).__name__, expected="key: value lines"
        )
    return content


def _text(path: Path) -> str:
    with path.open("rb") as file:  # which may be a pipe
        data = file.read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        raise ValueError(f"it has more than {_BYTES_MAX // 10**6} MB, which are no settings")
    return data.decode("utf-8-sig")


def _loaded(text: str) -> Any:
    """What the YAML says.

    Raises:
        YAMLError: whatever is wrong with it.
    """
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError:
        raise
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except Exception as error:  # PyYAML lets out what its constructors stumble over
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error


def parse(model: type[M], content: Mapping[str, Any], path: Path) -> M:
    """Validate settings against a spec.

    Raises:
        ConfigError: with a line `file: path.to.field: problem (got …)` for each wrong field.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_problem(item, model) for item in error.errors()]
        where, problem = lines[0]
        more = [f"{path}: {place}: {text}" for place, text in lines[1:_LINES_MAX]]
        if len(lines) > _LINES_MAX:
            more.append(f"{path}: {len(lines) - _LINES_MAX:,} more problems")
        raise ConfigError(f"{path}: {where}", problem, more=more) from error


def _problem(item: Any, model: type[BaseModel]) -> tuple[str, str]:
    """One pydantic error as (dotted path, problem)."""
    path = [str(part) for part in item["loc"]]
    where = re.sub(r"\.(\d+)", r"[\1]", ".".join(path)) or "(top level)"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _sibling_names(model, path), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return where, f"unknown key{hint}"
    if item["type"] == "missing":
        return where, "is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    got = item["input"]
    shown = f" (got {_shown(got)})" if not isinstance(got, dict | BaseModel) else ""
    return where, message[0].lower() + message[1:] + shown


def _shown(value: Any) -> str:
    try:
        return _SHOWN.repr(value)
    except ValueError:  # of an integer with more digits than Python writes out
        return type(value).__name__


def _sibling_names(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are known where a path leads: what a typo in its last part can have meant."""
    current = [model]
    for part in path[:-1]:
        if any(part in m.model_fields for m in current):
            fields = [m.model_fields[part] for m in current if part in m.model_fields]
            current = [found for field in fields for found in _models_in(field.annotation)]
        elif not part.isdigit():  # the `kind` that pydantic took for a union
            tagged = [m for m in current if "kind" in m.model_fields]
            current = [m for m in tagged if m.model_fields["kind"].default == part]
    return sorted({name for m in current for name in m.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def with_overrides(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The settings with each `dotted.path=value` put in its place; the value is read as YAML.

    Raises:
        ConfigError: if an override is malformed or leads nowhere.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise ConfigError("--set", "needs path=value", got=repr(override))
        try:
            value = _loaded(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {path}", f"is no YAML value: {error}") from error
        content = _with_value(content, path.split("."), value, path)
    return content


def to_yaml(content: Mapping[str, Any], comment: str) -> str:
    """Settings as YAML, in the order given, under a comment of one or more lines."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)


def _with_value(node: Any, path: list[str], value: Any, whole: str) -> Any:
    """A copy of `node` with `value` at `path`; list items are addressed by number."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise ConfigError(
                f"--set {whole}", "no such list item", got=head, expected=f"0 to {len(node) - 1}"
            )
        index = int(head)
        return [*node[:index], _with_value(node[index], rest, value, whole), *node[index + 1 :]]
    if not isinstance(node, dict | type(None)):
        raise ConfigError(f"--set {whole}", f"{head!r} lies below a plain value", got=repr(node))
    node = node or {}
    return {**node, head: _with_value(node.get(head), rest, value, whole)}


def _malformed(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return ConfigError(where, f"is no valid YAML: {getattr(error, 'problem', error)}")


def _nearby(path: Path) -> str | None:
    names = [str(p) for p in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"Did you mean {near[0]}?" if near else None
