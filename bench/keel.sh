#!/bin/sh
# SPDX-License-Identifier: MIT
# keel.sh BUILD: measures keel; about two minutes.  See docs/performance.md.
set -eu
exec /usr/bin/python3 -B "$(dirname "$0")/keel.py" "$1"
