# SPDX-License-Identifier: MIT
# Sourced: need [-y] GROUP... installs the packages of scripts/packages that
# are missing.  Asks before it does, unless root, -y or without a terminal.

need() {
    yes=
    if [ "${1-}" = -y ]; then
        yes=1
        shift
    fi
    if ! command -v dpkg-query >/dev/null 2>&1; then
        command -v meson >/dev/null 2>&1 && return 0
        echo "This is no Debian: install the counterparts of scripts/packages ($*) yourself." >&2
        return 1
    fi
    missing=
    for group in "$@"; do
        for package in $(sed -n "s/^$group //p" "$root/scripts/packages"); do
            case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
            *' installed') ;;
            *) missing="$missing $package" ;;
            esac
        done
    done
    [ -n "$missing" ] || return 0

    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "Missing packages; this installs them:"
    echo "  ${sudo:+$sudo }apt-get install --no-install-recommends$missing"
    if [ -n "$sudo" ] && [ -z "$yes" ] && [ -t 0 ]; then
        printf 'Do it now? [Y/n] '
        read -r answer
        case $answer in
        [nN]*) return 1 ;;
        esac
    fi
    log=$(mktemp)
    # A list of packages that is missing or stale is fetched once, and what an
    # interrupted run left half done is finished.
    need_install || {
        $sudo apt-get update -qq >>"$log" 2>&1
        $sudo dpkg --configure -a >>"$log" 2>&1
        need_install
    } || {
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    }
    rm -f "$log"
}

need_install() {
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends $missing </dev/null >>"$log" 2>&1
}
