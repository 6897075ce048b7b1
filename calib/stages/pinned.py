"""What mixed precision chose, as settings that can be reviewed, pinned and changed by hand."""

import glob

from calib.settings import to_yaml
from calib.stages.improve import Remedied

_COMMENT = """What was done for INT8's accuracy. To pin it, put this into the experiment.
In float, with the SQNR in dB that each makes alone in INT8 and its share of the work:"""


def pinned(remedied: Remedied) -> str:
    """YAML: the experiment's `quantization`: remedies that were kept, nodes left in float."""
    record, spec = remedied.record, remedied.spec
    groups = [group for group in record.groups if group.in_float]
    lines = [
        f"  {group.name}: {group.alone_db or 0:.1f} dB, {group.macs_pct:.2f} %" for group in groups
    ]
    nodes = [glob.escape(node) for group in groups for node in group.nodes]
    settings = spec.model_dump(mode="json", exclude_defaults=True)
    parts = dict.fromkeys(part for step in record.steps if step.kept for part in step.parts)
    settings |= {
        "remedies": list(parts) or "none",
        "mixed_precision": "none",
        "exclude": [*spec.exclude, *nodes],
    }
    return to_yaml({"quantization": settings}, "\n".join([_COMMENT, *(lines or ["  nothing"])]))
