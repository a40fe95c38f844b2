#!/bin/sh
# SPDX-License-Identifier: MIT
# What a reader would object to: warnings of either compiler, text that is not
# formatted, sources without a licence line, words that do not belong.
set -u
cd "$(dirname "$0")/.." || exit 1
rc=0
fail() {
    echo "lint: $*" >&2
    rc=1
}

for compiler in gcc clang; do
    dir=build-lint-$compiler
    [ -d "$dir/obj" ] ||
        CC=$compiler meson setup "$dir/obj" -Dwerror=true >/dev/null ||
        fail "$compiler: setup"
    ninja -C "$dir/obj" >"$dir/lint.log" 2>&1 || {
        grep -E -A6 'error:|warning:|FAILED' "$dir/lint.log" | head -60
        fail "$compiler finds fault"
    }
done

sources=$(git ls-files '*.c' '*.h')
# shellcheck disable=SC2086
clang-format --dry-run -Werror $sources 2>&1 | head -20 | grep . &&
    fail "make fmt"
for f in $sources $(git ls-files '*.S' '*.py' '*.sh' check quickstart .ci/run); do
    head -n 3 "$f" | grep -q 'SPDX-License-Identifier: MIT' ||
        fail "$f has no SPDX line"
done
# shellcheck disable=SC2086
git grep -nwE 'T[O]DO|F[I]XME|X[X]X' -- $sources && fail "unfinished work"

# Manual pages: nothing worse than matters of style.
pages=$(git ls-files 'docs/man/*.[158]')
made=$(mktemp -d)
scripts/man_pages.py "$made" || fail "a header's manual page"
if command -v mandoc >/dev/null 2>&1; then
    # shellcheck disable=SC2046,SC2086
    mandoc -Tlint -W warning $pages $(grep -L '^\.so ' "$made"/*/*) ||
        fail "a manual page"
fi
rm -rf "$made"

# Whatever is said to people is said in their language.
scripts/pot.py --check || fail "a translation: scripts/pot.py, then po/*.po"

# keel knows nothing of ferry, and only keel meets the kernel.
git grep -n '#include "\(base\|chunk\|wire\|ledger\|vault\|account\|native\)/' \
    -- keel && fail "keel includes ferry"
git grep -nE '#include <(pthread|sys/epoll|liburing|threads)' -- ferry &&
    fail "ferry goes past keel"
# Arrows point down.
while read -r dir above; do
    for up in $above; do
        git grep -n "#include \"$up/" -- "$dir" &&
            fail "$dir includes $up"
    done
done <<LAYERS
keel/seam loop sync pool io process patch server sim
keel/loop sync pool io process patch server sim
keel/sync pool io process patch server sim
keel/pool io process patch server sim
keel/io pool process patch server sim
keel/process patch server sim
keel/patch seam sync pool io process sim
ferry/base chunk wire transfer ledger account vault native daemon client
ferry/chunk wire transfer ledger account vault native daemon client
ferry/wire chunk transfer ledger account vault native daemon client
ferry/transfer ledger account vault native daemon client
ferry/ledger wire transfer account vault native daemon client
ferry/account wire transfer vault native daemon client
ferry/vault wire transfer native daemon client
ferry/native daemon client
ferry/client vault native daemon
LAYERS

exit $rc
