"""docs/data.md: what it shows to copy is taken as it stands."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from calib.config import load_experiment
from calib.errors import ConfigError
from data_loaders import DataSpec
from data_loaders.base import SubsetSpec
from data_loaders.rows import RowsSpec

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_what_is_shown_is_valid(block):
    content = yaml.safe_load(block)
    checked = 0
    if "data" in content:
        TypeAdapter(DataSpec).validate_python(content["data"]["calibration"])
        checked += 1
    if "rows" in content:
        TypeAdapter(RowsSpec).validate_python(content["rows"])
        checked += 1
    for split in ("calibration", "validation"):
        if split in content:
            SubsetSpec.model_validate(content[split]["subset"])
            checked += 1
    assert checked


@pytest.mark.parametrize(
    "override",
    [
        "data.calibration.storage={secret: AKIAXXX}",
        "data.calibration.path='https://me:AKIAXXX@host/a.parquet'",
        "data.calibration.path='https://host/a.parquet?X-Amz-Signature=AKIAXXX'",
    ],
)
def test_a_secret_in_an_experiment_is_refused_and_not_shown(workspace, override):
    with pytest.raises(ConfigError, match="which a run would keep with its results") as caught:
        load_experiment(Path("config.yaml"), [override])
    assert "AKIAXXX" not in str(caught.value)
