"""Slices hold every sample once a family; a search finds what was planted, and not what was not."""

import numpy as np
import pytest
import records

from calib.analysis.slice_search import find_slices, find_slices_by_score
from calib.analysis.slices import (
    Outcome,
    SlicesSpec,
    assignments,
    features,
    outcome,
    paired_scores,
    slice_scores,
)
from calib.errors import DataError
from calib.results import RivalAnswer
from data_loaders import Sample


def outcomes(count, lost=frozenset().__contains__, gained=frozenset().__contains__):
    return [
        Outcome(
            id=f"s{i}",
            label="ab"[i % 2],
            lost=int(lost(i)) - int(gained(i)),
            both_right=not lost(i) and not gained(i),
            flipped=lost(i) or gained(i),
            probability=0.5 + (i % 10) / 20,
        )
        for i in range(count)
    ]


def test_a_verdict_says_who_was_right():
    verdict = records.sample(reference_probability=0.75)
    found = outcome(verdict, has_classes=True)
    assert (found.lost, found.both_right, found.is_right, found.flipped) == (1, False, False, True)
    assert (found.label, found.probability, found.rival_right) == ("cat", 0.75, None)
    rival = RivalAnswer(prediction="cat", probability=0.5, margin=0.1)
    beside = verdict.model_copy(update={"fp16": rival})
    assert outcome(beside, has_classes=True).rival_right is True
    # Answers that are no classes are cut short in a verdict: no right or wrong is read from them.
    free = outcome(beside, has_classes=False)
    assert (free.label, free.rival_right, free.lost) == ("", None, 1)
    assert outcome(records.sample(label=None), has_classes=True) is None


def test_length_and_brightness_are_measured_of_the_inputs():
    text = Sample("t", {"ids": np.arange(7), "mask": np.ones(7)}, metadata={"source": "mail"})
    assert features(text) == {"length": 7.0, "source": "mail"}
    picture = Sample("p", {"x": np.full((3, 4, 5), 0.25, dtype=np.float32)})
    assert features(picture) == {"brightness": 0.25}
    named = Sample("n", {"ids": np.arange(7)}, metadata={"length": "long"})
    assert features(named) == {"length": "long"}


def test_numbers_are_put_into_ranges_of_about_equal_size_and_texts_by_value():
    known = {f"s{i}": {"length": float(i), "source": "ab"[i % 2]} for i in range(100)}
    found = assignments(known, SlicesSpec())
    assert set(found) == {"length", "source"}
    sizes = np.unique(list(found["length"].values()), return_counts=True)
    assert sorted(sizes[0]) == ["from 0 to 24", "over 24 to 49", "over 49 to 74", "over 74 to 99"]
    assert sizes[1].tolist() == [25, 25, 25, 25]
    assert found["source"]["s1"] == "b"


def test_numbers_that_are_the_same_stay_together():
    known = {f"s{i}": {"n": str(0 if i < 90 else i)} for i in range(100)}
    found = assignments(known, SlicesSpec())["n"]
    assert {found[f"s{i}"] for i in range(90)} == {"from 0 to 0"}
    assert set(found) == set(known)


def test_a_column_that_names_the_samples_slices_nothing_unless_it_is_named():
    known = {f"s{i}": {"file": f"f{i}", "same": "x"} for i in range(60)}
    assert assignments(known, SlicesSpec()) == {}
    assert len(assignments(known, SlicesSpec(by=("file",)))["file"]) == 60
    with pytest.raises(DataError, match=r"analysis\.slices\.by.*colour.*file, same"):
        assignments(known, SlicesSpec(by=("colour",)))


def test_each_family_counts_every_sample_once_whatever_their_order():
    rows = outcomes(200, lost=lambda i: i % 20 == 0, gained=lambda i: i % 50 == 1)
    known = {o.id: {"source": "xyz"[int(o.id[1:]) % 3]} for o in rows}
    spec = SlicesSpec()
    families = assignments(known, spec)
    found = slice_scores(rows, families, spec)
    assert {s.family for s in found} == {"class", "confident", "source"}
    for family in ("class", "confident", "source"):
        own = [s for s in found if s.family == family]
        assert sum(s.samples for s in own) == 200
        assert sum(s.worsened for s in own) == 10
        assert sum(s.improved for s in own) == 4
        assert sum(s.flips for s in own) == 14
        assert all(s.right + s.worsened + s.improved == s.samples for s in own)
    sure = next(s for s in found if s.name == "from 0.9 in FP32")
    assert sure.samples == 40
    assert slice_scores(rows[::-1], families, spec) == found


def test_a_rival_is_paired_on_the_samples_that_it_answered():
    rows = [
        Outcome(str(i), "a", 0, own, False, None, rival)
        for i, (rival, own) in enumerate(
            [(True, True)] * 5 + [(True, False)] * 3 + [(False, True)] * 2 + [(None, True)]
        )
    ]
    (found,) = paired_scores(rows, "fp16")
    assert (found.samples, found.right, found.worsened, found.improved) == (10, 5, 3, 2)
    assert paired_scores(rows[-1:], "fp16") == ()


def planted(seed, rate):
    """2,000 samples; of bright ones from a phone a share is lost, elsewhere 1 %."""
    rng = np.random.default_rng(seed)
    known = {
        f"s{i}": {
            "brightness": float(rng.random()),
            "source": str(rng.choice(["phone", "camera", "scan"])),
            "noise": str(rng.integers(5)),
        }
        for i in range(2000)
    }

    def lost(i):
        own = known[f"s{i}"]
        is_bad = own["source"] == "phone" and own["brightness"] > 0.7
        return rng.random() < (rate if is_bad else 0.01)

    drawn = [lost(i) for i in range(2000)]
    return outcomes(2000, lost=lambda i: bool(drawn[i])), known


def test_a_planted_slice_is_found_with_its_condition():
    rows, known = planted(0, rate=0.3)
    found = find_slices(rows, known)
    best = found[0]
    assert "source is phone" in best.condition
    assert "brightness over" in best.condition
    assert best.p_value < 1e-6
    assert best.worsened / best.samples > 5 * best.rest_worsened / best.rest_samples
    assert best.samples + best.rest_samples < 1100  # the half that the search did not see
    assert len({frozenset(s.condition.split(", ")) for s in found}) == len(found)
    assert find_slices(rows[::-1], known) == found


def test_where_nothing_was_planted_a_slice_is_seldom_found():
    found = [bool(find_slices(*planted(seed, rate=0.01))) for seed in range(20)]
    assert sum(found) <= 4  # 0.05 each: more have a chance of 1 in 400


def test_a_few_losses_are_not_searched():
    assert find_slices(outcomes(50, lost=lambda i: i < 3), {}) == ()


def scored(losses, known):
    return [
        Outcome(name, "", 0, both_right=False, flipped=False, score_lost=float(loss))
        for name, loss in zip(known, losses, strict=True)
    ]


def surroundings(seed, count=600):
    rng = np.random.default_rng(seed)
    known = {
        f"s{i}": {"source": str(rng.choice(["phone", "scan"])), "brightness": float(rng.random())}
        for i in range(count)
    }
    return rng, known


def test_a_slice_whose_scores_fall_is_found_by_them():
    rng, known = surroundings(1)
    losses = rng.normal(0, 1, len(known))
    bad = [own["source"] == "phone" and own["brightness"] > 0.6 for own in known.values()]
    losses[bad] += 2.0
    rows = scored(losses, known)
    found = find_slices_by_score(rows, known, "mean IoU of the picture")
    assert "source is phone" in found[0].condition
    assert "brightness over" in found[0].condition
    assert found[0].loss > 1.5 > 0.2 > found[0].rest_loss
    assert found[0].score == "mean IoU of the picture"
    assert find_slices_by_score(rows[::-1], known, "mean IoU of the picture") == found
    # An answer that is no number is worse than all others, and breaks nothing.
    rows = scored(np.where(bad, np.inf, losses), known)
    best = find_slices_by_score(rows, known, "")[0]
    assert "source is phone" in best.condition
    assert np.isfinite(best.loss)


def test_where_no_scores_fall_a_slice_is_seldom_found():
    found = 0
    for seed in range(30):
        rng, known = surroundings(seed)
        found += bool(find_slices_by_score(scored(rng.normal(0, 1, len(known)), known), known, ""))
    assert found <= 5  # 0.05 each: more have a chance of 1 in 400


def test_what_moves_a_little_everywhere_in_a_slice_is_no_finding():
    rng, known = surroundings(2, 4000)
    losses = rng.normal(0, 1, len(known))
    losses += [0.15 * (own["source"] == "phone") for own in known.values()]
    assert find_slices_by_score(scored(losses, known), known, "") == ()


def test_the_figure_of_a_slice_is_asked_of_its_samples_alone():
    rows = outcomes(40)
    known = {o.id: {"source": "xy"[int(o.id[1:]) % 2]} for o in rows}
    spec = SlicesSpec(by=("source",))
    asked = []

    def figure(ids):
        asked.append(sorted(ids))

    slice_scores(rows, assignments(known, spec), spec, figure)
    assert asked == [sorted(f"s{i}" for i in range(k, 40, 2)) for k in (0, 1)]
