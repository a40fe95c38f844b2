#!/bin/sh
# SPDX-License-Identifier: MIT
# keel for aarch64, built by Debian's cross compiler, and its tests under
# qemu-user: aarch64.sh BUILD.  The last line is "N passed, N failed".
#
# liburing and cmocka for arm64 are unpacked beside the build; the system's own
# list of architectures stays as it is.  The tests are those of the switch, the
# loops, and what stands on them.  qemu-user knows no io_uring, so loops wait by
# epoll; it starts no other program and knows no openat2(2), so the tests of
# processes and of files are not among them.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
. "$root/scripts/need.sh"
need build cross || exit 1

mkdir -p "$build"
full=$(cd "$build" && pwd)
sysroot=$full/sysroot
triplet=aarch64-linux-gnu

if [ ! -e "$sysroot/done" ]; then
    apt=$full/apt
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    set -- -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$apt/state" -o Dir::State::status=/dev/null \
        -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root
    apt-get "$@" update
    (cd "$apt/debs" &&
        apt-get "$@" download liburing2 liburing-dev libcmocka0 libcmocka-dev)
    for deb in "$apt"/debs/*.deb; do
        dpkg -x "$deb" "$sysroot"
    done
    rm -rf "$apt"
    touch "$sysroot/done"
fi

# Where the cross compiler's C library lies is no sysroot of the programs'.
cat >"$full/cross.ini" <<END
[binaries]
c = '$triplet-gcc'
ar = '$triplet-ar'
strip = '$triplet-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-L', '/usr/$triplet', '-E',
  'LD_LIBRARY_PATH=$sysroot/usr/lib/$triplet']
[properties]
pkg_config_libdir = '$sysroot/usr/lib/$triplet/pkgconfig'
sys_root = '$sysroot'
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
{
    [ -e "$full/obj/build.ninja" ] ||
        meson setup "$full/obj" "$root" --cross-file "$full/cross.ini" \
            -Dferry=false
    ninja -C "$full/obj"
} >"$full/build.log" 2>&1 || {
    tail -n 40 "$full/build.log"
    exit 1
}

meson test -C "$full/obj" --list --suite unit 2>/dev/null | sed 's/.* \/ //' |
    grep -E '^keel (address|barrier|co|co_switch|frame|future|group|io|lock|lock_order|map|net|once|poller|pool|queue|queue_[a-z]*|rlock|rwlock|stream|system|timer|wait)( \(epoll\))?$|^keel example (as_completed|counter|crosswise|hash_map|join_all|map|once|queue_orders|rlock|select|switch)$' \
        >"$full/tests"
rc=0
xargs -d '\n' -a "$full/tests" meson test -C "$full/obj" --no-rebuild \
    --print-errorlogs --timeout-multiplier 20 --num-processes "$(nproc)" || rc=1
/usr/bin/python3 "$root/scripts/tally.py" "$full" || rc=1
exit $rc
