"""What went on beside the engines while they were timed."""

from pydantic import Field

from calib.record import Record


class LoadRecord(Record):
    """The machine between two readings; None where it does not tell."""

    seconds: float
    cores: int = Field(description="Processors that this process may use.")
    own_cores: float = Field(description="Of them, how many it used itself, on average.")
    other_cores: float | None = Field(description="How many other processes used of them.")
    stolen_cores: float | None = Field(
        description="Virtual machines: how many the hypervisor gave to others."
    )
    preemptions: int | None = Field(description="Involuntary context switches of this process.")
    throttled_seconds: float | None = Field(
        description="How long the quota of a control group (container) held it back."
    )
    heat_events: int | None = Field(
        description="How often the processor slowed itself down for heat."
    )
    clock_mhz: tuple[float, float] | None = Field(
        description="Fastest of the processors' clocks at both readings."
    )


class PointRecord(Record):
    """One operating point: all engines were timed at it in turns."""

    batch_size: int
    threads: int | None
    load: LoadRecord


class SpeedRecord(Record):
    """How far the latencies of a run can be relied on."""

    points: tuple[PointRecord, ...]
    warnings: tuple[str, ...] = ()
