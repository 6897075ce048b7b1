"""Random subsets, which do not depend on the order of what they are drawn from."""

import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from data_loaders import DataSpec, data_set_from_spec
from data_loaders.base import SubsetSpec
from data_loaders.selecting import chosen, picked, within


def ids(count):
    return [(place, f"sample-{place}") for place in range(count)]


def test_the_same_samples_are_drawn_in_any_order():
    subset = SubsetSpec(count=40, seed=5)
    names = ids(1000)
    shuffled = [
        (place, names[i][1]) for place, i in enumerate(np.random.default_rng(0).permutation(1000))
    ]
    drawn = {names[i][1] for i in chosen(names, subset)}
    assert drawn == {shuffled[i][1] for i in chosen(shuffled, subset)}
    assert len(drawn) == 40
    assert drawn != {names[i][1] for i in chosen(names, SubsetSpec(count=40, seed=6))}


def test_draws_that_skip_each_other_share_nothing_and_cover_all():
    first, second = (
        set(chosen(ids(100), SubsetSpec(count=count, skip=skip)).tolist())
        for count, skip in ((30, 0), (1000, 30))
    )
    assert len(first) == 30
    assert first | second == set(range(100))
    assert not first & second


def test_draws_are_uniform_over_places():
    found = chosen(ids(20_000), SubsetSpec(count=2000, seed=1))
    assert stats.kstest(found / 20_000, "uniform").pvalue > 0.001
    share = chosen(ids(20_000), SubsetSpec(share=0.1, seed=1))
    assert stats.binomtest(len(share), 20_000, 0.1).pvalue > 0.001


def test_a_subset_is_drawn_of_what_skip_and_samples_leave(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(100.0, dtype=np.float32)[:, None])
    content = {"kind": "arrays", "path": tmp_path / "a.npz", "inputs": {"x": "x"}}
    content |= {"skip": 50, "samples": 40, "subset": {"count": 7, "seed": 2}}
    data = data_set_from_spec(TypeAdapter(DataSpec).validate_python(content))
    found = [int(s.inputs["x"][0]) for s in data]
    assert len(found) == 7
    assert found == sorted(found)
    assert set(found) <= set(range(50, 90))
    assert [int(s.inputs["x"][0]) for s in data.part(2, 4)] == found[2:4]


@pytest.mark.parametrize("bad", [{}, {"count": 1, "share": 0.5}, {"share": 0.5, "skip": 1}])
def test_a_subset_says_how_many(bad):
    with pytest.raises(ValidationError, match=r"give either|goes with count"):
        SubsetSpec(**bad)


def test_nothing_is_read_behind_the_last_place():
    def items():
        yield from range(5)
        raise AssertionError("read on")

    assert list(picked(items(), range(2, 5))) == [(2, 2), (3, 3), (4, 4)]
    assert list(picked(items(), np.array([1, 3]))) == [(1, 1), (3, 3)]
    assert list(picked(items(), range(0))) == []
    assert list(within(np.array([1, 5, 9]), 2, 9)) == [5]


@pytest.fixture
def texts(tmp_path):
    """A source for each loader of texts, of nine rows or sentences."""
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghi"])
    )
    lines = {
        "rows.jsonl": [{"id": f"n{c}", "text": c, "label": i} for i, c in enumerate("abcdefghi")],
        "pairs.jsonl": [{"sentence1": c, "sentence2": "a", "score": 1} for c in "abcdefghi"],
        "squad.jsonl": [{"id": c, "question": c, "context": "a b"} for c in "abcdefghi"],
        "relevance.jsonl": [{"query": "na", "document": "nb"}],
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "conll.txt").write_text("\n\n".join(f"{c} O" for c in "abcdefghi"))
    file = {name: {"kind": "file", "path": str(tmp_path / name)} for name in lines}
    corpus = {"documents": file["rows.jsonl"], "queries": file["rows.jsonl"]}
    return {
        "text": {"rows": file["rows.jsonl"], "id_column": "id"},
        "pairs": {"rows": file["pairs.jsonl"]},
        "corpus": {**corpus, "relevance": file["relevance.jsonl"]},
        "squad": {"path": str(tmp_path / "squad.jsonl")},
        "conll": {"path": str(tmp_path / "conll.txt"), "classes": ["O"]},
        "tokenizer": str(tmp_path / "vocab.txt"),
    }


@pytest.mark.parametrize(
    ("kind", "each", "always"),
    [("text", 1, 0), ("pairs", 2, 0), ("corpus", 1, 9), ("squad", 1, 0), ("conll", 1, 0)],
)
def test_every_loader_of_texts_takes_a_subset(texts, kind, each, always):
    def samples(**more):
        content = {"kind": kind, "tokenizer": texts["tokenizer"], **texts[kind], **more}
        data = data_set_from_spec(TypeAdapter(DataSpec).validate_python(content))
        return {s.id: s.digest() for s in data}

    whole, few = samples(), samples(subset={"count": 4, "seed": 1})
    assert len(few) == 4 * each + always
    assert few.items() <= whole.items()
    others = samples(subset={"count": 9, "skip": 4, "seed": 1})
    assert len(others) == 5 * each + always
    assert len(few.keys() & others.keys()) == always
    stretch = samples(skip=3, samples=2)
    assert len(stretch) == 2 * each + always
    assert stretch.items() <= whole.items()
