#!/bin/sh
# SPDX-License-Identifier: MIT
# transfer.sh BUILD [OPTION]...: ferry beside scp and curl with nginx; about
# four minutes.  Installs those if they are missing.  The options are
# transfer.py's; see docs/performance.md.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
shift
. "$root/scripts/need.sh"
need bench
FERRY_BUILD=$build
export FERRY_BUILD
exec /usr/bin/python3 -B "$root/bench/transfer.py" "$build" "$@"
