#!/bin/sh
# SPDX-License-Identifier: MIT
# trees.sh BUILD [OPTION]...: a tree of small files by ferry beside rsync, tar
# and scp over ssh and curl with nginx; about ten minutes.  Installs those if
# they are missing.  The options are trees.py's; see docs/performance.md.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
shift
. "$root/scripts/need.sh"
need bench
FERRY_BUILD=$build
export FERRY_BUILD
exec /usr/bin/python3 -B "$root/bench/trees.py" "$build" "$@"
