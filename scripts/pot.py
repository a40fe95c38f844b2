#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Gathers what is said to people into po/ferry.pot and brings po/*.po up to it.

    pot.py          rewrites po/ferry.pot, merges it into po/*.po
    pot.py --check  changes nothing; names what a translation lacks (exit 1)

xgettext finds _(), N_(), NP_(), cli_say() and cli_trace(); the sentences of
problems.def and the texts given as .detail are found here, since they stand in
no call.
"""
import errno
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PO = ROOT / "po"
TEXT = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'
KEYWORDS = ["_", "N_", "NP_:1,2", "ngettext:1,2", "cli_say:2", "cli_trace:2",
            "broken:2", "wrong:2"]
# What {detail} and {error} stand for, and no source here has in a text.
VERBS = ["read", "write", "list", "delete", "replace", "remove", "do that to"]
ERRORS = """
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAGAIN EBADF EBUSY ECANCELED
    ECONNREFUSED ECONNRESET EDQUOT EEXIST EFBIG EHOSTUNREACH EINTR EINVAL EIO
    EISDIR ELOOP EMFILE EMLINK EMSGSIZE ENAMETOOLONG ENETDOWN ENETUNREACH ENFILE
    ENODATA ENODEV ENOENT ENOMEM ENOSPC ENOTCONN ENOTDIR ENOTEMPTY ENOTSUP ENXIO
    EOVERFLOW EPERM EPIPE EPROTO EROFS ESHUTDOWN ESTALE ETIMEDOUT ETXTBSY
    EXDEV""".split()


def sources():
    """What the client is made of; the server speaks English, in codes."""
    return sorted(file for module in ("base", "chunk", "wire", "client")
                  for end in "ch"
                  for file in ROOT.glob(f"ferry/{module}/*.{end}"))


def hidden():
    """Texts that no call of gettext has around them."""
    found = []
    rows = (ROOT / "ferry/base/problems.def").read_text()
    for row in re.finditer(r"^ROW\((\w+),\s*\"[^\"]*\",\s*\w+,\s*\d+,\s*" + TEXT
                           + r",\s*" + TEXT + r"\)", rows, re.M):
        found += [row.group(2), row.group(3)]
    for file in sorted(ROOT.glob("ferry/**/*.c")):
        # the daemon's own are for its operator
        if file.name.endswith("_test.c") or file.parent.name == "daemon":
            continue
        for text in re.findall(r"\.detail\s*=\s*" + TEXT, file.read_text()):
            # a word alone is a field's name; a blank at the end goes on in a macro
            if " " in text.strip('"') and not re.search(r' "\s*$', text):
                found.append(text)
    found += [f'"{verb}"' for verb in VERBS]
    found += [f'"{os.strerror(getattr(errno, name))}"' for name in ERRORS]
    return [text for text in found if text.strip() != '""']


# Some have their own punctuation.
MARKS = ["%s -> :%s%s%s  %s, %s", "; ", "%s, %s", "%s, %s, %s", "%s, %s%s"]


def has_words(entry):
    """Whether there is something in it to translate: not so in "%s -> %s"."""
    if any(f'msgid "{mark}"\n' in entry for mark in MARKS):
        return True
    text = "".join(re.findall(r'^(?:msgid(?:_plural)? )?"(.*)"$', entry, re.M))
    return re.search("[A-Za-z]{2}", re.sub(
        r"%[-0-9.*]*(?:ll|l)?[a-z]|\\\\?.", "", text)) is not None


def gather(pot):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as more:
        for text in hidden():
            more.write(f"/* xgettext:no-c-format */\nN_({text});\n")
        more.flush()
        files = [f for f in sources() if not f.name.endswith("_test.c")]
        subprocess.run(
            ["xgettext", "-L", "C", "--from-code=UTF-8", "--no-location",
             "--sort-output", "-k", *(f"-k{k}" for k in KEYWORDS),
             "--package-name=ferry", "-o", pot, more.name, *files], check=True)
    text = pathlib.Path(pot).read_text()
    text = re.sub(r'"POT-Creation-Date: .*\\n"\n', "", text)
    head = text.index("msgid")
    text = text[head:].replace("charset=CHARSET", "charset=UTF-8")
    first, *entries = text.strip().split("\n\n")
    entries = [first] + [entry for entry in entries if has_words(entry)]
    pathlib.Path(pot).write_text("# SPDX-License-Identifier: MIT\n"
                                 + "\n\n".join(entries) + "\n")


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as tmp:
        pot = pathlib.Path(tmp) / "ferry.pot"
        gather(pot)
        lacking = 0
        for po in sorted(PO.glob("*.po")):
            merged = pathlib.Path(tmp) / po.name
            subprocess.run(["msgmerge", "-q", "--no-fuzzy-matching",
                            "--no-location", "--sort-output", "-o", merged, po,
                            pot], check=True)
            subprocess.run(["msgfmt", "-c", "-o", "/dev/null", merged],
                           check=True)
            left = subprocess.run(
                ["msgattrib", "--untranslated", "--no-obsolete", merged],
                check=True, capture_output=True, text=True).stdout
            if left:
                lacking += 1
                print(f"{po.name} lacks:\n{left[left.index('msgid', 10):]}")
            if not check:
                kept = subprocess.run(
                    ["msgattrib", "--no-obsolete", "--sort-output", merged],
                    check=True, capture_output=True, text=True).stdout
                po.write_text(kept)
        if not check:
            (PO / "ferry.pot").write_text(pot.read_text())
        elif (PO / "ferry.pot").read_text() != pot.read_text():
            lacking += 1
            print("po/ferry.pot is not what the sources say: scripts/pot.py")
    return 1 if check and lacking else 0


sys.exit(main())
