"""Triton's own schema of a model's configuration, read and written as text."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from calib.errors import ConfigError, StoreError

CONFIG_NAME = "config.pbtxt"
_SCHEMA = Path("grpc", "model_config_pb2.py")


@cache
def schema() -> Any:
    """The module `model_config_pb2` of the package tritonclient.

    It is loaded from its file: importing `tritonclient.grpc` would ask for grpcio, which nothing
    here needs.

    Raises:
        ConfigError: if tritonclient is not installed, or asks for another protobuf.
    """
    found = importlib.util.find_spec("tritonclient")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    paths = [path for folder in folders if (path := Path(folder) / _SCHEMA).is_file()]
    if not paths:
        raise ConfigError(
            "triton",
            "needs the package tritonclient, for Triton's schema of a model's configuration",
            fix="Install it: pip install 'calib[triton]'.",
        )
    spec = importlib.util.spec_from_file_location("calib_triton_model_config_pb2", paths[0])
    assert spec is not None  # noqa: S101 - the file is there
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # protobuf raises a class of its own for another version
        raise ConfigError(
            "triton",
            f"the schema of the installed tritonclient cannot be read: {error}",
            fix="Install another: pip install 'calib[triton]'.",
        ) from error
    return module


def config_text(config: Message) -> str:
    """A `ModelConfig` as Triton reads it.

    A `max_batch_size` of 0 is protobuf's default, which text leaves out; without it Triton would
    choose one itself, and batch what must not be batched.
    """
    text: str = text_format.MessageToString(config)
    if not config.max_batch_size:  # type: ignore[attr-defined]
        text += "max_batch_size: 0\n"
    return text


def parsed_config(text: str, where: str) -> Any:
    """The `ModelConfig` that a text says.

    Args:
        text: of a config.pbtxt.
        where: named in the message.

    Raises:
        StoreError: if Triton's schema refuses it.
    """
    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        raise StoreError(
            where,
            f"is no configuration of a Triton model: {str(error).rstrip('.')}",
            fix="Mend it, or move it away.",
        ) from error


def read_config(path: Path) -> Any:
    """The same of a file.

    Raises:
        StoreError: if it cannot be read, or the schema refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
    return parsed_config(text, str(path))
