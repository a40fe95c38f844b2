#!/bin/sh
# SPDX-License-Identifier: MIT
# preloaded_test.sh LIBRARY PROGRAM: PROGRAM (preloaded.c) alone blocks, and with
# LIBRARY preloaded it parks; programs without keel do not notice the library.
set -u
library=$1
program=$2
failed=0

expect() {
    what=$1
    shift
    said=$(timeout 30 "$@" 2>&1) || said="$said (status $?)"
    [ "$said" = "$wanted" ] && return
    printf '%s: expected:\n%s\ngot:\n%s\n' "$what" "$wanted" "$said"
    failed=1
}

wanted='before main: as ever
calls block'
expect "alone" "$program"
wanted='before main: as ever
calls park
1: write
2: read '\''x'\'
expect "preloaded" env LD_PRELOAD="$library" "$program"
wanted='child 3
b'
expect "a shell's pipes and children" env LD_PRELOAD="$library" sh -c \
    '(exit 3); echo "child $?"; printf "b\na\n" | sort -r | head -n 1'
exit $failed
