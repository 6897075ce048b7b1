"""Opening a split of the config."""

from calib.config import Experiment
from calib.graph.load import Model
from calib.stages.scanning import scanned
from calib.stages.splits import Origin, Split
from calib.stages.workbench import Workbench
from data_loaders import FiniteSamples


def open_split(
    experiment: Experiment, name: str, model: Model, bench: Workbench | None = None
) -> Split:
    """A split of the config, read once, in the types that the model takes.

    Args:
        experiment: has the split.
        name: calibration or validation.
        model: whose inputs it is for.
        bench: has workers to share the reading; None: this process alone.

    Raises:
        DataError: if it is empty or cannot be used.
    """
    settings = experiment.data
    drop = settings.non_finite == "drop"
    dtypes = {spec.name: spec.dtype for spec in model.record.inputs}
    origin = Origin(getattr(settings, name), dtypes, drop)
    data = origin.unfiltered()
    found, origin = scanned(bench, origin, data, f"data.{name}")
    return Split(
        data=FiniteSamples(data) if drop else data,
        batch_size=settings.batch_size,
        origin=origin,
        scan=found,
    )
