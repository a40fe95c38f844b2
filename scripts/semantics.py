#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Looks that each test which docs/keel-semantics.md names is there.

A cell of tests is `path`: `test`, `test`; `path`: ...  A path alone (a test of
one subject, an example's expected output) only has to exist."""
import os
import re
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
page = os.path.join(root, 'docs/keel-semantics.md')
faults = []
named = 0
rows = set()
with open(page, encoding='utf-8') as f:
    for number, line in enumerate(f, 1):
        if not line.startswith('| K'):
            continue
        rows.add(line.split()[1])
        cells = [c.strip() for c in line.strip().strip('|').split(' | ')]
        words = re.findall(r'`([^`]+)`', cells[2]) if len(cells) == 3 else []
        if not words or '/' not in words[0]:
            faults.append(f'{number}: not row, rule and `path`: `test`')
            continue
        text = ''
        for word in words:
            if '/' in word:
                path = os.path.join(root, word)
                if not os.path.isfile(path):
                    faults.append(f'{number}: there is no {word}')
                    text = ''
                    continue
                with open(path, encoding='utf-8') as source:
                    text = source.read()
            elif not re.search(rf'\b{re.escape(word)}\b', text):
                faults.append(f'{number}: there is no test {word}')
            named += 1
for fault in faults:
    print(f'docs/keel-semantics.md:{fault}', file=sys.stderr)
missing = {f'K{n}' for n in range(1, 23)} - rows
if missing or not named:
    sys.exit(f'docs/keel-semantics.md has no row {sorted(missing)}')
sys.exit(1 if faults else 0)
