"""Remedies one after another, each kept where the model's output says that it helps."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from calib.graph.qdq import Corrections
from calib.graph.selection_spec import RemedyName
from calib.remedies.equalization import Extremes, Options, as_it_is, best, choices
from calib.remedies.quantized_input import Equalized
from calib.stages.build import Built, Plan, Source, biased, build, settled
from calib.stages.mixed import Mixed, Search
from calib.stages.panel import OutputError
from calib.store import digest_from_key

_GAIN_DB = 0.1
"""What a remedy must give to be kept: less is the noise of the samples it was judged on."""
_SIDE_CHANNELS = 8
_SIDE_SHARE_MAX = 0.03
"""Of an activation's channels: beyond it the float path costs what INT8 saves."""


@dataclass(frozen=True, slots=True)
class Step:
    """One remedy tried on what was kept before it.

    Attributes:
        name: e.g. equalize.
        what: a sentence for the report.
        parts: what a config allowed for it.
        plan: with it.
        found: the corrections that belong to the plan.
        error: at the model's scores.
        kept: whether it went on from here.
        nodes: operators of the rewritten model.
        size_bytes: its constants.
    """

    name: str
    what: str
    parts: tuple[RemedyName, ...]
    plan: Plan
    found: Corrections
    error: OutputError
    kept: bool
    nodes: int
    size_bytes: int


def climb(source: Source, search: Search) -> tuple[Step, ...]:
    """Try every remedy in turn; the last step that was kept is the result."""
    found = _choices(source)
    plain = Plan({tensor: options[0] for tensor, options in found.items()})
    nothing = Remedy("as it is", (), "the nearest codes, one scale a tensor", lambda plan: plan)
    steps = [_step(source, search, nothing, plain, [])]
    asked = source.spec.remedies
    for remedy in remedies(found):
        if asked != "auto" and not set(remedy.parts) <= set(asked):
            continue
        if search.stopped():
            break
        last = last_kept(steps)
        plan = settled(source, remedy.change(last.plan), plain.equalized)
        if all(plan != step.plan for step in steps):
            steps.append(_step(source, search, remedy, plan, steps))
    return tuple(steps)


def climb_on(source: Source, search: Search, steps: tuple[Step, ...], mixed: Mixed) -> Step | None:
    """The remedies that were not kept, once more beside what is now left in float.

    Noise that a group left in float made no longer hides what they give. None if none is kept.
    """
    first = now = last_kept(steps)
    where = f"mixed {digest_from_key(mixed.floats)}"

    def error_of(plan: Plan, found: Corrections, name: str) -> OutputError:
        partly = build(source, replace(plan, floats=mixed.floats), found)
        return judged(search, partly, f"{where}/{name}")

    error = error_of(now.plan, now.found, "as it is")
    for step in steps:
        if step.kept or search.stopped():
            continue
        plan, found = step.plan, step.found
        if plan.rounding != now.plan.rounding == "gptq":
            plan = replace(plan, rounding="gptq", correct_bias=True)
            if any(plan == other.plan for other in steps):
                continue  # its turn comes
            found = build(source, plan).found
        after = error_of(plan, found, step.name)
        if after.is_below(error, _GAIN_DB):
            name = f"{step.name}, once more"
            now = replace(step, name=name, plan=plan, found=found, error=after, kept=True)
            error = after
    return None if now is first else now


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of plan.

    Attributes:
        name: for the report.
        parts: what a config has to allow for it.
        what: a sentence for the report.
        change: what it makes of a plan.
    """

    name: str
    parts: tuple[RemedyName, ...]
    what: str
    change: Callable[[Plan], Plan]


def remedies(found: Mapping[str, tuple[Equalized, ...]]) -> tuple[Remedy, ...]:
    """Every remedy, in the order in which they are tried.

    Args:
        found: the choices of each activation.
    """

    def chosen(plan: Plan, *, shift: bool, side: bool) -> Plan:
        picked = {t: best(c, scale=True, shift=shift, side=side) for t, c in found.items()}
        return replace(plan, equalized=picked)

    return (
        Remedy(
            "equalize",
            ("equalize",),
            "a factor for each channel, taken back by the weights",
            lambda plan: chosen(plan, shift=False, side=False),
        ),
        Remedy(
            "correct biases",
            ("correct_biases",),
            "the mean error of each output channel, taken off its bias",
            lambda plan: replace(plan, correct_bias=True),
        ),
        Remedy(
            "shift channels",
            ("shift_channels",),
            "a shift of each channel by a whole number of steps, so that both signs are used",
            lambda plan: chosen(plan, shift=True, side=False),
        ),
        Remedy(
            "channels aside",
            ("channels_aside",),
            f"the {_SIDE_CHANNELS} channels with the widest weights through a small float MatMul",
            lambda plan: chosen(plan, shift=_shifts(plan), side=True),
        ),
        Remedy(
            "round together",
            ("round_together",),
            "weights rounded so that their errors cancel over the inputs (GPTQ)",
            lambda plan: replace(plan, rounding="gptq", correct_bias=True),
        ),
        Remedy(
            "shift again",
            ("shift_channels", "round_together"),
            "the shift of each channel, where rounding the weights together carries it",
            lambda plan: chosen(plan, shift=True, side=_sides(plan)),
        ),
    )


def _step(source: Source, search: Search, remedy: Remedy, plan: Plan, before: list[Step]) -> Step:
    way = "/".join(step.name for step in before if step.kept)
    built = build(source, plan)
    error = judged(search, built, f"{way}/{remedy.name}")
    graph = built.graph.graph
    constants = (value.const_value for value in graph.initializers.values())
    return Step(
        remedy.name,
        remedy.what,
        remedy.parts,
        plan,
        built.found,
        error,
        not before or error.is_below(last_kept(before).error, _GAIN_DB),
        len(graph),
        sum(constant.nbytes for constant in constants if constant is not None),
    )


def judged(search: Search, built: Built, name: str) -> OutputError:
    """The error of the INT8 model, from the journal or measured now."""

    def run() -> list[float]:
        found = search.panel.judge(built.int8())
        search.advance(found.samples)
        return [found.noise, found.changed, found.samples, *found.by_sample]

    noise, changed, samples, *by_sample = search.journal.once(name, run)
    return OutputError(noise, int(changed), int(samples), np.array(by_sample))


def _shifts(plan: Plan) -> bool:
    return any(choice.offset is not None for choice in plan.equalized.values())


def _sides(plan: Plan) -> bool:
    return any(choice.side for choice in plan.equalized.values())


def _choices(source: Source) -> dict[str, tuple[Equalized, ...]]:
    addable = biased(source.graph)
    with ThreadPoolExecutor(source.threads) as pool:
        tensors = list(source.fitted.samples)
        found = pool.map(lambda tensor: _tried(source, tensor, addable), tensors)
        return dict(zip(tensors, found, strict=True))


def _tried(source: Source, tensor: str, addable: frozenset[str]) -> tuple[Equalized, ...]:
    sample = source.fitted.samples[tensor]
    nodes = [linear for linear in source.linears.values() if linear.tensor == tensor]
    readers = list(source.readers(tensor).values())
    extremes = Extremes(*sample.expected)
    unsigned = source.spec.layout == "native"
    if any(linear.pads is None for linear in nodes):
        return (as_it_is(extremes, readers, unsigned=unsigned),)
    plain = all(not linear.kernel for linear in nodes)
    few = len(sample.low) * _SIDE_SHARE_MAX >= _SIDE_CHANNELS
    options = Options(
        # A convolution pads with zeros, which a shift would move.
        shift=all(not linear.is_padded and linear.node in addable for linear in nodes),
        side=_SIDE_CHANNELS if plain and few else 0,
        unsigned=unsigned,
    )
    return choices(extremes, readers, options)


def last_kept(steps: Sequence[Step]) -> Step:
    """Where the steps led to; the first is always kept."""
    return next(step for step in reversed(steps) if step.kept)
