"""Which points are proposed: each once, the same for a seed, and on from where it was."""

import pytest

from calib.errors import StoreError
from calib.specs.sweep import AxisSpec, SweepSpec
from calib.sweep.space import Space
from calib.sweep.study import Study

SPACE = Space(
    {
        "a": AxisSpec(low=0.0, high=1.0),
        "b": AxisSpec(values=("x", "y", "z")),
        "c": AxisSpec(low=1, high=64, int=True, log=True),
    }
)
SMALL = Space({"b": AxisSpec(values=("x", "y")), "c": AxisSpec(low=1, high=3, int=True)})


def objectives(point):
    """Something with a front, in place of a run."""
    a = float(point.get("a", 0.5))
    return a, (1 - a) ** 2 + 0.01 * int(point["c"]) + "xyz".index(point["b"])


def carry_on(study, until=10**6, jobs=1):
    """The points that are tried, in their order."""
    found = []
    while len(found) < until and (proposals := study.propose(jobs)):
        for proposal in proposals:
            study.finish(proposal, f"run-{proposal.number}", 1.0, objectives(proposal.point))
            found.append(proposal.point)
    return found


def study(folder, sampler, trials=14, space=SPACE, name="study.journal", **options):
    spec = SweepSpec(sampler=sampler, trials=trials, seed=options.pop("seed", 0))
    return Study(folder / name, "key", spec, space, **options)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sweep_that_was_broken_off_proposes_what_it_would_have_proposed(tmp_path, sampler):
    whole = carry_on(study(tmp_path, sampler, name="whole.journal"))
    assert len(whole) == len({tuple(p.items()) for p in whole}) == 14
    first = study(tmp_path, sampler)
    parts = carry_on(first, until=6)
    lost = first.propose(1)[0]  # running when it was killed
    again = study(tmp_path, sampler)
    assert [done.point for done in again.done] == parts
    parts += carry_on(again)
    assert parts == whole
    assert lost.point == whole[6]
    other = carry_on(study(tmp_path, sampler, seed=1, name="other.journal"))
    assert other != whole


def test_what_counts_generations_goes_on_and_repeats_nothing(tmp_path):
    first = study(tmp_path, "nsga2")
    points = carry_on(first, until=6)
    first.propose(1)
    points += carry_on(study(tmp_path, "nsga2"))
    assert len({tuple(p.items()) for p in points}) == len(points) == 14


@pytest.mark.parametrize("sampler", ["grid", "tpe", "nsga2", "random"])
def test_a_small_space_is_tried_whole_and_each_point_once(tmp_path, sampler):
    found = carry_on(study(tmp_path, sampler, space=SMALL, trials=24 if sampler != "grid" else 6))
    assert sorted(map(str, found)) == sorted(map(str, SMALL.points()))


def test_several_at_once_are_the_same_set_where_nothing_is_learned(tmp_path):
    one = carry_on(study(tmp_path, "random", name="one.journal"))
    two = carry_on(study(tmp_path, "random", name="two.journal"), jobs=3)
    assert one == two


def test_what_failed_is_tried_again_by_the_next_sweep_and_not_by_this_one(tmp_path):
    first = study(tmp_path, "grid", space=SMALL)
    broken = first.propose(1)[0]
    first.fail(broken)
    assert broken.point not in carry_on(first)
    assert carry_on(study(tmp_path, "grid", space=SMALL)) == [broken.point]


def test_more_trials_go_on_and_a_restart_begins_anew(tmp_path):
    first = carry_on(study(tmp_path, "random", trials=4))
    more = study(tmp_path, "random", trials=6)
    assert len(carry_on(more)) == 2
    assert len(more.done) == 6
    anew = study(tmp_path, "random", trials=4, restart=True)
    assert not anew.done
    assert anew.since >= more.since
    assert carry_on(anew) == first


def test_another_space_has_trials_of_its_own_and_the_same_beginning(tmp_path):
    first = study(tmp_path, "grid", space=SMALL)
    carry_on(first)
    other = study(tmp_path, "random")
    assert not other.done
    assert other.since == first.since


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    first = study(tmp_path, "random", trials=4)
    points = carry_on(first, until=3)
    file = tmp_path / "study.journal"
    file.write_bytes(file.read_bytes() + b'{"op_code":4,"work')
    again = study(tmp_path, "random", trials=4)
    assert [done.point for done in again.done] == points
    carry_on(again)
    assert len(study(tmp_path, "random", trials=4).done) == 4


def test_a_file_that_is_no_storage_is_refused(tmp_path):
    (tmp_path / "study.journal").write_text("nothing of the kind", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be used as the storage"):
        study(tmp_path, "random")
