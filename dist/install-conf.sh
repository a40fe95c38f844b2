#!/bin/sh
# SPDX-License-Identifier: MIT
# The settings file, unless there is one: an operator's is never overwritten.
#   install-conf.sh EXAMPLE DIRECTORY
set -eu
to=${DESTDIR-}$2
[ ! -e "$to/ferryd.conf" ] || exit 0
mkdir -p "$to"
cp "$1" "$to/ferryd.conf"
chmod 0644 "$to/ferryd.conf"
