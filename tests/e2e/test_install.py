# SPDX-License-Identifier: MIT
"""What `make install` lays down is enough to build a program on keel."""
import os
import subprocess

import pytest

from ferry import BUILD, PATIENCE, ROOT, SANITIZED, environment

PROGRAM = r"""
#include <stdio.h>
#include <keel/co.h>
static int answer(void *arg) { return *(int *)arg + 1; }
static int first(void *arg) {
    struct keel_co *co;
    int result, rc = keel_spawn(NULL, answer, arg, &co);
    if (rc == 0)
        rc = keel_join(co, KEEL_FOREVER, &result);
    return rc < 0 ? rc : result;
}
int main(void) {
    int n = 41;
    printf("%d\n", keel_run(first, &n));
    return 0;
}
"""


def run(*command, **env):
    done = subprocess.run([str(c) for c in command], check=False, text=True,
                          env=environment(**env), timeout=PATIENCE,
                          capture_output=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(SANITIZED, reason="would need the sanitizer's flags")
def test_a_program_is_built_on_the_installed_keel(tmp_path):
    root = tmp_path / "root"
    run("meson", "install", "-C", BUILD / "obj", "--no-rebuild", "--quiet",
        "--destdir", root)
    [pc] = root.rglob("keel.pc")
    assert list(root.rglob("keel-tls.pc"))
    prefix = root / run("pkg-config", "--variable=prefix", pc).strip()[1:]
    for name in ("bin/ferry", "sbin/ferryd"):
        assert os.access(prefix / name, os.X_OK)
        assert run(prefix / name, "--version").startswith("ferry")
    headers = {p.name for p in (prefix / "include/keel").iterdir()}
    assert headers == {p.name for p in (ROOT / "keel/include/keel").iterdir()}
    for name in ("README.md", "README.zh-CN.md", "LICENSE"):
        assert (prefix / "share/doc/ferry" / name).is_file()
    (tmp_path / "answer.c").write_text(PROGRAM)
    for package in ("keel", "keel-tls"):
        flags = run("pkg-config", "--cflags", "--libs", package,
                    PKG_CONFIG_PATH=pc.parent,
                    PKG_CONFIG_SYSROOT_DIR=root).split()
        run("cc", tmp_path / "answer.c", "-o", tmp_path / "answer", *flags)
        assert run(tmp_path / "answer") == "42\n"
