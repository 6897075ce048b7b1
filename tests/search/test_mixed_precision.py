"""What is left in float, on made-up noises whose best answer is known."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.search.mixed_precision import Goal, leave_in_float

MACS = {"wide": 900, "narrow": 40, "free": 0, "quiet": 60}
NOISE = {"wide": 1e-3, "narrow": 8e-3, "free": 1e-3, "quiet": 1e-8}


def added_up(noise):
    return lambda floats: sum(v for group, v in noise.items() if group not in floats)


def search(goal, measure=None, tries=100, **options):
    return leave_in_float(MACS, NOISE, measure or added_up(NOISE), goal, tries, **options)


def test_the_group_with_the_most_noise_for_the_least_work_goes_first():
    assert search(Goal(noise=9.5e-3, free=0.0, most=0.5)).floats == {"free"}
    assert search(Goal(noise=2.5e-3, free=0.0, most=0.5)).floats == {"free", "narrow"}


def test_nothing_is_left_in_float_beyond_the_share_allowed():
    found = search(Goal(noise=0.0, free=0.0, most=0.05))
    assert found.floats == {"free", "narrow"}


def test_work_that_costs_little_is_left_in_float_below_the_goal_too():
    found = search(Goal(noise=1.0, free=0.05, most=0.5))
    assert found.floats == {"free", "narrow"}


def test_a_group_that_only_seemed_noisy_stays_in_int8():
    found = search(Goal(noise=1e-9, free=0.05, most=1.0), measure=lambda _: 1e-2)
    assert found.floats == frozenset()


def test_a_group_that_hardly_makes_noise_is_not_even_tried():
    found = search(Goal(noise=0.0, free=0.0, most=0.2))
    assert not [trial for trial in found.trials if "quiet" in trial.floats]


def test_the_best_so_far_is_returned_when_the_tries_are_used_up():
    found = search(Goal(noise=0.0, free=1.0, most=1.0), tries=2)
    assert len(found.trials) == 2
    assert found.noise == min(trial.noise for trial in found.trials)
    assert found.noise == pytest.approx(added_up(NOISE)(found.floats))


def test_the_best_so_far_is_returned_when_somebody_wants_it():
    measured = []

    def measure(floats):
        measured.append(floats)
        return added_up(NOISE)(floats)

    found = search(Goal(2.5e-3, most=1.0), measure, stopped=lambda: len(measured) >= 1)
    assert measured == [frozenset()]
    assert found.floats == frozenset()


def test_a_long_list_of_groups_takes_a_few_measurements():
    macs = {f"group {number:03}": 1 for number in range(300)}
    noise = {name: 1.0 / (1 + number) for number, name in enumerate(macs)}
    measure = added_up(noise)
    found = leave_in_float(macs, noise, measure, Goal(measure(frozenset()) / 2, 0.0, 1.0), 100)
    assert len(found.trials) < 20
    assert found.noise <= measure(frozenset()) / 2
    assert measure(found.floats - {max(found.floats)}) > measure(frozenset()) / 2


def test_what_the_goal_can_do_without_goes_back_to_int8():
    noise = {"wide": 5e-3, "narrow": 8e-3, "free": 0.0, "quiet": 0.0}

    def measure(floats):
        # Once narrow is in float, wide makes no noise any more: it was amplified by it.
        left = noise["narrow"] if "narrow" not in floats else 0.0
        return left + (noise["wide"] if floats.isdisjoint({"narrow", "wide"}) else 0.0)

    macs = {"wide": 100, "narrow": 200, "free": 0, "quiet": 700}
    found = leave_in_float(macs, noise, measure, Goal(7e-3, free=0.0, most=0.5), 100)
    assert found.floats == {"narrow"}


def test_where_the_goal_is_out_of_reach_the_least_noise_measured_is_taken():
    found = search(Goal(noise=0.0, free=0.0, most=0.2))
    assert found.noise == min(trial.noise for trial in found.trials)
    assert found.floats == {"free", "narrow"}


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.tuples(st.integers(0, 1000), st.floats(0, 1)),
        min_size=1,
    ),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_result_is_what_was_measured_and_never_worse_than_all_int8(groups, free, most):
    macs = {name: work for name, (work, _) in groups.items()}
    noise = {name: value for name, (_, value) in groups.items()}
    measure = added_up(noise)
    found = leave_in_float(macs, noise, measure, Goal(0.1, free, max(free, most)), 50)
    assert found.noise == pytest.approx(measure(found.floats))
    assert found.noise <= measure(frozenset()) + 1e-12
    spent = sum(macs[name] for name in found.floats)
    assert spent <= max(free, most) * max(sum(macs.values()), 1) + 1e-6
