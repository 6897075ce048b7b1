"""Bundles as folders and as tars: whole or not at all, the same bytes, once more nothing."""

import errno
import hashlib
import json
import os
import subprocess
import tarfile
from functools import partial
from io import BufferedWriter
from pathlib import Path

import pytest
from promotable_runs import attested, copied, key_pair, snapshot

from calib.errors import ConfigError, StoreError
from calib.promotion import bundle
from calib.promotion.promotable import Request, promotable
from calib.promotion.target import TargetOptions
from calib.promotion.targets import open_target


@pytest.fixture(scope="session")
def package(passed_run):
    return promotable(Request(run=passed_run))


def place(kind, folder):
    at = folder / "places" / ("b.tar" if kind == "tar" else "served")
    return open_target(f"{kind}:{at}", TargetOptions()), at


KINDS = pytest.mark.parametrize("kind", ["directory", "tar"])


def contents(kind, at, folder):
    """The files in a bundle by name, a tar's taken out by another program."""
    if kind == "tar":
        (folder / "taken").mkdir()
        subprocess.run(["tar", "-xf", at, "-C", folder / "taken"], check=True)
        at = folder / "taken"
    (inner,) = at.glob("*/*")
    return inner, {name: data for name, data in snapshot(inner).items() if data is not None}


@KINDS
def test_a_bundle_holds_the_judged_bytes_and_says_so(kind, package, tmp_path):
    target, at = place(kind, tmp_path)
    assert [line.split()[0] for line in target.plan(package)] == ["write"]
    assert not at.parent.exists()
    assert [line.split()[0] for line in target.promote(package)] == ["wrote"]
    inner, files = contents(kind, at, tmp_path)
    sha256 = package.candidate.model_sha256
    assert (inner.parent.name, inner.name) == ("small", sha256[:12])
    assert hashlib.sha256(files["model.onnx"]).hexdigest() == sha256
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["model_sha256"] == sha256
    assert manifest["verdict"] == "PASS"
    listed = {f["name"]: (f["sha256"], f["size"]) for f in manifest["files"]}
    found = {n: (hashlib.sha256(data).hexdigest(), len(data)) for n, data in files.items()}
    assert listed == found
    assert {"scales.json", "session.json", "verdict.json", "model_card.md"} <= set(found)
    assert "warmup.npz" not in found  # samples stay where they are


@KINDS
def test_once_more_changes_nothing(kind, package, tmp_path):
    target, at = place(kind, tmp_path)
    target.promote(package)
    before = {p: p.stat().st_mtime_ns for p in [at, *at.parent.rglob("*")]}
    assert target.plan(package) == target.promote(package) == ()
    assert {p: p.stat().st_mtime_ns for p in [at, *at.parent.rglob("*")]} == before


@KINDS
def test_from_another_folder_come_the_same_bytes(kind, passed_run, package, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, one = place(kind, tmp_path / "a")
    first.promote(package)
    elsewhere = copied(passed_run, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "b")
    second, two = place(kind, tmp_path / "b")
    second.promote(promotable(Request(run=elsewhere)))
    if kind == "tar":
        assert one.read_bytes() == two.read_bytes()
    else:
        assert snapshot(one) == snapshot(two)


@KINDS
def test_new_evidence_of_a_model_takes_the_old_ones_place(kind, passed_run, package, tmp_path):
    target, at = place(kind, tmp_path)
    target.promote(package)
    run = copied(passed_run, tmp_path / "run")
    attested(run, key_pair(tmp_path))
    signed = promotable(Request(run=run))
    assert [line.split()[0] for line in target.plan(signed)] == ["replace"]
    assert [line.split()[0] for line in target.promote(signed)] == ["replaced"]
    assert "run.intoto.jsonl" in contents(kind, at, tmp_path)[1]
    assert target.promote(signed) == ()
    assert [p.name for p in at.parent.iterdir()] == [at.name]


@KINDS
def test_what_is_no_bundle_of_this_name_stays(kind, package, tmp_path):
    target, at = place(kind, tmp_path)
    taken = at if kind == "tar" else at / "small" / package.model.sha256[:12] / "mine"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    for ask in (target.plan, target.promote):
        with pytest.raises(StoreError, match="is there already"):
            ask(package)
    assert taken.read_bytes() == b"mine"


def test_a_tar_of_another_name_stays_too(passed_run, package, tmp_path):
    target, at = place("tar", tmp_path)
    target.promote(promotable(Request(run=passed_run, name="other")))
    before = at.read_bytes()
    with pytest.raises(StoreError, match="no bundle of small"):
        target.promote(package)
    assert at.read_bytes() == before


@KINDS
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("failing", ["copy", "rename"])
def test_a_disk_that_fills_half_way_leaves_all_as_it_was(
    kind, replaces, failing, passed_run, package, tmp_path, monkeypatch
):
    target, _ = place(kind, tmp_path)
    if replaces:
        run = copied(passed_run, tmp_path / "run")
        attested(run, key_pair(tmp_path))
        target.promote(promotable(Request(run=run)))
    before = snapshot(tmp_path)
    calls = []
    rename = "replace" if kind == "tar" else "rename"
    last = 2 if failing == "copy" or (kind == "directory" and replaces) else 1

    def fails(*arguments, real):
        if isinstance(arguments[-1], BufferedWriter | str | Path):  # what is written to a disk
            calls.append(arguments)
        if len(calls) == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    if failing == "copy":
        fake = partial(fails, real=bundle.copy_checked)
        monkeypatch.setattr(f"calib.promotion.{kind}.copy_checked", fake)
    else:
        monkeypatch.setattr(os, rename, partial(fails, real=getattr(os, rename)))
    with pytest.raises(StoreError, match="cannot be written"):
        target.promote(package)
    assert len(calls) >= last
    monkeypatch.undo()
    assert snapshot(tmp_path) == before
    assert target.promote(package)


@KINDS
def test_a_file_that_changes_meanwhile_is_not_promoted(kind, passed_run, tmp_path):
    run = copied(passed_run, tmp_path / "run")
    found = promotable(Request(run=run))
    scales = run / "models/int8-minmax/scales.json"
    content = scales.read_bytes()
    scales.write_bytes(content.replace(b"0", b"1"))
    target, at = place(kind, tmp_path)
    with pytest.raises(StoreError, match="changed while it was promoted"):
        target.promote(found)
    assert not at.parent.exists()


def test_a_tar_has_no_time_and_no_owner_in_it(package, tmp_path):
    target, at = place("tar", tmp_path)
    target.promote(package)
    with tarfile.open(at) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }
    assert at.stat().st_size % 10240 == 0


def test_places_that_cannot_be_are_told_before_anything_is_done(package, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for text in (f"directory:{tmp_path}/file/below", f"tar:{tmp_path}/file/b.tar"):
        with pytest.raises(StoreError, match="is no folder"):
            open_target(text, TargetOptions()).plan(package)
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(StoreError, match="is no file"):
        open_target(f"tar:{tmp_path}/folder.tar", TargetOptions()).plan(package)
    with pytest.raises(ConfigError, match=r"must end in \.tar"):
        open_target(f"tar:{tmp_path}/b.tgz", TargetOptions())
