"""Compiled loops work where their machine code cannot be kept."""

import os

import pytest
from numba import njit
from numba.core import caching

from calib.compiling import compiled


def twice(value):
    return value + value


def test_a_loop_is_kept_where_there_is_a_place(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert compiled()(twice)(21) == 42
    assert list(tmp_path.rglob("*.nbc"))


def test_a_loop_is_compiled_anew_where_there_is_none(monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        njit(cache=True)(twice)
    assert compiled(fastmath=True)(twice)(21) == 42


def test_a_user_without_a_home_gets_no_folder_named_after_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    only = [caching.UserWideCacheLocator]
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", only)
    assert compiled()(twice)(21) == 42
    assert list(tmp_path.iterdir()) == []
    njit(cache=True)(twice)
    assert [path.name for path in tmp_path.iterdir()] == ["~"]
