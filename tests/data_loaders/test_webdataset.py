"""WebDataset's archives: what becomes of their members, and of those that mean harm."""

import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import TypeAdapter

from data_loaders import DataError, DataSpec, data_set_from_spec, scan
from data_loaders.rows import rows_from_spec
from data_loaders.webdataset import WebDatasetRowsSpec


def archive(path, members, mode="w"):
    """An archive of (name, bytes)."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def png(value, size=(6, 4)):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def members(numbers):
    for n in numbers:
        yield f"a/{n:03d}.seg.npy", npy(np.full((2, 2), n, np.int64))
        yield f"a/{n:03d}.PNG", png(n)
        yield f"a/{n:03d}.cls", f"{n % 3}\n".encode()
        yield f"a/{n:03d}.json", json.dumps({"source": f"ü{n}", "x": [n, n]}).encode()
        yield f"a/{n:03d}.txt", f"text {n}".encode()


def rows(path):
    return list(rows_from_spec(WebDatasetRowsSpec(path=path)))


def data(**spec):
    return data_set_from_spec(TypeAdapter(DataSpec).validate_python(spec))


def pictures(path, **more):
    return data(
        kind="image_rows",
        rows={"kind": "webdataset", "path": str(path)},
        input_name="x",
        height=4,
        width=6,
        label_column="cls",
        slice_columns=["json.source"],
        **more,
    )


@pytest.fixture
def shards(tmp_path):
    archive(tmp_path / "train-000.tar", members(range(5)))
    archive(tmp_path / "train-001.tar", members(range(5, 9)))
    return tmp_path


def test_members_of_one_key_are_a_row(shards):
    first = rows(shards / "train-000.tar")[0]
    assert first["__key__"] == "a/000"
    assert first["cls"] == 0
    assert first["txt"] == "text 0"
    assert first["json.source"] == "ü0"
    assert first["image"] == first["png"] == {"bytes": png(0), "path": None}
    np.testing.assert_array_equal(first["seg.npy"], np.zeros((2, 2), np.int64))


def test_pictures_labels_and_slices_come_out_of_all_shards(shards, server):
    found = list(pictures(shards / "train-*.tar"))
    assert [s.id for s in found][4:6] == ["train-000.tar/a/004", "train-001.tar/a/005"]
    assert [s.label for s in found] == [n % 3 for n in range(9)]
    assert found[7].metadata == {"json.source": "ü7"}
    np.testing.assert_allclose(found[7].inputs["x"][0], 7 / 255, rtol=1e-6)
    remote = list(pictures(f"{server.url}/train-{{000..001}}.tar"))
    assert [s.digest() for s in remote] == [s.digest() for s in found]
    assert [s.id for s in remote] == [s.id for s in found]
    reordered = shards / "other"
    reordered.mkdir()
    archive(reordered / "train-000.tar", [*members([4]), *members([2, 0, 1, 3])])
    (shards / "train-001.tar").rename(reordered / "train-001.tar")
    assert scan(pictures(reordered), "data").sha256 == scan(remote, "data").sha256


def test_arrays_and_texts_of_archives_are_inputs_too(shards):
    source = {"kind": "webdataset", "path": str(shards)}
    inputs = {"kind": "columns", "rows": source, "label": "seg.npy"}
    found = list(data(**inputs, inputs={"x": "json.x"}))[3]
    np.testing.assert_array_equal(found.inputs["x"], np.float32([3, 3]))
    np.testing.assert_array_equal(found.label, np.full((2, 2), 3))
    assert found.id == "train-000.tar/a/003"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_archives_may_be_compressed(tmp_path, shards, kind):
    whole = (shards / "train-000.tar").read_bytes()
    path = tmp_path / f"packed.tar.{kind}"
    if kind == "zst":
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(whole)
    else:
        archive(path, members(range(5)), f"w:{kind}")
    assert [s.digest() for s in pictures(path)] == [
        s.digest() for s in pictures(shards / "train-000.tar")
    ]
    torn = path.read_bytes()
    path.write_bytes(torn[: len(torn) // 2])
    with pytest.raises(DataError, match=r"packed.tar.\w+.*(incomplete|cannot be read)"):
        list(pictures(path))


def test_a_part_and_a_subset_of_archives_read_only_their_members(shards, monkeypatch):
    whole = [s.id for s in pictures(shards)]
    assert [s.id for s in pictures(shards).part(3, 7)] == whole[3:7]
    drawn = [s.id for s in pictures(shards, subset={"count": 3, "seed": 1})]
    assert len(drawn) == 3
    assert drawn == [name for name in whole if name in drawn]
    reads = []
    from data_loaders import webdataset

    plain = webdataset._values
    monkeypatch.setattr(webdataset, "_values", lambda f, w: reads.append(f.key) or plain(f, w))
    list(pictures(shards, skip=7))
    assert set(reads) == {"a/007", "a/008"}


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1600, 2048])
def test_an_archive_that_is_cut_anywhere_is_an_error(tmp_path, cut):
    path = archive(tmp_path / "a.tar", [("1.txt", b"x" * 600), ("2.txt", b"y" * 100)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a.tar.*(damaged or incomplete|no end mark)"):
        rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../evil.txt", b"x", "leads out of the archive"),
        ("/etc/evil.txt", b"x", "leads out of the archive"),
        ("1.pyd", pickle.dumps(1), "is a pickle, which can run code"),
        ("1.pth", pickle.dumps(1), "is a pickle, which can run code"),
        ("1.npy", npy(np.array([{}], object)), "is no array: it holds objects"),
        ("1.npy", npy(np.zeros(3))[:-1], "is no array.*is not in 23 bytes"),
        (
            "1.npy",
            npy(np.zeros(3)).replace(b"(3,), }        ", b"(30000000000,)}"),
            "30000000000.*is not in 24 bytes",
        ),
        ("1.npz", b"PK", "is no npz"),
        ("1.json", b"[" * 100_000, "is no JSON"),
        ("1.txt", b"\xff\xfe", "is no text"),
        ("1\x1b[2J.json", b"{", r"1\\x1b\[2J.json: is no JSON"),
    ],
)
def test_a_member_that_means_harm_is_one_message(tmp_path, name, content, message):
    path = archive(tmp_path / "a.tar", [("0.txt", b"fine"), (name, content)])
    with pytest.raises(DataError, match=message) as caught:
        rows(path)
    assert "a.tar" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("1.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match=r"a.tar, 1.txt: is no plain file"):
        rows(path)


def test_sizes_that_are_only_claimed_take_no_memory(tmp_path):
    info = tarfile.TarInfo("1.txt")
    info.size = 2**33
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 4096)
    with pytest.raises(DataError, match=r"1.txt: is too large: 8,589,934,592 bytes"):
        rows(tmp_path / "a.tar")
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (tmp_path / "b.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 4096)
    with pytest.raises(DataError, match="a header claims 8,589,934,592 bytes"):
        rows(tmp_path / "b.tar")


def test_a_bomb_of_an_npz_is_not_unpacked(tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros(1000, np.uint8), y=np.zeros(10, np.uint8))
    content = bytearray(stream.getvalue())
    # The directory claims 2 GB.
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    path = archive(tmp_path / "a.tar", [("1.npz", bytes(content))])
    with pytest.raises(DataError, match=r"1.npz: is no npz: it unpacks to"):
        rows(path)


def test_what_lacks_or_is_ambiguous_is_told_with_the_sample(shards):
    path = shards / "b.tar"
    archive(path, [("k.jpg", png(1)), ("k.png", png(1)), ("k.cls", b"1"), ("k.json", b"{}")])
    with pytest.raises(DataError, match=r"b.tar, k: .*'image' \(image is none: jpg, png\)"):
        list(pictures(path))
    with pytest.raises(DataError, match=r"b.tar, k: has no column 'json.source'.*jpg, png, cls"):
        list(pictures(path, image_column="jpg"))
    archive(path, [("k.txt", b"a"), ("k.txt", b"b")])
    with pytest.raises(DataError, match=r"k.txt: is there twice"):
        rows(path)
    archive(path, [("k.cls", b"1"), ("l.cls", b"1"), ("k.cls", b"1")])
    with pytest.raises(DataError, match="two samples have the same id"):
        list(
            data(
                kind="columns",
                rows={"kind": "webdataset", "path": str(path)},
                inputs={"x": "cls"},
            )
        )


def test_names_without_a_key_are_passed_over(tmp_path):
    extra = [("README", b"x"), ("._1.txt", b"x"), (".hidden", b"x"), ("d.v1/1.txt", b"in a folder")]
    found = rows(archive(tmp_path / "a.tar", extra))
    assert [(row["__key__"], row["txt"]) for row in found] == [("d.v1/1", "in a folder")]


def test_a_command_is_not_run(tmp_path):
    with pytest.raises(DataError, match="is a command, and none is run"):
        rows(f"pipe:touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()


def test_archives_behind_each_other_do_not_pass_for_the_first(shards):
    both = shards / "both.tar"
    both.write_bytes(b"".join((shards / f"train-00{n}.tar").read_bytes() for n in range(2)))
    with pytest.raises(DataError, match=r"both.tar.*goes on behind its end mark"):
        rows(both)


@pytest.mark.parametrize("size", ["-5120", str(2**40), "x"])
def test_sizes_of_extended_headers_are_not_believed_either(tmp_path, size):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("1.txt")
        info.pax_headers = {"size": size}
        info.size = 4
        tar.addfile(info, io.BytesIO(b"text"))
        tar.addfile(tarfile.TarInfo("2.txt"))
    with pytest.raises(DataError, match=r"a.tar"):
        rows(path)


def test_headers_without_end_are_one_message(tmp_path):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 0
    (tmp_path / "a.tar").write_bytes(header.tobuf() * 5000)
    with pytest.raises(DataError, match=r"a.tar"):
        rows(tmp_path / "a.tar")
