# SPDX-License-Identifier: MIT
"""Adds up the results of a build directory's last test run: tally.py BUILD

Reads Meson's test log and pytest's report; prints "N passed, N failed" (and
skipped) as the last line; exits with 1 if anything failed or nothing ran.
"""
import json
import pathlib
import sys
import xml.etree.ElementTree as xml

build = pathlib.Path(sys.argv[1])
passed = failed = skipped = 0

log = build / "obj" / "meson-logs" / "testlog.json"
if log.exists():
    for line in log.read_text().splitlines():
        result = json.loads(line)["result"]
        if result == "OK":
            passed += 1
        elif result == "SKIP":
            skipped += 1
        else:
            failed += 1

report = build / "e2e.xml"
if report.exists():
    for suite in xml.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        gone = int(suite.get("skipped"))
        failed += bad
        skipped += gone
        passed += int(suite.get("tests")) - bad - gone

tail = f", {skipped} skipped" if skipped else ""
print(f"{passed} passed, {failed} failed{tail}")
sys.exit(1 if failed or not passed else 0)
