#!/bin/sh
# SPDX-License-Identifier: MIT
# check_gdb.sh PROGRAM KEEL.PY: looks at PROGRAM's coroutines with gdb, alive
# and as a core.
set -u
program=$1
script=$2
command -v gdb >/dev/null 2>&1 || exit 77

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

look() { # OUTPUT GDB-ARGUMENT...
    output=$1
    shift
    DEBUGINFOD_URLS='' gdb -nx -batch "$@" -ex "source $script" -ex 'keel list' \
        -ex 'keel select 2' -ex 'bt' -ex 'frame function inner' \
        -ex 'print kept' -ex 'print $pc' -ex 'keel select off' -ex 'echo thread:\n' -ex 'bt 1' \
        -ex 'echo all:\n' -ex 'keel bt all' >"$output" 2>&1 </dev/null
}

# See the head of keel.py for the guard.
look "$dir/alive" -ex 'set confirm off' \
    -ex 'set environment KEEL_GUARD mprotect' -ex 'break stop_here' -ex 'run' \
    -ex "generate-core-file $dir/core" "$program"
# A container may forbid to trace.
if grep -q 'ptrace: Operation not permitted\|Cannot PTRACE' "$dir/alive"; then
    exit 77
fi
look "$dir/dead" "$program" "$dir/core"

failed=
fault() { # WHERE WHAT
    echo "$1: $2"
    failed="$failed $1"
}
expect() { # WHERE PATTERN
    grep -q "$2" "$dir/$1" || fault "$1" "no '$2'"
}
for how in alive dead; do
    expect $how "1  'paused' \[main\] not begun"
    expect $how "2  'deep' \[main\] waiting: event 0x"
    expect $how "3  'main' \[main\] running"
    expect $how "^#[0-9]* .*inner (depth=1)"
    expect $how '^$1 = 42'
    expect $how '^$2 = .*<'
    expect $how 'begins in .*<outer>'
    expect $how "coroutine 2 'deep' \[main\] waiting"
    [ "$(grep -c '^#[0-9]* .*in outer (arg=0x0)' "$dir/$how")" -eq 2 ] ||
        fault $how "not two backtraces of 'outer'"
    sed -n '/^thread:/,/^all:/p' "$dir/$how" | grep -q '^#0 .*stop_here' ||
        fault $how "after 'select off' the thread is not back"
done
for how in $(printf '%s\n' $failed | sort -u); do
    echo "---- $how:"
    cat "$dir/$how"
done
[ -z "$failed" ]
