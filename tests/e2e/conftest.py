# SPDX-License-Identifier: MIT
"""Every test gets a directory of its own; service tests run on both pollers."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from ferry import Server  # noqa: E402


@pytest.fixture(params=["uring", "epoll"])
def poller(request, monkeypatch):
    monkeypatch.setenv("KEEL_POLLER", request.param)
    return request.param


@pytest.fixture
def server(tmp_path, poller):
    with Server(tmp_path) as s:
        yield s
