#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every libFuzzer harness for SECONDS each, as many at once as there are
# processors (JOBS): fuzz.sh SECONDS
# New findings stay in build-fuzz/corpus/NAME; a crash leaves its input there.
set -eu
cd "$(dirname "$0")/.."
if [ "$1" = one ]; then
    harness=$2
    seconds=$3
    name=$(basename "$harness")
    corpus=build-fuzz/corpus/$name
    log=build-fuzz/$name.log
    mkdir -p "$corpus"
    seeds=
    [ -d "tests/fuzz/corpus/$name" ] && seeds=tests/fuzz/corpus/$name
    rc=0
    # shellcheck disable=SC2086
    "$harness" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$corpus/" -verbosity=0 -print_final_stats=1 \
        "$corpus" $seeds >"$log" 2>&1 || rc=1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz: $name, $seconds s: ${runs:-0} inputs"
    if [ $rc != 0 ]; then
        echo "fuzz: $name FAILED"
        tail -n 60 "$log"
    fi
    exit $rc
fi

seconds=$1
[ -d build-fuzz/obj ] ||
    CC=clang meson setup build-fuzz/obj -Db_sanitize=address,undefined \
        -Db_lundef=false -Dfuzz=true >/dev/null
ninja -C build-fuzz/obj >build-fuzz/build.log || {
    tail -n 40 build-fuzz/build.log
    exit 1
}
# One that fails does not end the others.
printf '%s\n' build-fuzz/obj/tests/fuzz/*_fuzz |
    xargs -P "${JOBS:-$(nproc)}" -I '{}' scripts/fuzz.sh one '{}' "$seconds"
