#!/bin/sh
# SPDX-License-Identifier: MIT
# keel.sh BUILD [OPTION]...: measures keel beside its peers; about seven minutes.
# Installs the peers if they are missing, unless --no-peers.  keel.sh --help;
# see docs/performance.md.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
case " $* " in
*' --no-peers '* | *' --markdown '* | *' --help '* | *' -h '*) ;;
*)
    . "$root/scripts/need.sh"
    # Without them the table says who is missing.
    need bench-keel || echo "Measured without those that are missing." >&2
    ;;
esac
exec /usr/bin/python3 -B "$root/bench/keel.py" "$@"
