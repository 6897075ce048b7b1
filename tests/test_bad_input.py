"""Whatever is wrong with what the user gave: one message, exit code 2, nothing half-written."""

import json
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import yaml
from small import config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from calib.cli import main


def no_config():
    Path("config.yaml").unlink()
    return "there is no such file"


def malformed_config():
    Path("config.yaml").write_text("name: [")
    return "config.yaml:1:8: is no valid YAML"


def unknown_key():
    changed(lambda c: c.update(limit={}))
    return "limit: unknown key; did you mean limits?"


def no_model():
    Path("model.onnx").unlink()
    return "model.onnx: there is no such model file"


def no_onnx():
    Path("model.onnx").write_bytes(b"PK\x03\x04 not a model")
    return "model.onnx: is no ONNX model"


def truncated_model():
    whole = Path("model.onnx").read_bytes()
    Path("model.onnx").write_bytes(whole[: len(whole) // 2])
    return "model.onnx"


def missing_external_data():
    onnx.save(
        models.mlp(), "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    Path("w.bin").unlink()
    return "w.bin"


def wrong_input_name():
    changed(lambda c: [s.update(inputs={"y": "x"}) for s in splits(c)])
    return "its arrays are not the model's inputs (got y; expected x)"


def wrong_input_dtype():
    changed(lambda c: [s.update(dtype="float64") for s in splits(c)])
    return "input x has the wrong dtype (got float64; expected float32)"


def wrong_input_shape():
    rewrite("validation", lambda x, label: (x[:, :5], label))
    return "input x has the wrong shape"


def empty_data():
    rewrite("validation", lambda x, label: (x[:0], label[:0]))
    return "data.validation: holds no samples"


def too_little_data():
    rewrite("calibration", lambda x, label: (x[:5], label[:5]))
    return "holds too few samples for ranges that can be trusted (got 5; expected at least 32)"


def nan_in_the_data():
    def spoil(x, label):
        x[17, 3] = np.nan
        return x, label

    rewrite("calibration", spoil)
    return "data.calibration, sample row-000017: input x holds NaN"


def nan_in_activations():
    def burst(x, label):
        x[9] = 3e38
        return x, label

    rewrite("calibration", burst)
    return "row-000009"


def label_out_of_range():
    def relabel(x, label):
        label[3] = 99
        return x, label

    rewrite("validation", relabel)
    return "a label is none of the model's classes (got 99; expected 0 to 15)"


def classes_of_another_model():
    changed(lambda c: c["data"]["validation"].update(classes=["cat", "dog"]))
    return "does not name every class of output logits (got 2 names; expected 16"


def no_such_output():
    changed(lambda c: c["task"].update(output="logit"))
    return "task.output: is no output of the model (got logit; expected logits)"


def splits_that_overlap():
    Path("validation.npz").write_bytes(Path("calibration.npz").read_bytes())
    return "48 samples are in both the calibration and the validation split"


def pickled_arrays():
    np.savez("validation.npz", x=np.array([{"a": 1}] * 40, dtype=object), label=np.zeros(40, int))
    return "Save plain arrays, not objects"


def no_such_array():
    changed(lambda c: c["data"]["validation"].update(label="labels"))
    return "validation.npz: has no array 'labels' (expected one of"


def unwritable_output():
    Path("taken").write_text("a file")
    changed(lambda c: c.update(output={"reports": "taken/reports", "store": "taken/store"}))
    return "cannot write here"


def unknown_provider():
    changed(lambda c: c.update(backend={"kind": "onnxruntime", "providers": ["MagicProvider"]}))
    return "no such execution provider (got MagicProvider"


def no_such_text_column():
    text_config(rows=[{"txt": f"a b {i}", "label": 0} for i in range(80)])
    return "has no column 'text' (expected one of txt, label). Did you mean 'txt'?"


def a_tokenizer_of_another_model():
    text_config(rows=[{"text": f"t{i}", "label": 0} for i in range(2, 98)], vocabulary=99)
    return "has more tokens than the model's embedding table has rows (got 99; expected at most 50)"


def no_tokenizer():
    text_config(rows=[{"text": "t2", "label": 0}] * 2)
    Path("tokenizer.json").unlink()
    return "there is no tokenizer"


def a_builder_that_is_not_there():
    changed(lambda c: c.update(model={"kind": "python", "entry": "nowhere:build"}))
    return "nowhere:build: cannot be imported"


def tensorrt_that_is_not_there():
    changed(lambda c: c.update(backend={"kind": "tensorrt"}))
    return "backend.kind tensorrt: cannot be used here"


def a_target_that_does_not_exist():
    pytest.importorskip("tensorrt_rtx")
    rtx = {"kind": "tensorrt_rtx", "compute_capabilities": ["3.5"]}
    changed(lambda c: c.update(backend=rtx))
    return "does not build for it (got 3.5; expected"


def a_profile_of_another_rank():
    pytest.importorskip("tensorrt_rtx")
    shapes = {"min": [1], "opt": [8], "max": [8]}
    rtx = {"kind": "tensorrt_rtx", "profiles": {"x": shapes}}
    changed(lambda c: c.update(backend=rtx))
    return "backend.profiles.x: needs shapes of the input's rank"


CASES = [
    tensorrt_that_is_not_there,
    a_target_that_does_not_exist,
    a_profile_of_another_rank,
    no_config,
    malformed_config,
    unknown_key,
    no_model,
    no_onnx,
    truncated_model,
    missing_external_data,
    wrong_input_name,
    wrong_input_dtype,
    wrong_input_shape,
    empty_data,
    too_little_data,
    nan_in_the_data,
    nan_in_activations,
    label_out_of_range,
    classes_of_another_model,
    no_such_output,
    splits_that_overlap,
    pickled_arrays,
    no_such_array,
    unwritable_output,
    unknown_provider,
    no_such_text_column,
    a_tokenizer_of_another_model,
    no_tokenizer,
    a_builder_that_is_not_there,
]


@pytest.mark.parametrize("spoil", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_one_message_and_exit_code_2(workspace, monkeypatch, capsys, spoil):
    said = spoil()
    monkeypatch.setattr(sys, "argv", ["calib", "run", "config.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert "Traceback" not in captured.err
    left = [p for p in Path("reports").rglob("*") if p.name in ("report.html", "result.json")]
    assert left == []
    assert list(Path("reports").glob("small/*")) == []


def changed(change):
    content = config()
    change(content)
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def splits(content):
    return [content["data"]["calibration"], content["data"]["validation"]]


def rewrite(name, change):
    arrays = np.load(f"{name}.npz")
    x, label = change(arrays["x"].copy(), arrays["label"].copy())
    np.savez(f"{name}.npz", x=x, label=label)


def text_config(rows, vocabulary=50):
    """A model that embeds 50 tokens, and text for it."""
    onnx.save(models.bag_of_words(rows=50), "model.onnx")
    tokens = {"[PAD]": 0, "[UNK]": 1, **{f"t{i}": i for i in range(2, vocabulary)}}
    tokenizer = Tokenizer(WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save("tokenizer.json")
    content = config()
    for name in ("calibration", "validation"):
        own = rows[: len(rows) // 2] if name == "calibration" else rows[len(rows) // 2 :]
        Path(f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in own))
        content["data"][name] = {
            "kind": "text",
            "rows": {"kind": "file", "path": f"{name}.jsonl"},
            "tokenizer": "tokenizer.json",
            "label_column": "label",
            "inputs": ["input_ids"],
        }
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gate", "nowhere"], "holds no result.json"),
        (["gate", "broken"], "is no result that this version reads"),
        (["run", "config.yaml", "--set", "data.batch_size=none"], "data.batch_size"),
    ],
)
def test_commands_refuse_in_the_same_way(workspace, monkeypatch, capsys, arguments, said):
    Path("broken").mkdir()
    Path("broken/result.json").write_text('{"schema_version": 1}')
    monkeypatch.setattr(sys, "argv", ["calib", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
