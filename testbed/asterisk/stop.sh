#!/bin/bash
# Stops one Asterisk of the lab, and only that one.   stop.sh [LAB-DIR [INSTANCE]]
set -euo pipefail
lab=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/agiproxy-testbed/asterisk}
chroot "$lab/root" asterisk -C "/lab/${2:-lab}/etc/asterisk.conf" -rx 'core stop now'
