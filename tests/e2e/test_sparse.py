# SPDX-License-Identifier: MIT
"""Files with holes go there and back, and take no more room on either side.

Quick: 300 MiB; KEEL_TEST_LONG: ten GiB.
"""
import os

import pytest

from ferry import SANITIZED

MIB = 1 << 20
LONG = bool(os.environ.get("KEEL_TEST_LONG")) and not SANITIZED
SPARSE = 10 << 30 if LONG else 300 * MIB


def sparse(path, size):
    """Data at its ends, in its middle, and at odd places."""
    with open(path, "wb") as f:
        for at in (0, 12345, size // 2 + 777, size - 5):
            f.seek(at)
            f.write(b"data!")


def data_of(path):
    """Its size, and the blocks of it that are not zeros: a hole is not read."""
    blocks, at, size = {}, 0, os.stat(path).st_size
    fd = os.open(path, os.O_RDONLY)
    try:
        while at < size:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # no more of it
                break
            end = os.lseek(fd, at, os.SEEK_HOLE)
            data = os.pread(fd, min(end - at, MIB), at)
            for i in range(0, len(data), 4096):
                if data[i:i + 4096].strip(b"\0"):
                    blocks[at + i] = data[i:i + 4096]
            at += len(data)
    finally:
        os.close(fd)
    return size, blocks


@pytest.mark.parametrize("how", ["alone", "in a tree"])
def test_holes_go_there_and_back(server, tmp_path, how):
    ada = server.member()
    tree, back = tmp_path / "t", tmp_path / "back"
    tree.mkdir()
    sparse(tree / "sparse", SPARSE)
    (tree / "full").write_bytes(os.urandom(3 * MIB))
    with open(tree / "zeros", "wb") as f:
        f.truncate(3 * MIB + 5)
    if how == "alone":
        back.mkdir()
        ada.run("mkdir", ":/t")
        ada.run("put", *sorted(tree.iterdir()), ":/t/")
        ada.run("get", *(f":/t/{n}" for n in ("full", "sparse", "zeros")), back)
    else:
        ada.run("put", "-r", tree, ":/")
        ada.run("get", "-r", ":/t", back)
    (home,) = (server.data / "spaces").iterdir()
    for name in ("full", "sparse", "zeros"):
        wanted = data_of(tree / name)
        for there in (home / "t" / name, back / name):
            assert data_of(there) == wanted, there
            assert there.stat().st_blocks <= \
                (tree / name).stat().st_blocks + 64, there
