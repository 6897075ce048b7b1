import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_loaders import DataError
from data_loaders.load import DataSpec, data_set_from_spec
from data_loaders.pictures import PictureSpec, frame_from_size, prepared
from data_loaders.targets import PairTarget, RelevanceTarget


def open_set(**spec):
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python(spec))


@pytest.fixture
def tokenizer(tmp_path):
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "who", "wrote", "ada", "in", "london", "did"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


SIDES = {"input_name": "image", "height": 64, "width": 96}


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, 200 by 100: one with a red box from (50, 20) to (90, 80)."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = Image.new("RGB", (200, 100))
    image.save(folder / "empty.png")
    ImageDraw.Draw(image).rectangle((50, 20, 89, 79), fill=(255, 0, 0))
    image.save(folder / "red.png")
    return folder


@pytest.mark.parametrize("resize", ["stretch", "fit_pad", "center_crop"])
@pytest.mark.parametrize("pad_at", ["both", "end"])
def test_a_box_of_the_input_goes_back_to_where_it_is_in_the_picture(pictures, resize, pad_at):
    spec = PictureSpec(**SIDES, resize=resize, pad_at=pad_at)
    _, array, frame = prepared(Image.open(pictures / "red.png"), spec)
    assert array.shape == (3, 64, 96)
    rows, columns = np.nonzero(array[0] > 0.5)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=float)
    expected = np.array([[50, 20, 90, 80]], dtype=float)
    # To a pixel of the input.
    np.testing.assert_allclose(
        frame.undo(box), expected, atol=1.01 / min(frame.scale_x, frame.scale_y)
    )


def test_a_picture_of_one_row_is_cropped_without_being_made_gigantic():
    spec = PictureSpec(**SIDES, resize="center_crop")
    assert frame_from_size(spec, 60_000, 1).scale_x == 64
    seen, _, _ = prepared(Image.new("RGB", (60_000, 1)), spec)
    assert seen.size == (96, 64)


def coco(pictures, tmp_path, **changes):
    content = {
        "images": [{"id": 7, "file_name": "red.png"}, {"id": 9, "file_name": "empty.png"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {
                "image_id": 7,
                "category_id": 18,
                "bbox": [50, 20, 40, 60],
                "area": 2000,
                "iscrowd": 0,
            },
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    } | changes
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return {"kind": "coco", "images": pictures, "annotations": path, **SIDES}


def test_coco_is_read_with_its_gaps_in_categories_closed(pictures, tmp_path):
    data = open_set(**coco(pictures, tmp_path))
    assert data.class_names == ("cat", "dog")
    first, second = data
    assert first.id == "red.png"
    assert first.label.boxes.tolist() == [[50, 20, 90, 80], [0, 0, 9, 9]]
    assert first.label.classes.tolist() == [1, 0]
    assert first.label.crowd.tolist() == [False, True]
    assert first.label.areas.tolist() == [2000, 81]
    assert len(second.label.boxes) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "none"}, "no list of images"),
        ({"annotations": [{"image_id": 7}]}, "no list of annotations"),
        (
            {"annotations": [{"image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1]}]},
            "cannot be read",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, -1, 1]}]},
            "has no size",
        ),
        ({"images": [{"id": 7, "file_name": "../annotations.json"}]}, "leads out"),
        ({"images": [{"id": 7, "file_name": "other.png"}]}, "no such picture"),
    ],
)
def test_annotations_that_fit_nothing_are_refused(pictures, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        list(open_set(**coco(pictures, tmp_path, **changes)))


def test_yolo_is_the_same_boxes_as_coco(pictures, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "red.txt").write_text("1 0.35 0.5 0.2 0.6\n")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    data = open_set(
        kind="yolo", images=pictures, labels=labels, names=tmp_path / "data.yaml", **SIDES
    )
    empty, red = data
    assert data.class_names == ("cat", "dog")
    np.testing.assert_allclose(red.label.boxes, [[50, 20, 90, 80]])
    assert len(empty.label.boxes) == 0
    (labels / "red.txt").write_text("2 0.35 0.5 0.2 0.6\n")
    with pytest.raises(DataError, match="none of the names"):
        list(data)
    (labels / "red.txt").write_text("1 0.35\n")
    with pytest.raises(DataError, match="something else than boxes"):
        list(data)


@pytest.fixture
def masks(pictures, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in pictures.iterdir():
        red = np.asarray(Image.open(path))[..., 0] > 0
        mask = Image.fromarray(np.where(red, 2, 0).astype(np.uint8), mode="L")
        if path.stem == "red":
            mask = mask.convert("P")
        mask.save(folder / path.name)
    return folder


@pytest.mark.parametrize("resize", ["stretch", "fit_pad", "center_crop"])
def test_a_mask_lies_where_its_picture_lies(pictures, masks, resize):
    data = open_set(kind="masks", images=pictures, masks=masks, **SIDES, resize=resize)
    _, red = data
    assert red.label.shape == (64, 96)
    assert set(np.unique(red.label)) <= {0, 2, 255}
    agree = (red.inputs["image"][0] > 0.5) == (red.label == 2)
    assert agree.mean() > 0.97


def test_masks_that_fit_nothing_are_refused(pictures, masks):
    spec = {"kind": "masks", "images": pictures, "masks": masks, **SIDES}
    with pytest.raises(DataError, match="of no class"):
        list(open_set(**spec, classes=["a", "b"]))
    two = list(open_set(**spec, classes=["a", "b"], values={0: 0, 2: 1}))[1]
    assert set(np.unique(two.label)) == {0, 1}
    Image.new("RGB", (200, 100)).save(masks / "red.png")
    with pytest.raises(DataError, match="no mask of its picture"):
        list(open_set(**spec))
    (masks / "red.png").unlink()
    with pytest.raises(DataError, match="no such mask"):
        list(open_set(**spec))


def test_lines_of_text_have_their_text_as_label(pictures, tmp_path):
    (tmp_path / "lines.tsv").write_text("file\ttext\tfont\nred.png\tRed \u00e9\tserif\n")
    spec = {"kind": "text_images", "images": pictures, "table": tmp_path / "lines.tsv", **SIDES}
    (sample,) = open_set(**spec, slice_columns=["font"], channels="gray")
    assert sample.label == "Red \u00e9"
    assert sample.metadata == {"font": "serif"}
    assert sample.inputs["image"].shape == (1, 64, 96)


CONLL = "-DOCSTART- O\n\nada B-PER\nwrote O\nin O\nlondon B-LOC\n\nwho O\n"


def test_tags_are_on_the_words_first_pieces(tmp_path, tokenizer):
    (tmp_path / "tags.txt").write_text(CONLL)
    spec = {"kind": "conll", "path": tmp_path / "tags.txt", "tokenizer": tokenizer}
    first, second = open_set(**spec, classes=["O", "B-PER", "I-PER", "B-LOC"])
    assert first.label.tolist() == [-100, 1, 0, 0, 3, -100]
    assert second.label.tolist() == [-100, 0, -100]
    assert first.preview.text == "ada wrote in london"
    with pytest.raises(DataError, match="none of the classes"):
        list(open_set(**spec, classes=["O", "B-PER"]))
    with pytest.raises(DataError, match="no numbers"):
        open_set(**spec)


SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "ada wrote in london",
                    "qas": [
                        {
                            "id": "a",
                            "question": "who wrote",
                            "answers": [{"text": "ada", "answer_start": 0}],
                        },
                        {"id": "b", "question": "who did", "answers": []},
                    ],
                }
            ]
        }
    ]
}


def test_questions_know_which_characters_each_token_stands_for(tmp_path, tokenizer):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD))
    first, second = open_set(kind="squad", path=path, tokenizer=tokenizer)
    context = first.label.context
    inside = [context[a:b] for a, b in first.label.offsets if a >= 0]
    assert inside == ["ada", "wrote", "in", "london"]
    assert first.label.answers == ("ada",)
    assert second.label.answers == ()
    assert second.metadata == {"answerable": "no", "context cut": "no"}
    cut, _ = open_set(kind="squad", path=path, tokenizer=tokenizer, max_length=7)
    assert cut.metadata["context cut"] == "yes"


@pytest.mark.parametrize("answers", ['{"text": ["ada"]}', '["ada"]', '"ada"', '[{"text": "ada"}]'])
def test_rows_of_questions_are_as_good_as_squads_own_file(tmp_path, tokenizer, answers):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "who", "context": "ada", "answers": {answers}}}\n')
    (sample,) = open_set(kind="squad", path=path, tokenizer=tokenizer)
    assert sample.label.answers == ("ada",)


def test_each_half_of_a_pair_is_a_sample(tmp_path, tokenizer):
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\nada wrote,who wrote,3.5\n")
    rows = {"kind": "file", "path": tmp_path / "pairs.csv"}
    first, second = open_set(kind="pairs", rows=rows, tokenizer=tokenizer)
    assert first.label == second.label == PairTarget("pair-000000", 3.5)
    assert first.inputs["input_ids"].tolist() == [1, 6, 5, 2]
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\nada,who,much\n")
    with pytest.raises(DataError, match="no number"):
        list(open_set(kind="pairs", rows=rows, tokenizer=tokenizer))


def test_a_corpus_is_documents_then_queries(tmp_path, tokenizer):
    for name, text in (
        ("documents", "id,text\nd1,ada wrote\nd2,in london\n"),
        ("queries", "id,text\nq1,who wrote\n"),
        ("relevance", "query,document,grade\nq1,d1,2\n"),
    ):
        (tmp_path / f"{name}.csv").write_text(text)
    files = {
        name: {"kind": "file", "path": tmp_path / f"{name}.csv"}
        for name in ("documents", "queries", "relevance")
    }
    found = list(open_set(kind="corpus", tokenizer=tokenizer, grade_column="grade", **files))
    assert [s.label for s in found] == [
        RelevanceTarget(key="d1"),
        RelevanceTarget(key="d2"),
        RelevanceTarget(grades={"d1": 2}),
    ]
