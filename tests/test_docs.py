"""The Python in the documents runs as it is printed."""

import re

import pytest
import yaml
from small import ROOT


@pytest.mark.parametrize("name", ["docs/calibration.md"])
def test_python_examples_run(name):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {})


def test_the_pipelines_of_the_document_on_the_gate_are_yaml_and_name_real_files():
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    assert all(yaml.safe_load(block)["int8" if "script:" in block else "jobs"] for block in blocks)
    for path in set(re.findall(r"configs/\w+\.yaml", page)):
        assert (ROOT / path).is_file()
    assert (ROOT / "docs" / "verdict.schema.json").is_file()
