"""Computed data go to a cache of the test session's own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHSCAPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
