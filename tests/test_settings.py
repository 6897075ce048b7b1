"""YAML that anybody may have written: read, or refused in one message; never run or unfolded."""

import time

import pytest

from calib.errors import ConfigError
from calib.gate.limits import LimitsSpec
from calib.settings import parse, read_yaml, with_overrides


def bomb(depth=12):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


def merge_bomb(depth=30):
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a: !!python/object/apply:os.system ["touch pwned"]', "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !!timestamp nonsense", "a value cannot be read"),
        ("a: 2026-99-99", "a value cannot be read"),
        ("a: !!int abc", "a value cannot be read"),
        ("a: !!set [a]", "is no valid YAML"),
        ("a: !!map 5", "is no valid YAML"),
        ("a: " + "9" * 5000, "a value cannot be read"),
        ("a: " + "[" * 3000 + "]" * 3000, "is nested too deeply"),
        ("a: &b [*b]", "an anchor stands for itself"),
        ("a: {[1]: 2}", "is no valid YAML"),
        ("a: 1\na: 2", "the key 'a' is given twice"),
        (bomb(), "its anchors stand for over 200,000 values"),
        (merge_bomb(), "its anchors stand for over 200,000 values"),
        ("a: \0", "special characters are not allowed"),
        (b"a: \xff\xfe", "cannot be read"),
        ("x" * 11_000_000, "more than 10 MB"),
        ("", "holds no settings"),
        ("- a", "holds no settings"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_plain_yaml_is_one_message(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    begin = time.monotonic()
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - begin < 30
    assert not (tmp_path / "pwned").exists()


def test_anchors_that_save_writing_are_fine(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &a {k: 1}\nb: {<<: *a, l: 2}\nc: [*a, *a]", "utf-8-sig")
    assert read_yaml(tmp_path / "c.yaml")["b"] == {"k": 1, "l": 2}


def test_an_override_is_read_alike():
    with pytest.raises(ConfigError, match="is no YAML value"):
        with_overrides({}, ["a.b=2026-99-99"])


def test_problems_are_shown_short(tmp_path):
    content = {"samples_min": 16**6000, "flips_pct_max": ["a" * 10_000] * 10_000}
    with pytest.raises(ConfigError) as error:
        parse(LimitsSpec, content, tmp_path / "c.yaml")
    assert len(str(error.value)) < 5000
    with pytest.raises(ConfigError) as error:
        parse(LimitsSpec, {f"k{n}": 1 for n in range(500)}, tmp_path / "c.yaml")
    lines = str(error.value).split("\n")
    assert len(lines) == 21
    assert lines[-1].endswith("480 more problems")
