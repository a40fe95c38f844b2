# SPDX-License-Identifier: MIT
"""What `make install` lays down is enough to build programs on keel."""
import os
import re
import shutil
import subprocess

import pytest

from ferry import BUILD, PATIENCE, ROOT, SANITIZED, environment

pytestmark = pytest.mark.skipif(SANITIZED,
                                reason="would need the sanitizer's flags")

# Of each library one call: the test is of headers, flags and linking.
TLS_PROGRAM = r"""
#include <stdio.h>
#include <keel/tls.h>
int main(void) {
    keel_tls_config_free(NULL);
    puts("tls");
    return 0;
}
"""

# Every header at once; what C++ reads otherwise than C is used.
CXX_PROGRAM = r"""
%s
#include <cstdio>
static int first(void *arg) {
    keel_auto(queue) struct keel_queue *q = nullptr;
    struct keel_lock lock = KEEL_LOCK_INIT;
    void *got = nullptr;
    if (keel_queue_new(1, KEEL_QUEUE_LOCAL, &q) < 0)
        return -1;
    keel_guard(&lock);
    keel_assert(keel_queue_put(q, arg, KEEL_NOW) == 0);
    keel_assert(keel_queue_get(q, KEEL_FOREVER, &got) == 0);
    keel_assert(keel_seam.disk == &keel_disk_real);
    keel_log_to_fd(NULL, 1);
    keel_log(NULL, KEEL_LOG_WARN, "from C++", KEEL_LOG_INT("n", 7),
             KEEL_LOG_TEXT("who", "x"));
    keel_log(NULL, KEEL_LOG_WARN, "and no fields");
    return *static_cast<int *>(got) + 1;
}
int main() {
    int n = 41;
    std::printf("%%d\n", keel_run(first, &n));
}
"""


def run(*command, **env):
    done = subprocess.run([str(c) for c in command], check=False, text=True,
                          env=environment(**env), timeout=PATIENCE,
                          capture_output=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compilers(*names):
    found = [n for n in names if shutil.which(n)]
    return found or pytest.skip(f"no {', '.join(names)}")


class Installed:
    def __init__(self, root):
        self.root = root
        run("meson", "install", "-C", BUILD / "obj", "--no-rebuild", "--quiet",
            "--destdir", root)
        [self.pc] = root.rglob("keel.pc")
        self.lib = self.pc.parent.parent
        prefix = run("pkg-config", "--variable=prefix", self.pc).strip()
        self.prefix = root / prefix[1:]

    def flags(self, *args):
        return run("pkg-config", *args, PKG_CONFIG_PATH=self.pc.parent,
                   PKG_CONFIG_SYSROOT_DIR=self.root).split()

    def build(self, cc, source, package="keel", how="shared"):
        out = source.with_suffix("")
        static = ["-static"] if how == "static" else []
        want = ["--static"] if static else []
        flags = self.flags(*want, "--cflags", "--libs", package)
        run(cc, *static, source, "-o", out, *flags)
        return out

    def run(self, program):
        return run(program, LD_LIBRARY_PATH=self.lib)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("install") / "root")


def headers():
    return sorted((ROOT / "keel/include/keel").iterdir())


def test_all_of_it_is_there(installed):
    prefix = installed.prefix
    for name in ("bin/ferry", "sbin/ferryd"):
        assert os.access(prefix / name, os.X_OK)
        assert run(prefix / name, "--version").startswith("ferry")
        # ferry links keel statically: it runs without the libraries.
        assert "libkeel" not in run("readelf", "-d", prefix / name)
    there = {p.name for p in (prefix / "include/keel").iterdir()}
    assert there == {p.name for p in headers()}
    for name in ("README.md", "README.zh-CN.md", "LICENSE"):
        assert (prefix / "share/doc/ferry" / name).is_file()
    examples = {p.name for p in
                (prefix / "share/doc/keel/examples").iterdir()}
    assert examples == {p.name for p in (ROOT / "keel/examples").iterdir()
                        if p.suffix in (".c", ".out")}
    for name in ("libkeel", "libkeel-tls", "libkeel-patch"):
        # What is preloaded is no archive.
        assert ((installed.lib / f"{name}.a").is_file() or
                name == "libkeel-patch")
        assert (installed.lib / f"{name}.so").resolve().is_file()
        assert f"[{name}.so.0]" in run("readelf", "-d",
                                       installed.lib / f"{name}.so")


def declared():
    """What the headers mark KEEL_API."""
    names = set()
    for header in headers():
        plain = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        names |= set(re.findall(r"^KEEL_API\s[^;(]*?\b(keel_\w+)\(", plain,
                                re.M))
    return names


def test_the_shared_libraries_export_what_the_headers_declare(installed):
    exported = set()
    for name in ("libkeel.so", "libkeel-tls.so", "libkeel-patch.so"):
        for line in run("nm", "-D", "--defined-only",
                        installed.lib / name).splitlines():
            exported.add(line.split()[2].split("@")[0])
        if name != "libkeel-patch.so":  # it stands in for libc's names
            assert all(x.startswith(("keel_", "KEEL_0")) for x in exported)
    exported = {x for x in exported if x.startswith("keel_")}
    exported -= {"keel_seam", "keel_disk_real", "keel_net_real"}  # no functions
    exported.remove("keel_patch_attach")  # between the libraries
    assert exported == declared()


def test_each_header_and_each_function_has_a_page(installed):
    man = installed.prefix / "share/man"
    assert (man / "man7/keel.7").is_file()
    pages = {p.stem for p in (man / "man3").iterdir()}
    assert pages == declared() | {f"keel_{p.stem}" for p in headers()}
    overview = (man / "man7/keel.7").read_text()
    for header in headers():
        assert f"keel_{header.stem} 3" in overview
    whole = [p for p in [*(man / "man3").iterdir(), man / "man7/keel.7"]
             if not p.read_text().startswith(".so ")]
    [_] = [p for p in whole if p.name == "keel_queue.3"
           if "keel_queue_put(struct keel_queue *q, void *item" in p.read_text()]
    if shutil.which("mandoc"):
        run("mandoc", "-Tlint", "-W", "warning", *whole)
    if shutil.which("groff"):  # man-db's: what mandoc fits may not fit it
        for page in whole:
            done = subprocess.run(["groff", "-mandoc", "-Tutf8", "-wbreak",
                                   page], check=True, capture_output=True)
            assert done.stderr == b""


def readme_program():
    text = (ROOT / "README.md").read_text().split("\n## keel\n")[1]
    # Its paragraph, without the indentation.
    return "\n".join(line[4:] for line in
                     text.split("\n\n")[0].splitlines()) + "\n"


@pytest.mark.parametrize("how", ["shared", "static"])
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_the_readmes_program(installed, tmp_path, cc, how):
    compilers(cc)
    source = tmp_path / "hello.c"
    source.write_text(readme_program())
    program = installed.build(cc, source, how=how)
    assert installed.run(program) == "hello, world\n"
    needs = subprocess.run(["readelf", "-d", program], check=True, text=True,
                           capture_output=True).stdout
    assert ("[libkeel.so.0]" in needs) == (how == "shared")


@pytest.mark.parametrize("how", ["shared", "static"])
def test_a_program_with_tls(installed, tmp_path, how):
    source = tmp_path / "tls.c"
    source.write_text(TLS_PROGRAM)
    program = installed.build("cc", source, package="keel-tls", how=how)
    assert installed.run(program) == "tls\n"


@pytest.mark.parametrize("how", ["shared", "static"])
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_a_program_in_cxx(installed, tmp_path, cxx, how):
    compilers(cxx)
    source = tmp_path / "all.cc"
    source.write_text(CXX_PROGRAM % "\n".join(
        f"#include <keel/{p.name}>" for p in headers()))
    said = installed.run(installed.build(cxx, source, how=how))
    lines = said.splitlines()
    assert lines[0].endswith(" level=warn n=7 who='x' words='from C++'")
    assert lines[1].endswith(" level=warn words='and no fields'")
    assert lines[2] == "42"


@pytest.mark.parametrize("cc", ["gcc -std=c11", "clang -std=gnu17 -Wpedantic"])
def test_each_header_stands_by_itself(installed, tmp_path, cc):
    cc = cc.split()
    compilers(cc[0])
    flags = installed.flags("--cflags", "keel")
    for header in headers():
        source = tmp_path / f"{header.stem}.c"
        source.write_text(f"#include <keel/{header.name}>\n"
                          "extern int x;\n")
        run(*cc, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *flags, source)
