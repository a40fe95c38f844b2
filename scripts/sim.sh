#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs each scenario of the simulated world with SEEDS seeds, as many processes
# at once as there are processors, each with its share: sim.sh BUILD SEEDS
# [FIRST].  A seed that fails says how to repeat it.
set -u
build=$1 seeds=$2 first=${3:-1}
jobs=$(nproc)
began=$SECONDS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

share() {
    local program=$1 name=$2 part=$3
    local from=$((seeds * part / jobs)) to=$((seeds * (part + 1) / jobs))
    [ $to -gt $from ] || return 0
    SEEDS=$((to - from)) KEEL_SIM_FIRST=$((first + from)) \
        "$program" "$name" >>"$work/$name" 2>"$work/$name.$part.err" ||
        cat "$work/$name.$part.err"
}

scenario() {
    local program=$build/obj/$1 name=$2 from=${EPOCHREALTIME/./}
    for ((part = 0; part < jobs; part++)); do
        share "$program" "$name" "$part" >"$work/$name.$part.failed" &
    done
    wait
    cat "$work/$name".*.failed >>"$work/failed"
    awk -v name="$name" -v spent=$((${EPOCHREALTIME/./} - from)) '
        { for (i = 1; i < NF; i++) {
            if ($(i + 1) == "seeds,") seeds += $i
            if ($(i + 1) == "steps,") steps += $i
            if ($(i + 1) == "connections,") connections += $i
            if ($(i + 1) == "lost,") lost += $i
            if ($(i + 1) == "faults,") faults += $i
            if ($(i + 1) == "crashes") crashes += $i } }
        END { printf "%-8s %d seeds in %.1f s, %.0f seeds/s: %d steps, %d connections, %d lost, %d faults, %d crashes\n",
              name, seeds, spent / 1e6, seeds * 1e6 / (spent ? spent : 1), steps, connections, lost, faults, crashes }' \
        "$work/$name"
}

scenario keel/sim_scenarios queue
scenario keel/sim_scenarios brief
scenario keel/sim_scenarios pool
scenario keel/sim_scenarios server
scenario ferry/native/native_scenario native
printf '%d s\n' $((SECONDS - began))
if [ -s "$work/failed" ]; then
    cat "$work/failed"
    exit 1
fi
