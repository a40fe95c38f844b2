#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every libFuzzer harness for SECONDS each: fuzz.sh SECONDS
# New findings stay in build-fuzz/corpus/NAME; a crash leaves its input there.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
[ -d build-fuzz/obj ] ||
    CC=clang meson setup build-fuzz/obj -Db_sanitize=address,undefined \
        -Db_lundef=false -Dfuzz=true >/dev/null
ninja -C build-fuzz/obj >build-fuzz/build.log || {
    tail -n 40 build-fuzz/build.log
    exit 1
}
rc=0
for harness in build-fuzz/obj/tests/fuzz/*_fuzz; do
    name=$(basename "$harness")
    corpus=build-fuzz/corpus/$name
    mkdir -p "$corpus"
    seeds=
    [ -d "tests/fuzz/corpus/$name" ] && seeds=tests/fuzz/corpus/$name
    echo "fuzz: $name, $seconds s"
    # shellcheck disable=SC2086
    "$harness" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$corpus/" -verbosity=0 -print_final_stats=0 \
        "$corpus" $seeds || rc=1
done
exit $rc
