"""The Dockerfiles: linted, and held against what is in the repository."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
from small import ROOT

from calib.cli import main

DOCKERFILES = ("Dockerfile", "docker/tensorrt.Dockerfile")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BESIDE = Path(sys.executable).parent


def instructions(name):
    """(instruction, its text) in order, with continued lines put together."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in pairs]


def last_stage(name):
    found = instructions(name)
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def only(found, word):
    (text,) = [text for name, text in found if name == word]
    return text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_has_nothing_to_say(name):
    done = subprocess.run(
        [BESIDE / "hadolint", "--failure-threshold", "style", ROOT / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_would_say_something(tmp_path):
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python:latest\nRUN pip install numpy\n", encoding="utf-8")
    done = subprocess.run([BESIDE / "hadolint", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3007" in done.stdout


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_base_is_pinned_by_a_full_version(name):
    found = instructions(name)
    defaults = dict(text.split("=", 1) for word, text in found if word == "ARG" and "=" in text)
    stages = [text for word, text in found if word == "FROM"]
    assert stages
    for text in stages:
        image = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], text.split()[0])
        assert re.search(r":\d+\.\d+(\.\d+)?-[\w-]+(@sha256:[0-9a-f]{64})?$", image), image
    assert "latest" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_runs_is_a_numbered_user_who_is_not_root(name):
    found = last_stage(name)
    user = only(found, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    number = user.split(":")[0]
    words = [word for word, _ in found]
    (made,) = [text for word, text in found if word == "RUN" and "useradd" in text]
    assert f"--uid {number} " in made
    assert words.index("USER") < words.index("ENTRYPOINT")
    # What is written to is made for that user.
    environment = dict(pair.split("=", 1) for pair in shlex.split(only(found, "ENV")))
    written = {[text for word, text in found if word == "WORKDIR"][-1]}
    for key in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        written.add(f"/{PurePosixPath(environment[key]).parts[1]}")
    for folder in written:
        assert re.search(rf"install -d -o calib -g calib -m \d+ {folder}\b", made), folder


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_is_in_the_repository_and_sent_to_the_builder(name):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    copied = set()
    for word, text in instructions(name):
        if word == "COPY" and "--from" not in text:
            copied.update(text.split()[:-1])
    for path in copied:
        assert (ROOT / path).exists()
    assert copied == sent
    # All that an installation reads.
    assert {PROJECT["readme"], "pyproject.toml", "LICENSE"} <= copied
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert packages - copied <= {"examples", "benchmarks", "tests"}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_extras_that_are_installed_exist(name):
    wanted = re.findall(r'"\.\[([\w,]+)\]"', (ROOT / name).read_text(encoding="utf-8"))
    assert wanted
    for extras in wanted:
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_started_is_calib_itself_and_gets_signals(name):
    found = last_stage(name)
    (command,) = json.loads(only(found, "ENTRYPOINT"))  # the exec form: no shell in between
    assert PROJECT["scripts"][command] == "calib.cli:main"
    assert json.loads(only(found, "CMD")) == ["doctor"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_health_check_is_a_command_that_works(name, tmp_path, monkeypatch, capsys):
    text = only(last_stage(name), "HEALTHCHECK")
    command = json.loads(text.partition("CMD ")[2])
    assert command[0] in PROJECT["scripts"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize("name", DOCKERFILES)
def test_labels_are_those_of_the_image_specification(name):
    labels = dict(pair.split("=", 1) for pair in shlex.split(only(last_stage(name), "LABEL")))
    keys = {key.removeprefix("org.opencontainers.image.") for key in labels}
    assert keys == {"title", "description", "licenses", "version", "revision"}
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    defaults = [text for word, text in last_stage(name) if word == "ARG"]
    assert f"VERSION={PROJECT['version']}" in defaults
