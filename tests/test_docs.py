"""The Python in the documents runs as it is printed."""

import re

import pytest
from conftest import ROOT


@pytest.mark.parametrize("name", ["docs/calibration.md"])
def test_python_examples_run(name):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {})
