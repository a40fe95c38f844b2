#!/bin/sh
# SPDX-License-Identifier: MIT
# What takes too long for ./check: check-long.sh BUILD [STEP]...
# About an hour and a half on four processors that have nothing else to do.
#
#   unit      every unit test, and the sweeps of the test disk, the ledger's VFS,
#             the ledger and publishing over every moment of a crash and several
#             seeds for each, where ./check takes a share
#   faults    each operation of the seam fails, at its every occurrence, in the
#             start of ferryd, in ferry's put and get, and in ferryd while it
#             serves them; strace kills ferryd at each system call of a put and
#             of a recovery; 200 kills at random under load; a GiB of data,
#             and files of ten GiB of holes there and back, alone and in
#             trees; a hundred accounts at once in one shared space
#   memcheck  the unit tests under valgrind, on the epoll poller
#   aarch64   keel for aarch64, and the tests of its switch and loops under
#             qemu-user
#   fuzz      each parser's harness from its seeds, FUZZ_SECONDS each (60)
#   soak      everything of keel at once for SOAK_SECONDS (600): memory,
#             descriptors and threads may not grow; ferryd under eight clients
#             for SOAK_SECONDS (120), nor may its drafts
#
# Without a STEP all of them.  At the end a line for each step with its numbers
# and seconds, and the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.."
root=$PWD
build=$1
shift
[ $# -gt 0 ] || set -- unit faults memcheck aarch64 fuzz soak
. scripts/need.sh
need build test long || exit 1
case " $* " in *' fuzz '*) need lint || exit 1 ;; esac

full=$(cd "$build" && pwd)
logs=$full/obj/meson-logs
passed=0
failed=0
skipped=0
summary=
begun=$(date +%s)

# A step's line, at once and again at the end.
say() {
    line="== $1, $(($(date +%s) - begun)) s"
    begun=$(date +%s)
    echo "$line"
    summary="$summary$line
"
}

# Meson's unit tests but those that valgrind 3.19 cannot run: it knows no
# io_uring (and the test of both pollers needs it), and lets a program see other
# descriptors and another /proc/self/exe than the kernel does, which the tests
# of faults from the environment, of processes and of limits look at; and the
# tests of the quarantine die of a fault on purpose, at an address that valgrind
# knows to the basic block.
memcheck_tests() {
    meson test -C "$full/obj" --list --suite unit 2>/dev/null |
        sed -n 's/.* \/ //p' |
        grep -vE 'uring\)?$|^keel (poller|process|semantics|limits|quarantine)|^fault-env$|_fuzz$'
}

# The last results of Meson or pytest; they say the numbers themselves.
add_tests() {
    words=$(/usr/bin/python3 "$root/scripts/tally.py" "$full")
    rc=$?
    p=$(echo "$words" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$words" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$words" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
    # Nothing ran, or the runner failed otherwise: that is a failure too.
    [ "${f:-0}" -gt 0 ] || [ "$rc" = 0 ] && [ "$2" = 0 ] || f=$((${f:-0} > 0 ? f : 1))
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-0}))
    skipped=$((skipped + ${s:-0}))
    say "$1: ${p:-0} passed, ${f:-0} failed${s:+, $s skipped}"
}

add_one() {
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        say "$1: passed"
    else
        failed=$((failed + 1))
        say "$1: FAILED"
    fi
}

fresh_logs() {
    rm -f "$full/e2e.xml" "$logs"/testlog*.json
}

for step in "$@"; do
    case $step in
    unit)
        fresh_logs
        KEEL_TEST_LONG=1 meson test -C "$full/obj" --no-rebuild \
            --print-errorlogs --timeout-multiplier 20 \
            --num-processes "$(nproc)" --suite unit --suite long
        add_tests "unit tests, whole sweeps" $?
        ;;
    faults)
        fresh_logs
        (cd tests/e2e && KEEL_TEST_LONG=1 FERRY_BUILD=$full \
            /usr/bin/python3 -m pytest -q -p no:cacheprovider -n "$(nproc)" --timeout 3600 \
            --junit-xml="$full/e2e.xml" test_faults.py test_kill.py \
            test_crash.py test_daemon.py test_put_races.py test_sparse.py \
            test_users.py test_round_trip.py test_get_tree.py)
        add_tests "faults, kills and a hundred users" $?
        ;;
    memcheck)
        fresh_logs
        memcheck_tests >"$full/memcheck-tests"
        # A name has spaces: an argument a line.
        KEEL_POLLER=epoll xargs -d '\n' -a "$full/memcheck-tests" \
            meson test -C "$full/obj" --no-rebuild --print-errorlogs \
            --timeout-multiplier 60 --num-processes "$(nproc)" \
            --wrap "env KEEL_TEST_VALGRIND=1 LD_PRELOAD=$full/obj/tests/memcheck/memcheck-calls.so valgrind -q --fair-sched=try --error-exitcode=99 --num-callers=30"
        rc=$?
        mv "$logs"/testlog-*.json "$logs/testlog.json"
        add_tests memcheck $rc
        ;;
    aarch64)
        scripts/aarch64.sh build-aarch64
        add_one aarch64 $?
        ;;
    fuzz)
        scripts/fuzz.sh "${FUZZ_SECONDS:-60}"
        add_one fuzz $?
        ;;
    soak)
        "$full/obj/tests/soak/keel_soak" "${SOAK_SECONDS:-600}"
        add_one "soak of keel" $?
        FERRY_BUILD=$full /usr/bin/python3 tests/soak/ferryd.py "${SOAK_SECONDS:-120}"
        add_one "soak of ferryd" $?
        ;;
    *)
        echo "check-long.sh: no step '$step'" >&2
        exit 2
        ;;
    esac
done
echo
printf '%s' "$summary"
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
