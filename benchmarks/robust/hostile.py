"""Input that is meant to do harm: each case says what must not come of it."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import helper, numpy_helper
from PIL import Image

from benchmarks.robust import workspace
from benchmarks.robust.command import Outcome, command

RUN = ["run", "config.yaml"]
MARKUP = '<script>alert(1)</script><img src=x onerror="alert(2)">'
ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
FORMULA = "=cmd|' /C calc'!A0"

Case = Callable[[Path], str]
"""Attack in this folder; what got through, empty if nothing did."""


def _changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = workspace.config()
    change(content)
    text = yaml.safe_dump(content, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def _refused(outcome: Outcome, words: str) -> str:
    if outcome.problem:
        return outcome.problem
    if outcome.code != 2:
        return f"exit code {outcome.code}"
    return "" if words in outcome.err else f"says something else: {outcome.err[:200]}"


def _harmless_run(folder: Path, outcome: Outcome) -> str:
    """A run that ended, and whose files and lines hold the names as texts only."""
    if outcome.problem:
        return outcome.problem
    if outcome.code not in (0, 1, 3):
        return f"exit code {outcome.code}: {outcome.err[:200]}"
    if any(not line.isprintable() for line in (outcome.out + outcome.err).split("\n")):
        return "control characters on the terminal"
    for page in folder.rglob("report.html"):
        text = page.read_text(encoding="utf-8")
        if "<script" in text or "<img src=x" in text:
            return "markup in the report"
    for table in folder.rglob("reports/**/*.csv"):
        for line in table.read_text(encoding="utf-8").splitlines():
            if any(cell.strip('"').startswith("=") for cell in line.split(",")):
                return f"a formula in {table.name}"
    return ""


def yaml_tag(folder: Path) -> str:
    """Code in a YAML tag."""
    with (folder / "config.yaml").open("a") as file:
        file.write('description: !!python/object/apply:os.system ["touch pwned"]\n')
    found = _refused(command(RUN, folder), "could not determine a constructor")
    return found or ("code was run" if (folder / "pwned").exists() else "")


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def pickled_arrays(folder: Path) -> str:
    """Code in an array of objects."""
    x = np.array([_Code()] * 64, dtype=object)
    np.savez(folder / "validation.npz", x=x, label=np.zeros(64, np.int64))
    found = _refused(command(RUN, folder), "Save plain arrays, not objects")
    return found or ("code was run" if (folder / "pwned").exists() else "")


def _external(folder: Path, location: str) -> str:
    model = workspace.mlp()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return _refused(command(RUN, folder), "out" if "link" in location else "outside")


def external_data_above(folder: Path) -> str:
    """Weights from `../`."""
    (folder.parent / "secret.bin").write_bytes(bytes(4096))
    return _external(folder, "../secret.bin")


def external_data_absolute(folder: Path) -> str:
    """Weights from an absolute path."""
    return _external(folder, "/etc/passwd")


def external_data_linked(folder: Path) -> str:
    """Weights behind a symbolic link that leads out of the folder."""
    (folder.parent / "secret.bin").write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to("../secret.bin")
    return _external(folder, "link.bin")


def _with_images(folder: Path) -> Path:
    spec = {"kind": "images", "path": "images", "input_name": "x", "height": 4, "width": 4}
    _changed(folder, lambda c: c["data"].update(calibration=spec, validation=spec))
    (folder / "images" / "cat").mkdir(parents=True)
    return folder / "images" / "cat"


def linked_image(folder: Path) -> str:
    """A picture of this machine, by a link in the data set."""
    Image.new("RGB", (9, 9)).save(folder / "private.png")
    (_with_images(folder) / "a.png").symlink_to(folder / "private.png")
    return _refused(command(RUN, folder), "leads out of the folder of images")


def linked_folder(folder: Path) -> str:
    """A folder of this machine, by a link in the data set."""
    inner = _with_images(folder)
    inner.with_name("dog").symlink_to("/etc")
    return _refused(command(RUN, folder), "leads out of the folder of images")


def image_bomb(folder: Path) -> str:
    """400 million pixels in half a megabyte."""
    Image.new("L", (20_000, 20_000)).save(_with_images(folder) / "a.png")
    return _refused(command(RUN, folder), "exceeds limit")


def postscript_as_image(folder: Path) -> str:
    """A program for another program, under the name of a picture."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (_with_images(folder) / "a.png").write_bytes(program)
    return _refused(command(RUN, folder), "is no image")


def pipe_as_image(folder: Path) -> str:
    """A picture that never ends."""
    os.mkfifo(_with_images(folder) / "a.png")
    return _refused(command(RUN, folder), "is no regular file")


def archive_bomb(folder: Path) -> str:
    """A terabyte of zeros in an npz, said by its directory."""
    path = folder / "validation.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 22, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFF_FFF0).to_bytes(4, "little")
    path.write_bytes(data)
    _changed(folder, lambda c: c["data"]["validation"].pop("label"))
    return _refused(command(RUN, folder, spare_bytes=2 << 30), "does not fit into memory")


def text_in_data(folder: Path) -> str:
    """Markup, escapes and formulas as ids, classes and slices."""
    names = [MARKUP, ESCAPE, FORMULA, "$\\frac{$", "a\nPASS int8", "[bold]:x:[/]", "\ud800", "b"]
    for split, count in (("calibration", 48), ("validation", 64)):
        archive = dict(np.load(folder / f"{split}.npz"))
        rows = [
            {
                **{f"x{k}": float(v) for k, v in enumerate(archive["x"][n])},
                "label": int(archive["label"][n]),
                "id": f"{names[n % len(names)]}{n}",
                "slice": names[n % 7],
            }
            for n in range(count)
        ]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    columns = [f"x{k}" for k in range(workspace.FEATURES)]
    spec = {"kind": "arrays", "inputs": {"x": columns}, "label": "label", "id": "id"}
    classes = [name.replace("\ud800", "c").replace("\x1b", "\x1c") for name in names]

    def change(content: dict[str, Any]) -> None:
        for split in ("calibration", "validation"):
            content["data"][split] = {
                **spec,
                "path": f"{split}.json",
                "slices": ["slice"],
                "classes": classes,
            }
        content["description"] = MARKUP

    _changed(folder, change)
    return _harmless_run(folder, command(RUN, folder))


def names_in_model(folder: Path) -> str:
    """Markup, escapes and formulas as names of tensors and nodes."""
    model = workspace.mlp()
    new = dict(zip(("h1", "h2", "h3", "w1"), (MARKUP, ESCAPE, FORMULA, "a\nPASS"), strict=True))
    for node in model.graph.node:
        node.name = f"{node.name}{MARKUP}{ESCAPE}"
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)
    for tensor in model.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    model.producer_name = MARKUP + ESCAPE
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return _harmless_run(folder, command(RUN, folder))


def name_in_an_error(folder: Path) -> str:
    """Escapes and lines in the name of a tensor that a message names."""
    model = workspace.mlp()
    tensor = model.graph.initializer[0]
    tensor.name = f"a\nPASS int8{ESCAPE}"
    model.graph.node[0].input[1] = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.full((16, 24), np.nan, np.float32), tensor.name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return _refused(command(RUN, folder), "a PASS int8\\x1b[2J")


def path_in_the_name(folder: Path) -> str:
    """A run that would be written elsewhere."""
    _changed(folder, lambda c: c.update(name="../../elsewhere"))
    return _refused(command(RUN, folder), "name")


def tensor_beyond_memory(folder: Path) -> str:
    """A few bytes that ask for 70 terabytes when they are run."""
    model = workspace.mlp()
    shape = numpy_helper.from_array(np.array([1 << 24, 1 << 20], np.int64), "huge_shape")
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = "before"
    nodes = [
        helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0),
        helper.make_node("Add", ["before", "largest"], ["logits"]),
    ]
    model.graph.node.extend(nodes)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return _refused(command(RUN, folder), "does not fit into memory")


def batch_beyond_memory(folder: Path) -> str:
    """Samples of which 32 batches are held at once, in a process that may take less."""
    (folder / "large.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for k in range(64):\n"
        "        x = np.full(1 << 22, k, np.float32)\n"
        "        yield {'inputs': {'x': x}, 'label': 0}\n"
    )
    model = workspace.mlp()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    model.graph.node.insert(0, helper.make_node("Slice", ["x", "from", "to", "on"], ["cut"]))
    model.graph.node[1].input[0] = "cut"
    for name, value in (("from", 0), ("to", 16), ("on", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    spec = {"kind": "python", "entry": "large:samples"}
    _changed(folder, lambda c: c["data"].update(validation=spec))
    outcome = command(RUN, folder, spare_bytes=1000 << 20)
    return _refused(outcome, "do not fit into memory")


CASES: dict[str, tuple[Case, ...]] = {
    "code": (yaml_tag, pickled_arrays),
    "paths": (
        external_data_above,
        external_data_absolute,
        external_data_linked,
        linked_image,
        linked_folder,
        path_in_the_name,
    ),
    "bombs": (image_bomb, archive_bomb, postscript_as_image, pipe_as_image),
    "texts": (text_in_data, names_in_model, name_in_an_error),
    "memory": (tensor_beyond_memory, batch_beyond_memory),
}
