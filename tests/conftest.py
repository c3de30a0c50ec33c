"""Tests never touch the user's own registry and caches."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(tmp_path_factory.mktemp("home")))
        yield
