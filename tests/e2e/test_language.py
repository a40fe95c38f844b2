# SPDX-License-Identifier: MIT
"""What is said in Chinese: whole, aligned, and nowhere in what programs read."""
import os
import re
import subprocess
import unicodedata

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, ROOT, Server

# As people have it; nothing of it needs to be generated on the machine.
CHINESE = {"LC_ALL": "zh_CN.UTF-8"}


def wide(text):
    """The columns of a line."""
    return sum(0 if unicodedata.combining(c) else
               2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in text)


def is_chinese(text):
    return re.search("[\u4e00-\u9fff]", text) is not None


def said(*args, **env):
    return subprocess.run([BUILD / "ferry", *args], text=True, check=True,
                          env={**os.environ, **CHINESE, **env},
                          capture_output=True, timeout=PATIENCE).stdout


def commands():
    return [line.split()[0] for line in said("help").split("\n\n")[2].split("\n")]


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as s:
        yield s


@pytest.fixture
def ada(server):
    return server.member("ada", env=CHINESE)


# ---- help

def test_each_line_of_help_is_chinese_and_fits():
    for command in commands():
        text = said(command, "--help")
        assert text == said("help", command)
        assert text.startswith(f"用法：ferry {command} [选项]...")
        for line in text.split("\n"):
            assert wide(line) < 80, line
            # what is to be typed stays as it is typed
            assert is_chinese(line) or not line or \
                line.startswith(("    ferry", "    echo ", "    mkdir ")), line
    assert all(wide(line) < 80 for line in said("help").split("\n"))


def test_the_columns_of_help_are_straight():
    for args in (["help"], ["put", "--help"], ["ls", "--help"]):
        starts = set()
        for line in said(*args).split("\n"):
            option = re.match(r"  (?:-\w, |    )--\S+( \S+)?  +", line)
            if option:
                starts.add(wide(option.group(0)))
        assert len(starts) == 1, args


@pytest.mark.parametrize("env, chinese", [
    (CHINESE, True), ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, True),
    ({"LC_ALL": "C.UTF-8", "LANGUAGE": "zh_CN"}, True),
    ({"LC_ALL": "zh_CN.UTF-8", "LANGUAGE": "en"}, False),
    ({"LC_ALL": "de_DE.UTF-8"}, False), ({"LC_ALL": "C"}, False),
    ({"LC_ALL": "xx\x1b_YY/../..", "LANGUAGE": ""}, False)])
def test_the_language_is_the_environment_s(env, chinese):
    text = said("--help", **{"LANGUAGE": "", **env})
    assert is_chinese(text) == chinese


def test_a_generated_locale_works_like_one_that_is_missing(tmp_path):
    source = "/usr/share/i18n/locales/zh_CN"
    if not os.path.exists(source):
        pytest.skip("the package locales is missing")
    # 1: warnings, of which it has many
    made = subprocess.run(["localedef", "-i", "zh_CN", "-f", "UTF-8",
                           tmp_path / "zh_CN.UTF-8"], capture_output=True)
    assert made.returncode in (0, 1), made
    text = said("--help", LOCPATH=str(tmp_path), LANGUAGE="")
    assert text == said("--help", LANGUAGE="")


def test_the_catalogue_is_installed(tmp_path):
    subprocess.run(["meson", "install", "-C", BUILD / "obj", "--no-rebuild",
                    "--quiet", "--destdir", tmp_path], check=True,
                   capture_output=True, timeout=PATIENCE)
    [mo] = tmp_path.rglob("locale/zh_CN/LC_MESSAGES/ferry.mo")
    assert mo.read_bytes() == (
        BUILD / "obj/po/zh_CN/LC_MESSAGES/ferry.mo").read_bytes()
    [program] = tmp_path.rglob("bin/ferry")
    inside = "/" + str(mo.relative_to(tmp_path).parents[2])
    assert inside.encode() + b"\0" in program.read_bytes()


# ---- what is refused

def test_a_refusal_is_chinese(server, ada):
    missing = ada.run("ls", ":/没有", status=1)
    assert missing.err == ("ferry: 没有 /没有。\nferry: 'ferry ls' 列出那里有什么；"
                           "'ferry mkdir -p' 新建目录。\n"
                           "ferry: （'ferry explain file.missing' 给出详细说明）\n")
    wrong = ada.run("lss", status=2)
    assert wrong.err == ("ferry: 没有“lss”这个命令；是否想输入“ls”？\n"
                         "ferry: 请看 --help。\n")
    assert "用法：ferry mv [选项]... 远程路径... 远程路径" in \
        ada.run("mv", ":/a", status=2).err
    gone = server.stranger(env=CHINESE).run(
        "login", "ada@127.0.0.1:1", status=3, password=PASSWORD)
    assert "无法连接 127.0.0.1:1：连接被拒绝。" in gone.err


def test_a_quota_is_told_with_its_numbers(server, ada, tmp_path):
    subprocess.run([BUILD / "ferryd", "user", "quota", "ada", "--bytes",
                    "1 MiB", "--data", server.data], env=server.env,
                   check=True, capture_output=True)
    with open(tmp_path / "large", "wb") as f:
        f.truncate(3 << 20)
    refused = ada.run("put", tmp_path / "large", status=1)
    assert "此空间的容量为 1 MiB，已用 0 字节，而这里需要 3 MiB。" in refused.err
    assert "请删除一些内容，或申请更多配额。" in refused.err


def test_programs_read_english(ada, tmp_path):
    def same(*args):
        chinese = ada.run("--json", *args, status=None)
        english = ada.run("--json", *args, status=None,
                          env={"LC_ALL": "C.UTF-8"})
        # a trace is another one each time
        chinese, english = ((re.sub(r'"trace":"[^"]*"', "", r.out), r.status)
                            for r in (chinese, english))
        assert chinese == english
        return chinese[0]
    assert '"There is no /nix."' in same("ls", ":/nix")
    same("lss")
    same("explain", "quota.bytes")
    same("put", "--if-match", "x", tmp_path)
    # one line of a prompt that speaks Chinese
    done = subprocess.run([BUILD / "ferry", "shell"], env=ada.env, text=True,
                          input="-ls --json nix\n-ls --lng --json\n-ls nix\n",
                          capture_output=True, timeout=PATIENCE)
    assert not is_chinese(done.stdout) and is_chinese(done.stderr), done


# ---- at work

def test_sums_are_chinese(ada, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tree / name).write_bytes(b"x" * 500)
    (tree / "l").symlink_to("a")
    would = ada.run("put", "-r", "--dry-run", tree).out
    assert would.endswith("将发送 3 个文件；将新建目录 2 个；链接 1 个\n"), would
    assert re.search(r"3 个文件，1\.5 KiB，用时 [^；]+，committed；新建目录 2 个；"
                     r"链接 1 个\n", ada.run("put", "-r", tree).out)
    assert "3 个文件" in ada.run("get", "-r", ":/tree", tmp_path / "back").out
    assert "1.5 KiB，6 个名称" in ada.run("whoami").out
    assert ada.run("stat", ":/tree/a").out.startswith(
        ":/tree/a\n  类型      文件\n  大小      500（500 字节）\n")
    assert ada.run("rm", "-r", ":/tree").out.startswith(
        "已删除 :/tree：4 个文件，2 个目录")  # a link is one


def test_long_listings_are_straight(ada, tmp_path):
    for name, size in (("小", 5), ("大", 3000), ("中间的名称", 1 << 20)):
        (tmp_path / name).write_bytes(b"x" * size)
        ada.run("put", tmp_path / name)
    starts = {wide(re.match(r"(.*)\d{4}-\d\d-\d\d", line).group(1))
              for line in ada.run("ls", "-l").out.splitlines()}
    assert len(starts) == 1


@pytest.mark.parametrize("columns", [80, 40, 25, 12])
def test_a_line_of_progress_fits_and_breaks_no_character(ada, tmp_path, columns):
    import pexpect

    large = tmp_path / "名称很长很长很长很长很长很长很长的大文件.bin"
    with open(large, "wb") as f:
        f.truncate(1 << 30)
    child = pexpect.spawn(str(BUILD / "ferry"), ["put", str(large)],
                          env={**ada.env, "TERM": "xterm"}, timeout=PATIENCE,
                          dimensions=(24, columns))
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    *drawn, told = child.before.split(b"\r\x1b[K")
    assert "用时" in told.decode()
    lines = [line for part in drawn
             for line in part.decode().split("\r") if line]
    assert lines and all(wide(line.removesuffix("\x1b[K")) < columns
                         for line in lines), lines
    assert any("%" in line for line in lines)


def test_a_question_is_chinese(ada):
    import pexpect

    ada.run("mkdir", ":/目录")
    child = pexpect.spawn(str(BUILD / "ferry"), ["rm", "-r", ":/目录"],
                          env={**ada.env, "TERM": "xterm"}, timeout=PATIENCE,
                          encoding="utf-8")
    child.expect_exact("删除 :/目录 及其中的全部内容？[y/N] ")
    child.sendline("n")
    child.expect_exact("没有删除任何内容：:/目录 保留。")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1


# ---- the catalogue

def test_no_message_lacks_its_translation():
    subprocess.run(["msgfmt", "--check", "-o", os.devnull,
                    ROOT / "po/zh_CN.po"], check=True)
    left = subprocess.run(["msgattrib", "--untranslated", "--no-obsolete",
                           ROOT / "po/zh_CN.po"], check=True, text=True,
                          capture_output=True).stdout
    assert not left, left
