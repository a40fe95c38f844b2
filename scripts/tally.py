# SPDX-License-Identifier: MIT
"""Adds up the results of a build directory's last test run: tally.py [--why] BUILD

Reads Meson's test log and pytest's report; prints the name of each test that
failed, and "N passed, N failed" (and skipped) as the last line; exits with 1 if
anything failed or nothing ran.

  --why  with the end of what a failed test said
"""
import json
import pathlib
import sys
import xml.etree.ElementTree as xml

LINES = 40  # of what a failed test said

why = "--why" in sys.argv[1:]
build = pathlib.Path([word for word in sys.argv[1:] if word != "--why"][0])
passed = failed = skipped = 0


def tell(name, result, said):
    print(f"failed: {name} ({result})")
    if why:
        for line in said.splitlines()[-LINES:]:
            print(f"    {line}")


log = build / "obj" / "meson-logs" / "testlog.json"
if log.exists():
    for line in log.read_text().splitlines():
        test = json.loads(line)
        if test["result"] == "OK":
            passed += 1
        elif test["result"] == "SKIP":
            skipped += 1
        else:
            failed += 1
            tell(
                test["name"],
                f"{test['result'].lower()}, {test['duration']:.0f} s",
                (test.get("stdout") or "") + (test.get("stderr") or ""),
            )

report = build / "e2e.xml"
if report.exists():
    for suite in xml.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        gone = int(suite.get("skipped"))
        failed += bad
        skipped += gone
        passed += int(suite.get("tests")) - bad - gone
        for case in suite.iter("testcase"):
            for cause in case.findall("failure") + case.findall("error"):
                name = f"{case.get('classname')}::{case.get('name')}"
                tell(name, cause.tag, cause.text or "")

tail = f", {skipped} skipped" if skipped else ""
print(f"{passed} passed, {failed} failed{tail}")
sys.exit(1 if failed or not passed else 0)
