"""Remedies one after another, each kept where the model's output says that it helps."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from calib.remedies.equalization import Equalized, Extremes, Options, as_it_is, best, choices
from calib.stages.build import Built, Plan, Source, biased, build
from calib.stages.panel import OutputError, Panel

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
        plan: with it.
        built: the same, carried out.
        error: at the model's outputs.
        kept: whether it went on from here.
    """

    name: str
    what: str
    plan: Plan
    built: Built
    error: OutputError
    kept: bool


def climb(source: Source, panel: Panel) -> tuple[Step, ...]:
    """Try every remedy in turn; the last step that was kept is the result."""
    found = _choices(source)
    plain = Plan({tensor: options[0] for tensor, options in found.items()})
    steps = [_step(source, panel, "as it is", "the nearest codes, one scale a tensor", plain, None)]

    def chosen(plan: Plan, *, shift: bool, side: bool) -> Plan:
        picked = {t: best(c, scale=True, shift=shift, side=side) for t, c in found.items()}
        return replace(plan, equalized=picked)

    remedies: tuple[tuple[str, str, Callable[[Plan], Plan]], ...] = (
        (
            "equalize",
            "a factor for each channel, taken back by the weights",
            lambda plan: chosen(plan, shift=False, side=False),
        ),
        (
            "correct biases",
            "the mean error of each output channel, taken off its bias",
            lambda plan: replace(plan, correct_bias=True),
        ),
        (
            "shift channels",
            "a shift of each channel by a whole number of steps, so that both signs are used",
            lambda plan: chosen(plan, shift=True, side=False),
        ),
        (
            "channels aside",
            f"the {_SIDE_CHANNELS} channels with the widest weights through a small float MatMul",
            lambda plan: chosen(plan, shift=_shifts(plan), side=True),
        ),
        (
            "round together",
            "weights rounded so that their errors cancel over the inputs (GPTQ)",
            lambda plan: replace(plan, rounding="gptq", correct_bias=True),
        ),
    )
    for name, what, change in remedies:
        last = next(step for step in reversed(steps) if step.kept)
        plan = change(last.plan)
        if plan != last.plan:
            steps.append(_step(source, panel, name, what, plan, last.error))
    return tuple(steps)


def _step(
    source: Source, panel: Panel, name: str, what: str, plan: Plan, before: OutputError | None
) -> Step:
    built = build(source, plan)
    error = panel.judge(built.int8())
    kept = before is None or error.is_below(before, _GAIN_DB)
    return Step(name, what, plan, built, error, kept)


def _shifts(plan: Plan) -> bool:
    return any(choice.offset is not None for choice in plan.equalized.values())


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
    if any(linear.pads is None for linear in nodes):
        return (as_it_is(extremes, readers),)
    plain = all(not linear.kernel for linear in nodes)
    few = len(sample.low) * _SIDE_SHARE_MAX >= _SIDE_CHANNELS
    options = Options(
        # A convolution pads with zeros, which a shift would move.
        shift=all(not linear.is_padded and linear.node in addable for linear in nodes),
        side=_SIDE_CHANNELS if plain and few else 0,
    )
    return choices(extremes, readers, options)


def kept(steps: tuple[Step, ...]) -> Iterator[Step]:
    """The steps that were kept, in their order."""
    return (step for step in steps if step.kept)
