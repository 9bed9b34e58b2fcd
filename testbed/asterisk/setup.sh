#!/bin/bash
# Builds the lab: a Debian chroot with the packaged Asterisk, the Perl modules
# for AGI, and Prometheus. It starts nothing and touches nothing outside of
# LAB-DIR, except that it installs debootstrap if the machine has none.
# A second run takes a moment. Needs root, and Debian's packages.
#
#   setup.sh [LAB-DIR]       (default: ${XDG_CACHE_HOME:-~/.cache}/agiproxy-testbed/asterisk)
#
# Environment:
#   SUITE    Debian suite of the chroot (forky; Debian 12 and 13 have no Asterisk)
#   MIRROR   where its packages come from (the mirror that this machine uses)
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "$0: must be root: it builds a chroot" >&2; exit 2; }
lab=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/agiproxy-testbed/asterisk}
mkdir -p "$lab"
root=$(cd "$lab" && pwd)/root
SUITE=${SUITE:-forky}
packages=(asterisk asterisk-core-sounds-en-gsm libasterisk-agi-perl libnet-server-perl prometheus)

exec 9>"$lab/.lock"
flock 9 # one at a time: two suites may share a lab

if [ ! -e "$root/.bootstrapped" ]; then
    if ! command -v debootstrap >/dev/null; then
        apt-get install -y --no-install-recommends debootstrap ||
            { apt-get update && apt-get install -y --no-install-recommends debootstrap; }
    fi
    if [ -z "${MIRROR:-}" ]; then
        MIRROR=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' |
            grep -v security | grep -m1 '/debian/*$') || MIRROR=http://deb.debian.org/debian
    fi
    # an older debootstrap has no script for a newer suite; they all use sid's
    script=/usr/share/debootstrap/scripts/$SUITE
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    rm -rf --one-file-system "$root"
    debootstrap --variant=minbase --include=ca-certificates "$SUITE" "$root" "$MIRROR" "$script"
    touch "$root/.bootstrapped"
fi

# no service may start inside the chroot
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"

inside() { DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$root" "$@"; }
if ! inside dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    if ! mountpoint -q "$root/proc"; then
        mount -t proc proc "$root/proc"
        trap 'umount "$root/proc"' EXIT
    fi
    # The lists that debootstrap left are good enough on the day it ran. Later
    # they are refreshed; a frozen mirror of testing may be past its Valid-Until.
    inside apt-get install -y --no-install-recommends "${packages[@]}" || {
        inside apt-get -o Acquire::Check-Valid-Until=false update
        inside apt-get install -y --no-install-recommends "${packages[@]}"
    }
    inside apt-get clean
fi

# Debian's core sounds have no "welcome"; a short one is borrowed under that name
inside sh -c 'cd /usr/share/asterisk/sounds/en && cp -f hello-world.gsm welcome.gsm'
echo "lab ready in $lab: $(inside asterisk -V)"
