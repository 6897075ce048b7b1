"""Compiled loops work where their machine code cannot be kept."""

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
