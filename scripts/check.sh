#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the unit tests of a build directory and the end-to-end tests on its
# programs: check.sh BUILD [unit|e2e]...  The last line is "N passed, N failed".
#   E2E  the end-to-end tests to run, of tests/e2e (default: all)
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift
[ $# -gt 0 ] || set -- unit e2e
jobs=$(nproc)
full=$(cd "$build" && pwd)
failed=0
rm -f "$build/e2e.xml" "$build/obj/meson-logs/testlog.json"

for tier in "$@"; do
    case $tier in
    e2e)
        # Half of a test's time is waiting: more of them than processors.
        # shellcheck disable=SC2086
        (cd "$root/tests/e2e" &&
            FERRY_BUILD=$full /usr/bin/python3 -m pytest -q \
                -p no:cacheprovider -n $((jobs + (jobs + 1) / 2)) --timeout 300 \
                --junit-xml="$full/e2e.xml" ${E2E:-.}) || failed=1
        ;;
    *)
        meson test -C "$build/obj" --no-rebuild --print-errorlogs \
            --timeout-multiplier 6 --num-processes "$jobs" --suite "$tier" || failed=1
        ;;
    esac
done
/usr/bin/python3 "$root/scripts/tally.py" "$build" || failed=1
exit $failed
