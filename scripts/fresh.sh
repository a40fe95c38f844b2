#!/bin/sh
# SPDX-License-Identifier: MIT
# Proves that the README's two commands are enough on a bare Debian 12: makes a
# root with debootstrap (cached for a week), unpacks HEAD in it, and runs
# ./quickstart and ./check there, in mount and pid namespaces of its own.  When
# they end, the kernel kills what was left running and drops every mount.
# Needs root and debootstrap.  fresh.sh COMMAND... runs that instead.
#   FRESH_CACHE  where the base tarball lies (default: /var/cache/ferry-fresh)
set -eu
src=$(cd "$(dirname "$0")/.." && pwd)
cache=${FRESH_CACHE:-/var/cache/ferry-fresh}
base=$cache/bookworm-minbase.tar

if [ "${FRESH_INSIDE:-}" != yes ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "make fresh needs root: it makes a system of its own to try in." >&2
        exit 1
    fi
    root=$src
    . "$src/scripts/need.sh"
    need -y fresh
    mkdir -p "$cache"
    if [ -z "$(find "$base" -mtime -7 2>/dev/null)" ]; then
        stage=$(mktemp -d "$cache/stage.XXXXXX")
        mirror=$(apt-get indextargets --format '$(REPO_URI)' \
            'Created-By: Packages' | head -n 1)
        debootstrap --variant=minbase bookworm "$stage" "$mirror" >&2
        tar -C "$stage" --one-file-system --numeric-owner -cf "$base.new" .
        rm -rf --one-file-system "$stage"
        mv "$base.new" "$base"
    fi
    root=$(mktemp -d "$cache/root.XXXXXX")
    # Nothing is mounted out here, so this rm can only meet our own files.
    trap 'rm -rf --one-file-system "$root"' EXIT
    trap 'exit 130' INT TERM
    tar -C "$root" --numeric-owner -xpf "$base"
    chmod 755 "$root" # mktemp made it nobody else's
    mkdir "$root/root/ferry"
    git -C "$src" archive HEAD | tar -C "$root/root/ferry" -xf -
    FRESH_INSIDE=yes FRESH_ROOT=$root \
        unshare --mount --pid --fork --kill-child "$0" "$@"
    exit
fi

r=$FRESH_ROOT
mount --make-rprivate /
mount -t proc proc "$r/proc"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t tmpfs -o mode=755 dev "$r/dev"
for d in null zero full random urandom tty; do
    : >"$r/dev/$d"
    mount --bind "/dev/$d" "$r/dev/$d"
done
mkdir "$r/dev/shm" "$r/dev/pts"
mount -t tmpfs -o mode=1777 shm "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
ln -s fd/0 "$r/dev/stdin"
ln -s fd/1 "$r/dev/stdout"
ln -s fd/2 "$r/dev/stderr"
cat /etc/resolv.conf >"$r/etc/resolv.conf" 2>/dev/null || :
printf '127.0.0.1 localhost\n::1 localhost\n' >"$r/etc/hosts" # minbase has none
# What apt needs to know of this machine (proxy, dates), nothing else.
apt-config dump |
    grep -E '^Acquire::(http|https)::Proxy|^Acquire::Check-(Date|Valid-Until) ' \
        >"$r/etc/apt/apt.conf.d/90host" || :
[ $# -gt 0 ] || set -- /bin/sh -euc '
        cd /root/ferry
        ./quickstart
        ./check
        if pgrep -x ferryd >/dev/null 2>&1; then
            echo "fresh: ferryd was left running" >&2
            exit 1
        fi
        echo "fresh: the two commands are enough"'
exec chroot "$r" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
