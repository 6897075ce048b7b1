"""The sections of the page, in their order: a line here, a template and, if need be, a module."""

from calib.report.page import Section
from calib.report.sections import (
    accuracy,
    audit,
    calibration,
    environment,
    heads,
    layers,
    limits,
    ran,
    remedies,
    slices,
    speed,
    tail,
)

SECTIONS = (
    Section("limits", "Limits", limits.context),
    Section("accuracy", "Accuracy", accuracy.context),
    Section("slices", "Slices", slices.context),
    Section("heads", "Further heads", heads.context, heads.present),
    Section("tail", "Tail", tail.context),
    Section("layers", "Layers", layers.context),
    Section("ran", "What really ran", ran.context, ran.present),
    Section("remedies", "Remedies", remedies.context),
    Section("calibration", "Calibration", calibration.context),
    Section("audit", "Audit of the calibration data", audit.context),
    Section("speed", "Speed", speed.context),
    Section("environment", "Environment", environment.context),
    Section("config", "Config", environment.config),
)
