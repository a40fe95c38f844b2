#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh PROGRAM EXPECTED [ARGUMENT...]: runs PROGRAM; it must succeed, and
# print to both outputs what the file EXPECTED says, after the sed script
# NORMALISE if that is set.  Meson says by what it runs programs for another
# machine.
set -u
program=$1
expected=$2
shift 2

printed=$(mktemp) || exit 1
trap 'rm -f "$printed" "$printed.as-is"' EXIT
# shellcheck disable=SC2086
${MESON_EXE_WRAPPER-} "$program" "$@" >"$printed" 2>&1
status=$?
if [ -n "${NORMALISE-}" ]; then
    mv "$printed" "$printed.as-is"
    sed -f "$NORMALISE" "$printed.as-is" >"$printed" || exit 1
fi
diff -u "$expected" "$printed" || exit 1
[ "$status" -eq 0 ] || echo "$program: exit status $status"
exit "$status"
