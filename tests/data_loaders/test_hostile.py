"""Data that somebody else made: nothing is unpacked, opened or shown that was not meant to be."""

import io
import os
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from data_loaders import DataError, arrays
from data_loaders.arrays import Arrays, ArraysSpec
from data_loaders.images import Images, ImagesSpec
from data_loaders.load import data_set_from_spec
from data_loaders.rows import FileRowsSpec, rows_from_spec


def images(folder, **more):
    return Images(ImagesSpec(path=folder, input_name="x", height=4, width=4, **more))


def png(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 10, 10)).save(path)


def bomb(path, gigabytes, claimed=None):
    """An npz of zeros: a few kilobytes a gigabyte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (claimed or 1, 1 << 20)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(int(gigabytes * 256)):
            file.write(bytes(1 << 22))


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    bomb(tmp_path / "a.npz", 0.25)
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    monkeypatch.setattr(arrays, "available_bytes", lambda: 100_000_000)
    with pytest.raises(DataError, match=r"does not fit into memory \(got arrays of 0.3 GB"):
        next(iter(Arrays(ArraysSpec(path=tmp_path / "a.npz", inputs={"x": "x"}))))


@pytest.mark.parametrize("shape", [2**50, -1, 2**63])
def test_an_array_that_claims_a_shape_it_has_not_is_refused(tmp_path, shape):
    bomb(tmp_path / "a.npz", 0, shape)
    with pytest.raises(DataError, match="cannot be read"):
        next(iter(Arrays(ArraysSpec(path=tmp_path / "a.npz", inputs={"x": "x"}))))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        (tmp_path / "x.npy").write_bytes(archive.read("x.npy"))
    for path in (tmp_path, tmp_path / "x.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            next(iter(Arrays(ArraysSpec(path=path, inputs={"x": "x"}))))


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_archive_is_one_message(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=rng.normal(size=(20, 4)).astype(np.float32))
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    spots = rng.integers(0, len(data), 12)
    data[spots] ^= rng.integers(1, 255, 12).astype(np.uint8)
    path.write_bytes(data.tobytes()[: len(data) - int(rng.integers(0, 30))])
    with suppress(DataError):  # a byte of slack between its parts may have changed
        list(Arrays(ArraysSpec(path=path, inputs={"x": "x"})))


def test_an_image_of_too_many_pixels_is_refused(tmp_path):
    png(tmp_path / "a" / "bomb.png", (20_000, 20_000))
    assert (tmp_path / "a" / "bomb.png").stat().st_size < 2_000_000
    with pytest.raises(DataError, match=r"bomb.png: is no image, or a damaged one.*exceeds limit"):
        list(images(tmp_path))


def test_only_decoders_of_images_see_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a" / "a.png").write_bytes(postscript)
    assert Image.open(io.BytesIO(postscript)).format == "EPS"
    with pytest.raises(DataError, match="is no image"):
        list(images(tmp_path))


def test_a_pipe_is_no_image(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "a.png")
    with pytest.raises(DataError, match="it is no regular file"):
        list(images(tmp_path))


@pytest.mark.parametrize("what", ["image", "folder"])
def test_a_link_out_of_the_folder_is_followed_only_if_that_is_meant(tmp_path, what):
    png(tmp_path / "private" / "secret.png")
    png(tmp_path / "set" / "cat" / "own.png")
    if what == "image":
        (tmp_path / "set" / "cat" / "z.png").symlink_to(tmp_path / "private" / "secret.png")
    else:
        (tmp_path / "set" / "dog").symlink_to(tmp_path / "private")
    with pytest.raises(DataError, match=r"leads out of the folder of images.*links: anywhere"):
        list(images(tmp_path / "set"))
    found = [sample.id for sample in images(tmp_path / "set", links="anywhere")]
    assert found == ["cat/own.png", "cat/z.png" if what == "image" else "dog/secret.png"]


def test_a_link_within_the_folder_is_fine_and_the_folder_may_be_one(tmp_path):
    png(tmp_path / "set" / "cat" / "own.png")
    (tmp_path / "set" / "cat" / "z.png").symlink_to("own.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert [s.id for s in images(tmp_path / "link")] == ["cat/own.png", "cat/z.png"]


def test_a_folder_that_links_to_itself_ends(tmp_path):
    png(tmp_path / "set" / "cat" / "own.png")
    (tmp_path / "set" / "cat" / "again").symlink_to(tmp_path / "set")
    with pytest.raises(DataError, match="is a link to a folder that it is in"):
        list(images(tmp_path / "set"))


def test_a_name_that_is_no_utf8_is_written_as_an_escape(tmp_path):
    png(tmp_path / "set" / "cat" / "own.png")
    (tmp_path / "set/cat/own.png").rename(tmp_path / os.fsdecode(b"set/cat/\xe4.png"))
    (tmp_path / "set/cat").rename(tmp_path / os.fsdecode(b"set/\xff"))
    data = images(tmp_path / "set")
    (sample,) = data
    assert sample.id == "\\udcff/\\udce4.png"
    assert data.class_names == ("\\udcff",)
    assert sample.label == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[" * 100_000),
        ("a.jsonl", '{"a":' * 100_000),
        ("a.json", '[{"a": NaN}]x'),
        ("a.csv", 'a,b\n"1,2'),
        ("a.csv", "a\n" + "x" * 200_000),
        ("a.parquet", "PAR1" * 10),
        ("a.txt", b"\xff\xfe\x00"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_rows_that_cannot_be_read_are_one_message(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=name):
        list(rows_from_spec(FileRowsSpec(path=path)))


def test_a_line_with_too_many_columns_names_those_there_are(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match="has no column 'x'"):
        list(data_set_from_spec(ArraysSpec(path=tmp_path / "a.csv", inputs={"x": "x"})))
