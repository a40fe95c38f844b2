# SPDX-License-Identifier: MIT
"""Every test gets a directory of its own, which stays only when it fails.

On both pollers runs what the service does while it serves, and what the client
does with a server that lies: by the fixture `poller`, which `server` has in it,
or by turns (test_faults, test_crash).  On the default one runs what is about
words, options, settings, and what a start finds on the disk.  test_kill is on
epoll: strace sees no operation of io_uring."""
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from ferry import Server  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


@pytest.fixture
def tmp_path(tmp_path, request):
    yield tmp_path
    if not getattr(request.node, "failed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(params=["uring", "epoll"])
def poller(request, monkeypatch):
    monkeypatch.setenv("KEEL_POLLER", request.param)
    return request.param


@pytest.fixture
def server(tmp_path, poller):
    with Server(tmp_path) as s:
        yield s
