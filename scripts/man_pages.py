#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Manual pages of keel's headers, made from their comments: a header is its
manual, and the page cannot say anything else.

    man_pages.py DIR          in DIR/man3 one page a header, and under the name
                              of each function a reference to its page; in
                              DIR/man7 keel.7 with the list of them

A page has the header's first comment, and then each declaration with the
comment above it, in the header's order; "---- name ----" begins a section.
"""
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADERS = ROOT / "keel/include/keel"
# What only other macros and the compiler look at.
INNER = re.compile(r"keel_auto_\w+|KEEL_CAT_?|\w+_|KEEL_TEXT_?|KEEL_PLACE")
LIBRARY = {"tls.h": "keel-tls", "peer.h": "keel-tls",
           "patch.h": "keel-patch keel"}


def comment_text(comment):
    """The lines of a comment without its stars."""
    lines = comment.strip()[2:-2].split("\n")
    lines = [lines[0].removeprefix(" ")] + [re.sub(r"^\s*\*? ?", "", x, count=1)
                                  for x in lines[1:]]
    return [x.rstrip() for x in lines]


def escape(line):
    """A line of text, for roff."""
    line = line.replace("\\", "\\e")
    return "\\&" + line if line[:1] in (".", "'") else line


def sentences(lines):
    """Each on a line of its own, as roff wants them."""
    return [escape(x) for line in lines
            for x in re.split(r"(?<=[.?!])\s+|(?<=[.?!][)'\"])\s+", line.strip())]


def literal(lines):
    return [".Bd -literal -offset indent",
            *(escape(x) if x else "" for x in lines), ".Ed"]


def text(lines):
    """Paragraphs: what is indented stays as it is drawn, a list of errors
    becomes one, and the rest is filled."""
    out = []
    blocks = [[]]
    for line in lines:
        section = re.match(r"-{4} (.*?) ?-*$", line)
        if section:
            blocks += [[f".Ss {escape(section[1])}"], []]
        elif line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    for block in filter(None, blocks):
        if block[0].startswith(".Ss "):
            out += block
            continue
        words = []
        while block and not re.match(r" {2,}\S|-?[A-Z0-9]\w*(, -E\w+)*  +\S",
                                     block[0]):
            words.append(block.pop(0))
        if words:
            out += [".Pp", *sentences(words)]
        if block and block[0][0] == " ":
            drawn = []
            while block and block[0][0] == " ":
                drawn.append(block.pop(0))
            out += literal(drawn)
            if block:
                out += text(block)
        elif block:
            out += [".Bl -tag -width Er -offset indent"]
            while block:
                line = block.pop(0)
                item = re.match(r"(-?[A-Z0-9]\w*(?:, -E\w+)*)  +(\S.*)", line)
                if item:
                    out += [f".It {escape(item[1])}", *sentences([item[2]])]
                else:
                    out += sentences([line])
            out.append(".El")
    return out


def dedented(code):
    """What goes on behind KEEL_API moves left with it."""
    lines = []
    moved = False
    for line in code.split("\n"):
        if moved and line.startswith(" " * 9):
            line = line[9:]
        elif not line.startswith(" "):
            moved = line.startswith("KEEL_API ")
        lines.append(line)
    return "\n".join(lines)


def shown(code):
    """A declaration as its reader needs it: no attributes, no bodies."""
    code = re.sub(r"\\\n\s*", " ", code)
    code = re.sub(r"\bKEEL_API(_DATA)?\s", "", dedented(code))
    code = re.sub(r"\s*__attribute__\(\((?:[^()]|\([^()]*\))*\)\)", "", code)
    keep = []
    lines = code.split("\n")
    at = 0
    skipping = False
    while at < len(lines):
        line = lines[at]
        at += 1
        if re.match(r"#\s*(ifdef|if)\b", line) and "__cplusplus" in line:
            skipping = True     # C's own is behind the #else, or there is none
            continue
        if skipping:
            if re.match(r"#\s*(else|endif)", line):
                skipping = False
            continue
        macro = re.match(r"#\s*define (\w+)(\([^)]*\))?\s*(.*)", line)
        if macro:
            if not INNER.fullmatch(macro[1]):
                value = "" if macro[2] or "{" in macro[3] else macro[3]
                keep.append(f"#define {macro[1]}{macro[2] or ''} {value}"
                            .rstrip())
            continue
        if line.startswith("#"):
            continue
        if line.startswith("static inline"):
            head = [line]
            while at < len(lines) and lines[at] != "{":
                head.append(lines[at])
                at += 1
            while at < len(lines) and lines[at] != "}":
                at += 1
            at += 1
            name = re.search(r"(\w+)\(", " ".join(head))
            if not (name and INNER.fullmatch(name[1])):
                head[-1] += ";"
                keep += head
            continue
        keep.append(line)
    return [x.rstrip() for x in "\n".join(keep).strip("\n").split("\n")]


def automatic(lines):
    """KEEL_AUTO(queue, ...) is a word to write, not a declaration."""
    plain = []
    words = []
    joined = re.sub(r"(?m)^KEEL_AUTO\((\w+),[^;]*?\)\n?(?=\n|$)",
                    lambda m: words.append(m[1]) or "", "\n".join(lines))
    plain = [x for x in joined.split("\n")]
    while plain and not plain[0]:
        plain.pop(0)
    while plain and not plain[-1]:
        plain.pop()
    return plain, words


def pieces(body):
    """(comment or None, code) in order."""
    parts = re.split(r"(?m)^(/\*.*?\*/)[ ]*\n", "\n" + body, flags=re.S)
    yield None, parts[0]
    for i in range(1, len(parts), 2):
        yield parts[i], parts[i + 1]


def page(header, others, date):
    source = header.read_text()
    name = "keel_" + header.stem
    head, body = re.match(
        r"/\* SPDX[^\n]*\n(/\*.*?\*/)\n(.*)", source, re.S).groups()
    body = re.sub(r"\A\s*#ifndef \w+\n#define \w+\n", "", body)
    body = re.sub(r"#endif\s*\Z", "", body)
    body = re.sub(r"(?m)^#include.*\n", "", body)
    body = re.sub(r"(?m)^(#ifndef __cplusplus\n)(.*?)#else\n.*?#endif\n",
                  r"\2", body, flags=re.S)
    body = re.sub(r"(?m)^#ifdef KEEL_DEBUG\n.*?^#endif\n", "", body,
                  flags=re.S)
    words = comment_text(head)
    cut = next((i for i, x in enumerate(words) if x.endswith(".") or not x),
               len(words))
    title = " ".join(words[:cut + 1]).strip()
    rest = words[cut + 1:]
    sentence = re.match(r"(.*?\.)\s+(.*)", title)
    if sentence:
        title, rest = sentence[1], [sentence[2], *rest]
    library = LIBRARY.get(header.name, "keel")
    out = [".\\\" SPDX-License-Identifier: MIT",
           f".\\\" Made from <keel/{header.name}> by scripts/man_pages.py.",
           f".Dd {date}", f".Dt {name.upper()} 3", ".Os", ".Sh NAME",
           f".Nm {name}", f".Nd {escape(title.rstrip('.:'))}",
           ".Sh SYNOPSIS", f".In keel/{header.name}", ".Pp",
           f".Dl cc x.c $(pkg-config --cflags --libs {library})",
           ".Sh DESCRIPTION"]
    described = text(rest)
    declared = False
    for comment, code in pieces(body):
        lines = comment_text(comment) if comment else []
        section = re.match(r"-{4} (.*?) ?-*$", lines[0]) if lines else None
        if section:
            described += [f".Ss {escape(section[1])}"]
            lines = lines[1:]
        plain, autos = automatic(shown(code))
        if any(plain):
            declared = True
            described += [".Pp", *literal(plain)]
        described += text(lines)
        for auto in autos:
            described += [".Pp", f"keel_auto({auto}) releases it at the end of "
                          "the scope."]
    assert declared, f"{header}: no declaration found"
    out += described
    out += [".Sh SEE ALSO"]
    refs = sorted(f"keel_{x.stem}" for x in others if x != header)
    out += [f".Xr {x} 3 ," for x in refs] + [".Xr keel 7"]
    return tidy(out)


def tidy(lines):
    """mandoc wants no paragraph before a display or a section, nor two."""
    out = []
    for line in lines:
        opens = line.startswith((".Ss", ".Sh", ".Bd", ".Bl", ".Pp"))
        while out and out[-1] == ".Pp" and opens:
            out.pop()
        if line == ".Pp" and out[-1].startswith((".Ss", ".Sh")):
            continue
        out.append(line)
    while out[-1] == ".Pp":
        out.pop()
    return "\n".join(out) + "\n"


def functions(source):
    """What a header declares with KEEL_API."""
    plain = re.sub(r"/\*.*?\*/", "", source, flags=re.S)
    return set(re.findall(r"KEEL_API\s[^;(]*?\b(keel_\w+)\(", plain))


def main():
    [target] = map(Path, sys.argv[1:])
    if "MESON_INSTALL_DESTDIR_PREFIX" in os.environ:
        target = Path(os.environ["MESON_INSTALL_DESTDIR_PREFIX"], target)
    man3, man7 = target / "man3", target / "man7"
    for directory in (man3, man7):
        directory.mkdir(parents=True, exist_ok=True)
    headers = sorted(HEADERS.glob("*.h"))
    pages = {f"keel_{x.stem}" for x in headers}
    listed = [".Bl -tag -width keel_procpool"]
    for header in headers:
        stamp = int(os.environ.get("SOURCE_DATE_EPOCH",
                                   header.stat().st_mtime))
        date = time.gmtime(stamp)
        day = time.strftime("%B ", date) + time.strftime("%d, %Y",
                                                         date).lstrip("0")
        made = page(header, headers, day)
        (man3 / f"keel_{header.stem}.3").write_text(made)
        for name in functions(header.read_text()) - pages:
            (man3 / f"{name}.3").write_text(f".so man3/keel_{header.stem}.3\n")
        listed += [f".It Xr keel_{header.stem} 3",
                   re.search(r"(?m)^\.Nd (.*)", made)[1]]
    overview = (ROOT / "docs/man/keel.7").read_text()
    mark = re.search(r'(?m)^\.\\" PAGES.*$', overview)[0]
    (man7 / "keel.7").write_text(
        overview.replace(mark, "\n".join([*listed, ".El"])))


if __name__ == "__main__":
    main()
