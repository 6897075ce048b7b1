"""A Triton repository: what is written fits the model, and nothing is ever half done."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from packages import mlp_package, promote, written

from calib.errors import ConfigError, InputError, StoreError
from calib.promotion.target import TargetOptions
from calib.promotion.triton import open_target
from calib.promotion.triton.schema import schema


def snapshot(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
        if p.name != ".calib.lock"
    }


def test_promoting_once_more_changes_nothing(tmp_path):
    package = mlp_package(tmp_path)
    promote(tmp_path, package)
    before = snapshot(tmp_path / "repository")
    target = open_target(str(tmp_path / "repository"), TargetOptions())
    assert target.plan(package) == ()
    assert target.promote(package) == ()
    assert snapshot(tmp_path / "repository") == before


def test_a_plan_is_what_is_then_done_and_changes_nothing(tmp_path):
    package = mlp_package(tmp_path)
    target = open_target(str(tmp_path / "repository"), TargetOptions())
    planned = target.plan(package)
    assert not (tmp_path / "repository").exists()
    assert target.promote(package) == planned


def test_versions_count_on_and_the_old_one_stays_for_a_rollback(tmp_path):
    old, new = mlp_package(tmp_path, 0), mlp_package(tmp_path, 1)
    promote(tmp_path, old)
    home = tmp_path / "repository" / "net"
    # What somebody tuned by hand is part of what was served.
    tuned = (home / "config.pbtxt").read_text().replace("count: 2", "count: 7")
    (home / "config.pbtxt").write_text(tuned)
    assert promote(tmp_path, old) == ()
    promote(tmp_path, new)
    assert list(written(tmp_path).version_policy.specific.versions) == [2]
    assert written(tmp_path).instance_group[0].count == 2
    assert (home / "1" / "model.onnx").read_bytes() == old.model.read()
    (line,) = promote(tmp_path, old)
    assert "version 1, which is there already, for version 2" in line
    assert (home / "config.pbtxt").read_text() == tuned
    assert (home / "2" / "model.onnx").read_bytes() == new.model.read()


def test_two_at_once_are_two_versions(tmp_path):
    made = [mlp_package(tmp_path, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda package: promote(tmp_path, package), made))
    home = tmp_path / "repository" / "net"
    found = {(home / str(n) / "model.onnx").read_bytes() for n in (1, 2, 3, 4)}
    assert found == {package.model.read() for package in made}
    assert list(written(tmp_path).version_policy.specific.versions) == [4]


def test_a_version_can_be_given(tmp_path):
    promote(tmp_path, mlp_package(tmp_path, 0), version=20)
    assert list(written(tmp_path).version_policy.specific.versions) == [20]
    with pytest.raises(ConfigError, match="another package's"):
        promote(tmp_path, mlp_package(tmp_path, 1), version=20)
    promote(tmp_path, mlp_package(tmp_path, 2))
    assert list(written(tmp_path).version_policy.specific.versions) == [21]


class Killed(BaseException):
    """As if the process had ended there."""


def _renames_until(monkeypatch, count):
    """The rename after so many ends everything."""
    done = []
    for name in ("rename", "replace"):
        real = getattr(Path, name)

        def move(path, target, real=real):
            if len(done) == count:
                raise Killed
            done.append(target)
            return real(path, target)

        monkeypatch.setattr(Path, name, move)
    # A process that is killed does not tidy up.
    monkeypatch.setattr("calib.leftovers.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)


def test_wherever_it_ends_the_old_version_is_served_and_it_can_go_on(tmp_path, monkeypatch):
    old, new = mlp_package(tmp_path, 0), mlp_package(tmp_path, 1)
    ended = 0
    for count in range(30):
        folder = tmp_path / str(count)
        folder.mkdir()
        promote(folder, old)
        root = folder / "repository"
        config = (root / "net" / "config.pbtxt").read_bytes()
        model = (root / "net" / "1" / "model.onnx").read_bytes()
        with monkeypatch.context() as patch:
            _renames_until(patch, count)
            try:
                promote(folder, new)
            except Killed:
                ended += 1
                assert (root / "net" / "config.pbtxt").read_bytes() == config
                assert (root / "net" / "1" / "model.onnx").read_bytes() == model
        promote(folder, new)
        assert list(written(folder).version_policy.specific.versions) == [2]
        assert {p.name for p in root.iterdir()} == {"net", ".calib.lock"}
        assert {p.name for p in (root / "net").iterdir()} == {"1", "2", "warmup", "config.pbtxt"}
        assert open_target(str(root), TargetOptions()).plan(new) == ()
        if ended == count:  # the last one came to its end
            break
    assert ended >= 5
    assert ended < 30


def test_a_full_disk_leaves_the_place_as_it_was(tmp_path, monkeypatch):
    promote(tmp_path, mlp_package(tmp_path, 0))
    before = snapshot(tmp_path / "repository")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calib.promotion.triton.folder.copy_checked", full)
    with pytest.raises(StoreError, match="No space left"):
        promote(tmp_path, mlp_package(tmp_path, 1))
    assert snapshot(tmp_path / "repository") == before


def test_a_place_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("calib.promotion.triton.repository.FileLock", refused)
    with pytest.raises(StoreError, match="Permission denied"):
        promote(tmp_path, mlp_package(tmp_path))


def test_a_file_that_changed_since_it_was_judged_is_refused(tmp_path):
    package = mlp_package(tmp_path)
    session = package.folder / "models" / "int8-minmax" / "session.json"
    session.write_text(session.read_text() + " ")
    with pytest.raises(StoreError, match="has changed"):
        promote(tmp_path, package)
    assert not (tmp_path / "repository" / "net").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-x", "é", "*"])
def test_names_that_triton_would_not_take_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="--name"):
        promote(tmp_path, replace(mlp_package(tmp_path), name=name))


def test_what_calib_did_not_put_there_is_left_alone(tmp_path):
    home = tmp_path / "repository" / "net"
    (home / "1").mkdir(parents=True)
    package = mlp_package(tmp_path)
    with pytest.raises(StoreError, match="without a configuration"):
        promote(tmp_path, package)
    (home / "config.pbtxt").write_text('name: "net"\nbackend: "python"\n')
    with pytest.raises(StoreError, match="calib did not write"):
        promote(tmp_path, package)
    (home / "config.pbtxt").write_text("nonsense")
    with pytest.raises(StoreError, match="no configuration"):
        promote(tmp_path, package)
    assert (home / "config.pbtxt").read_text() == "nonsense"


@pytest.mark.parametrize("name", ["2old", "03", "-4", "+5"])
def test_folders_that_triton_takes_for_versions_and_nobody_else_are_refused(tmp_path, name):
    promote(tmp_path, mlp_package(tmp_path, 0))
    (tmp_path / "repository" / "net" / name).mkdir()
    with pytest.raises(StoreError, match="no version"):
        promote(tmp_path, mlp_package(tmp_path, 1))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name: "x"', 'name: "z"', "are not the model's"),
        ('name: "logits"', 'name: "z"', "are none of the model's"),
        ("TYPE_FP32", "TYPE_FP16", "TYPE_FP16 where the model has float32"),
        ("dims: 4", "dims: 5", "where the model has"),
        ("dims: 4", "dims: 4 dims: 1", "where the model has"),
        ("preferred_batch_size: 8", "preferred_batch_size: 9", "preferred_batch_size"),
        ("max_batch_size: 8", "max_batch_size: 0", "where the model has"),
        ("versions: 1", "versions: 1 versions: 3", "version 3 is not there"),
        ("input_data_file", "random_data: true #", None),
        ("batch_size: 1", "batch_size: 99", "beyond max_batch_size"),
        ("count: 2", "count: 3", None),
    ],
)
def test_a_folder_that_is_there_already_is_checked_anew(tmp_path, old, new, reason):
    package = mlp_package(tmp_path)
    promote(tmp_path, package)
    path = tmp_path / "repository" / "net" / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if reason is None:
        assert promote(tmp_path, package) == ()
        return
    with pytest.raises(StoreError) as refused:
        promote(tmp_path, package)
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", ["1/model.onnx", "1/verdict.json", "warmup/1/0-x"])
def test_damage_to_a_file_is_found(tmp_path, name):
    package = mlp_package(tmp_path)
    promote(tmp_path, package)
    path = tmp_path / "repository" / "net" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError):
        promote(tmp_path, package)
    path.unlink()
    with pytest.raises(InputError):
        promote(tmp_path, package)


def test_a_place_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not on this machine"):
        open_target("s3://bucket/models", TargetOptions())
    with pytest.raises(StoreError, match="is no folder"):
        open_target(str(tmp_path / "a" / "b"), TargetOptions())
    promote(tmp_path, mlp_package(tmp_path))
    with pytest.raises(StoreError, match="model's folder"):
        open_target(str(tmp_path / "repository" / "net"), TargetOptions())


def test_without_tritonclient_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    with pytest.raises(ConfigError, match=r"pip install 'calib\[triton\]'"):
        schema.__wrapped__()


def test_the_record_says_what_the_version_is(tmp_path):
    package = mlp_package(tmp_path)
    promote(tmp_path, package)
    record = json.loads((tmp_path / "repository/net/1/calib.json").read_text())
    assert record["run_id"] == package.result.run_id
    assert record["files"]["model.onnx"] == package.model.sha256
