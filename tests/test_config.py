"""What a YAML file may say, and what is said about a wrong one."""

from pathlib import Path

import pytest
import yaml
from small import ROOT, config

from calib.config import experiment_schema, load_experiment, load_limits
from calib.errors import ConfigError


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_in_the_repository_is_valid_and_says_what_it_asks(path):
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert experiment.description
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# yaml-language-server: $schema=experiment.schema.json")
    assert lines[2].startswith("# ")


def written(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
    return path


def message(tmp_path, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_experiment(written(tmp_path, text), overrides)
    return str(caught.value)


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path):
    content = config()
    content["limits"] = {"accuracy_drop_point_max": 1}
    said = message(tmp_path, content)
    assert "e.yaml: limits.accuracy_drop_point_max: unknown key" in said
    assert "did you mean accuracy_drop_points_max?" in said


def test_every_wrong_field_is_named_with_what_was_got(tmp_path):
    content = config()
    content["data"]["batch_size"] = 0
    content["task"] = {"kind": "clasification"}
    del content["model"]
    said = message(tmp_path, content)
    assert "model: is required and missing" in said
    assert "data.batch_size: input should be greater than or equal to 1 (got 0)" in said
    assert "task: " in said
    assert "clasification" in said


def test_list_items_are_named_by_their_number(tmp_path):
    content = config()
    content["calibration"]["calibrators"][1] = {"kind": "percentile", "percentile": 101}
    said = message(tmp_path, content)
    assert "calibration.calibrators[1]" in said
    assert "(got 101)" in said


def test_a_key_given_twice_is_refused_where_the_second_stands(tmp_path):
    said = message(tmp_path, "name: a\nname: b\n")
    assert "e.yaml:2:1" in said
    assert "'name' is given twice" in said


def test_anchors_and_merges_may_override_what_they_merge(tmp_path):
    path = written(tmp_path, "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n")
    with pytest.raises(ConfigError, match="a: unknown key"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "is no valid YAML"),
        ("just a sentence", "holds no settings"),
        ("", "holds no settings"),
        ("name: !!python/object:os.system {}", "is no valid YAML"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused(tmp_path, text, said):
    assert said in message(tmp_path, text)


def test_a_missing_file_is_refused_with_one_of_a_like_name(tmp_path):
    written(tmp_path, config())
    with pytest.raises(ConfigError, match=r"there is no such file.*Did you mean .*e\.yaml"):
        load_experiment(tmp_path / "ee.yaml")


def test_overrides_replace_values_lists_items_and_defaults(tmp_path):
    path = written(tmp_path, config())
    experiment = load_experiment(
        path,
        [
            "data.batch_size=4",
            "calibration.calibrators.0.levels=64",
            "engines.rest=[fp32, fp16]",
            "limits.judge=int8-minmax-fp16",
        ],
    )
    assert experiment.data.batch_size == 4
    assert experiment.calibration.calibrators[0].levels == 64
    assert experiment.candidate_names == (
        "fp16",
        "int8-entropy-fp32",
        "int8-entropy-fp16",
        "int8-minmax-fp32",
        "int8-minmax-fp16",
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.batch_size", "needs path=value"),
        ("name.first=x", "lies below a plain value"),
        ("calibration.calibrators.7.levels=64", "no such list item"),
        ("data.batch_size=[1", "is no YAML value"),
        ("data.batch=4", "did you mean batch_size?"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, override, said):
    assert said in message(tmp_path, config(), override)


def test_two_candidates_of_one_name_are_refused(tmp_path):
    content = config()
    content["calibration"]["calibrators"] = [{"kind": "entropy"}, {"kind": "entropy", "levels": 64}]
    assert "int8-entropy" in message(tmp_path, content)


def test_a_judge_that_no_run_of_this_config_can_have_is_refused_before_the_run(tmp_path):
    said = message(tmp_path, config(), "limits.judge=int8-maxmin")
    assert "int8-maxmin" in said
    assert "int8-minmax" in said


def test_classes_of_one_name_are_refused(tmp_path):
    content = config()
    content["data"]["validation"]["classes"] = ["cat", "dog", "cat"]
    assert "two classes have the same name: cat" in message(tmp_path, content)


def test_limits_are_read_alone_or_out_of_an_experiment(tmp_path):
    alone = load_limits(written(tmp_path, {"flips_pct_max": 3}))
    whole = load_limits(written(tmp_path, {**config(), "limits": {"flips_pct_max": 3}}))
    assert alone == whole
    assert alone.flips_pct_max == 3


def test_the_schema_knows_every_config_of_the_repository():
    schema = experiment_schema()
    assert schema["additionalProperties"] is False
    for path in (ROOT / "configs").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) <= set(schema["properties"])


def test_generated_documents_are_up_to_date():
    namespace = {"__file__": str(ROOT / "docs" / "generate.py"), "__name__": "generate"}
    source = (ROOT / "docs" / "generate.py").read_text(encoding="utf-8")
    exec(compile(source, namespace["__file__"], "exec"), namespace)
    assert Path(ROOT / "docs" / "config.md").read_text() == namespace["config_page"]()
    gate = (ROOT / "docs" / "gate.md").read_text()
    assert gate == namespace["gate_page"](gate)
    verdict = (ROOT / "docs" / "verdict.schema.json").read_text(encoding="utf-8")
    assert namespace["verdict_schema_file"]() == verdict, "run `make docs`"
    evaluation = (ROOT / "docs" / "evaluation.schema.json").read_text(encoding="utf-8")
    assert namespace["evaluation_schema_file"]() == evaluation, "run `make docs`"
    schema = (ROOT / "configs" / "experiment.schema.json").read_text()
    assert schema == namespace["schema_file"]()


@pytest.mark.parametrize("digits", ["1" + "0" * 30, "0x" + "f" * 4000, "0b" + "1" * 20000])
def test_an_integer_that_no_setting_has_is_refused_where_it_stands(tmp_path, digits, capfd):
    path = tmp_path / "c.yaml"
    path.write_text(f"calibration:\n  calibrators:\n  - kind: {digits}\n")
    with pytest.raises(ConfigError, match=r"c.yaml:3:11.*beyond 64 bits"):
        load_experiment(path)
    assert capfd.readouterr().err == ""
