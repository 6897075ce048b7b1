import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pytrec_eval import RelevanceEvaluator
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    jaccard_score,
    r2_score,
)
from sklearn.metrics import (
    f1_score as label_f1,
)

from calib.errors import DataError
from calib.tasks import kind_from_spec
from calib.tasks.answers import QuestionAnsweringSpec, word_f1
from calib.tasks.boxes import corners_from_columns, overlaps, thinned_out
from calib.tasks.classification import ClassificationSpec
from calib.tasks.embedding import EmbeddingSpec
from calib.tasks.multilabel import MultiLabelSpec
from calib.tasks.recognition import TextRecognitionSpec
from calib.tasks.regression import RegressionSpec
from calib.tasks.retrieval import RetrievalSpec
from calib.tasks.segmentation import SegmentationSpec
from calib.tasks.similarity import SimilaritySpec
from calib.tasks.tagging import TokenClassificationSpec, entities
from data_loaders.targets import AnswersTarget, PairTarget, RelevanceTarget
from data_loaders.types import Sample


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def summary(kind, cases):
    """The metrics of (outputs, sample) pairs."""
    return kind.summarise([judged(kind, *case).statistics for case in cases])


def judged(kind, outputs, sample):
    return kind.compare(kind.answer(outputs, sample), kind.target(sample))


def test_classification_is_accuracy_and_balanced_accuracy(rng):
    scores, labels = rng.normal(size=(200, 5)), rng.integers(0, 5, 200)
    kind = kind_from_spec(ClassificationSpec(), ["logits"])
    cases = [
        ({"logits": row}, Sample(str(i), {}, int(label)))
        for i, (row, label) in enumerate(zip(scores, labels, strict=True))
    ]
    found = summary(kind, cases)
    said = scores.argmax(axis=1)
    assert found["accuracy_pct"] == pytest.approx(100 * (said == labels).mean(), abs=1e-9)
    expected = 100 * balanced_accuracy_score(labels, said)
    assert found["macro_recall_pct"] == pytest.approx(expected, abs=1e-9)


def test_an_answer_that_is_not_finite_is_wrong_and_says_so():
    kind = kind_from_spec(ClassificationSpec(), ["logits"])
    sample = Sample("a", {}, 0)
    answer = kind.answer({"logits": np.array([1.0, np.nan])}, sample)
    assert kind.words(answer) == "not finite"
    assert kind.compare(answer, 0).is_right is False
    assert kind.compare(answer, 0).score == -np.inf


def test_segmentation_is_the_jaccard_score_of_the_pixels_that_count(rng):
    truth = rng.integers(0, 4, (6, 12, 9))
    truth[rng.random(truth.shape) < 0.1] = 255
    scores = rng.normal(size=(6, 4, 12, 9))
    kind = kind_from_spec(SegmentationSpec(), ["out"], ["a", "b", "c", "d"])
    cases = [
        ({"out": s}, Sample(str(i), {}, t))
        for i, (s, t) in enumerate(zip(scores, truth, strict=True))
    ]
    counted = truth != 255
    said = scores.argmax(axis=1)[counted]
    found = summary(kind, cases)
    expected = 100 * jaccard_score(truth[counted], said, average="macro")
    assert found["miou_pct"] == pytest.approx(expected, abs=1e-9)
    expected = 100 * label_f1(truth[counted], said, average="macro")
    assert found["dice_pct"] == pytest.approx(expected, abs=1e-9)


def test_a_mask_of_another_size_is_met_by_the_nearest_pixel():
    kind = kind_from_spec(SegmentationSpec(class_axis=None), ["out"])
    small = np.array([[0, 1], [2, 3]])
    sample = Sample("a", {}, np.kron(small, np.ones((3, 4), dtype=int)))
    assert judged(kind, {"out": small.astype(np.float32)}, sample).score == 100


def test_one_channel_is_a_threshold():
    kind = kind_from_spec(SegmentationSpec(threshold=0.5), ["out"])
    sample = Sample("a", {}, np.array([[0, 1], [1, 0]]))
    assert judged(kind, {"out": np.array([[[0.1, 0.9], [0.6, 0.5]]])}, sample).score == 100


def test_entities_are_seqevals(rng):
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
    true = rng.integers(0, 7, (40, 15))
    said = np.where(rng.random(true.shape) < 0.3, rng.integers(0, 7, true.shape), true)
    kind = kind_from_spec(TokenClassificationSpec(), ["logits"], tags)
    cases, names = [], []
    for index, (t, s) in enumerate(zip(true, said, strict=True)):
        ignored = rng.random(15) < 0.2
        label = np.where(ignored, -100, t)
        cases.append(({"logits": np.eye(7)[s]}, Sample(str(index), {}, label)))
        names.append(([tags[k] for k in t[~ignored]], [tags[k] for k in s[~ignored]]))
    expected = classification_report(
        [t for t, _ in names],
        [s for _, s in names],
        mode="strict",
        scheme=IOB2,
        output_dict=True,
        zero_division=0,
    )["micro avg"]
    found = summary(kind, cases)
    assert found["entity_f1_pct"] == pytest.approx(100 * expected["f1-score"], abs=1e-9)
    assert found["entity_precision_pct"] == pytest.approx(100 * expected["precision"], abs=1e-9)
    assert found["entity_recall_pct"] == pytest.approx(100 * expected["recall"], abs=1e-9)
    assert f1_score([["B-A"]], [["B-A"]], mode="strict", scheme=IOB2) == 1.0
    assert entities(["I-PER", "B-PER", "I-PER", "I-LOC"]) == [("PER", 1, 3)]


@pytest.mark.parametrize(
    ("said", "accepted", "f1"),
    [
        ("the cat", "a Cat!", 1.0),
        ("black cat", "cat", 2 / 3),
        ("", "", 1.0),
        ("", "cat", 0.0),
        ("dog", "cat", 0.0),
        ("cat cat", "cat", 2 / 3),
    ],
)
def test_words_of_an_answer_count_as_in_squad(said, accepted, f1):
    assert word_f1(said, accepted) == pytest.approx(f1)


def answers_sample(answers):
    context = "Ada wrote programs in London."
    offsets = [[-1, -1], [-1, -1], [0, 3], [4, 9], [10, 18], [19, 21], [22, 28], [28, 29]]
    return Sample("q", {}, AnswersTarget(context, answers, np.array(offsets)))


def span(first, last, tokens=8):
    return {
        "start_logits": np.eye(tokens)[first] * 5,
        "end_logits": np.eye(tokens)[last] * 5,
    }


def test_a_span_is_read_from_the_context_and_never_from_the_question():
    kind = kind_from_spec(QuestionAnsweringSpec(), ["start_logits", "end_logits"])
    sample = answers_sample(("London", "in London"))
    assert kind.answer(span(6, 6), sample) == "London"
    found = judged(kind, span(5, 6), sample)
    assert (found.score, found.is_right) == (100.0, True)
    assert kind.answer(span(1, 1), sample) != ""
    backwards = kind.answer(span(6, 4), sample)
    assert backwards in sample.label.context


def test_no_answer_wins_only_by_the_threshold():
    sample = answers_sample(())
    outputs = {name: values + np.eye(8)[0] * 5.5 for name, values in span(6, 6).items()}
    sure = kind_from_spec(QuestionAnsweringSpec(no_answer=True), [])
    assert judged(sure, outputs, sample).is_right is True
    slow = kind_from_spec(QuestionAnsweringSpec(no_answer=True, no_answer_threshold=2), [])
    assert judged(slow, outputs, sample).is_right is False


def test_multi_label_is_scikit_learns(rng):
    scores = rng.normal(size=(80, 6)).round(1)
    true = rng.random((80, 6)) < 0.3
    true[:, 5] = False
    kind = kind_from_spec(MultiLabelSpec(), ["out"])
    cases = [
        ({"out": s}, Sample(str(i), {}, t.astype(int)))
        for i, (s, t) in enumerate(zip(scores, true, strict=True))
    ]
    found = summary(kind, cases)
    said = scores > 0
    assert found["micro_f1_pct"] == pytest.approx(100 * label_f1(true, said, average="micro"))
    occurs = true[:, :5], said[:, :5]
    assert found["macro_f1_pct"] == pytest.approx(100 * label_f1(*occurs, average="macro"))
    expected = 100 * average_precision_score(true[:, :5], scores[:, :5], average="macro")
    assert found["label_map_pct"] == pytest.approx(expected, abs=1e-9)


def edit_distance(first, second):
    """Wagner and Fischer's table."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        row, above = [i], row
        for j, b in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def test_text_is_read_by_ctc_and_held_against_the_label_by_edits(rng):
    letters = "abc "
    kind = kind_from_spec(TextRecognitionSpec(characters=letters), ["out"])
    cases, edits, length = [], 0, 0
    for index in range(40):
        steps = rng.integers(0, 5, 20)
        said = "".join(
            letters[k - 1] for i, k in enumerate(steps) if k and (i == 0 or k != steps[i - 1])
        )
        label = "".join(rng.choice(list(letters), 12))
        edits, length = edits + edit_distance(said, label), length + 12
        cases.append(({"out": np.eye(5)[steps]}, Sample(str(index), {}, label)))
        assert kind.answer(*cases[-1]) == said
    assert summary(kind, cases)["cer_pct"] == pytest.approx(100 * edits / length, abs=1e-9)


def test_the_blank_may_come_last():
    kind = kind_from_spec(TextRecognitionSpec(characters="ab", blank=-1), ["out"])
    assert kind.answer({"out": np.eye(3)[[2, 0, 0, 2, 0, 1]]}, Sample("a", {})) == "aab"


def test_retrieval_is_trec_evals(rng):
    documents, queries = rng.normal(size=(30, 8)), rng.normal(size=(12, 8))
    kind = kind_from_spec(RetrievalSpec(at=10), ["out"])
    corpus = [
        ({"out": v}, Sample(f"d{i}", {}, RelevanceTarget(key=f"d{i}")))
        for i, v in enumerate(documents)
    ]
    asked, relevance, run = [], {}, {}
    for index, vector in enumerate(queries):
        grades = {f"d{k}": int(rng.integers(1, 4)) for k in rng.choice(30, 5, replace=False)}
        asked.append(({"out": vector}, Sample(f"q{index}", {}, RelevanceTarget(grades=grades))))
        relevance[f"q{index}"] = grades
        cosine = documents @ vector / np.linalg.norm(documents, axis=1)
        run[f"q{index}"] = {f"d{k}": float(c) for k, c in enumerate(cosine)}
    kind.collect(iter([*corpus, *asked]))
    found = summary(kind, asked)
    each = RelevanceEvaluator(relevance, {"recall.10", "ndcg_cut.10"}).evaluate(run)
    for name, theirs in (("recall_pct", "recall_10"), ("ndcg_pct", "ndcg_cut_10")):
        expected = 100 * np.mean([q[theirs] for q in each.values()])
        assert found[name] == pytest.approx(expected, abs=1e-9)


def test_similarity_is_scipys_correlation(rng):
    kind = kind_from_spec(SimilaritySpec(), ["out"])
    cases, cosines, judgements = [], [], []
    for index in range(30):
        first, second = rng.normal(size=(2, 5))
        likeness = float(rng.integers(0, 6))
        for side, vector in enumerate((first, second)):
            label = PairTarget(f"p{index}", likeness)
            cases.append(({"out": vector}, Sample(f"{index}-{side}", {}, label)))
        cosines.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
        judgements.append(likeness)
    kind.collect(iter(cases))
    found = summary(kind, [case for case in cases if kind.is_judged(case[1])])
    assert found["spearman_pct"] == pytest.approx(
        100 * spearmanr(cosines, judgements).statistic, abs=1e-9
    )
    assert found["pearson_pct"] == pytest.approx(
        100 * pearsonr(cosines, judgements).statistic, abs=1e-9
    )


def test_regression_is_scikit_learns_r2_and_counts_the_outputs_that_differ(rng):
    true = 300 + rng.normal(size=60)
    said = np.round(true)
    kind = kind_from_spec(RegressionSpec(), ["out"])
    cases = [
        ({"out": np.array([s])}, Sample(str(i), {}, float(t)))
        for i, (s, t) in enumerate(zip(said, true, strict=True))
    ]
    found = summary(kind, cases)
    assert found["r2"] == pytest.approx(r2_score(true, said), abs=1e-9)
    assert found["distinct_pct"] == pytest.approx(100 * len(set(said)) / 60)


def test_an_embedding_has_no_label_but_fp32s_own():
    kind = kind_from_spec(EmbeddingSpec(), ["out"])
    sample = Sample("a", {}, 3)
    assert kind.target(sample) is None
    first = kind.answer({"out": np.array([1.0, 2.0])}, sample)
    second = kind.answer({"out": np.array([2.0, 1.0])}, sample)
    assert kind.compare(second, kind.target_from_answer(first)).score == pytest.approx(0.8)


def test_padding_is_left_out_of_a_mean_even_where_it_is_no_number():
    kind = kind_from_spec(EmbeddingSpec(pooling="mean"), ["out"])
    sample = Sample("a", {"attention_mask": np.array([1, 1, 0])})
    vector = kind.answer({"out": np.array([[1.0, 0], [0, 1], [np.nan, 9]])}, sample)
    np.testing.assert_allclose(vector, np.sqrt([0.5, 0.5]))


def test_overlap_and_thinning_out_are_as_others_have_them(rng):
    corner = rng.uniform(0, 80, (40, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (40, 2))])
    crowd = rng.random(15) < 0.3
    as_coco = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    expected = coco_mask.iou(as_coco, as_coco[:15], crowd.astype(np.uint8).tolist())
    np.testing.assert_allclose(overlaps(boxes, boxes[:15], crowd), expected, atol=1e-12)
    scores, classes = rng.random(40), rng.integers(0, 2, 40)
    kept = thinned_out(boxes, scores, classes, 0.3)
    left = list(np.argsort(-scores))
    by_hand = []
    while left:
        best = left.pop(0)
        by_hand.append(best)
        left = [
            i
            for i in left
            if classes[i] != classes[best] or overlaps(boxes[[best]], boxes[[i]])[0, 0] <= 0.3
        ]
    assert kept.tolist() == by_hand


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("x1", "y1", "x2", "y2"), [1, 2, 5, 8]),
        (("y1", "x1", "y2", "x2"), [2, 1, 8, 5]),
        (("x", "y", "w", "h"), [1, 2, 4, 6]),
        (("cx", "cy", "w", "h"), [3, 5, 4, 6]),
    ],
)
def test_boxes_of_every_form_are_the_same_corners(names, values):
    assert corners_from_columns(np.array([values]), names).tolist() == [[1, 2, 5, 8]]


@pytest.mark.parametrize(
    ("spec", "outputs", "label"),
    [
        (ClassificationSpec(), {"out": np.zeros((3, 4))}, 1),
        (SegmentationSpec(), {"out": np.zeros(4)}, None),
        (TokenClassificationSpec(), {"out": np.zeros(4)}, None),
        (TextRecognitionSpec(characters="abc"), {"out": np.zeros((5, 9))}, "abc"),
        (SimilaritySpec(), {"out": np.zeros((3, 4))}, PairTarget("p", 1.0)),
        (RegressionSpec(output="other"), {"out": np.zeros(4)}, 1.0),
    ],
)
def test_outputs_of_another_form_are_refused_by_the_samples_name(spec, outputs, label):
    kind, sample = kind_from_spec(spec, ["out"]), Sample("s1", {}, label)
    with pytest.raises(DataError, match="sample s1"):
        kind.collect([(outputs, sample)]) if hasattr(kind, "collect") else kind.answer(
            outputs, sample
        )
