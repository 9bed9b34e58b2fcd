#!/bin/bash
# Starts one Asterisk of the lab. Several instances can run at once: each has
# its own directories below LAB-DIR/root/lab/INSTANCE and its own AMI port.
#
#   start.sh [LAB-DIR [INSTANCE]]     ...   stop.sh [LAB-DIR [INSTANCE]]
#
# Environment:
#   AGI_ADDR     HOST:PORT that extensions 108, 110 and 111 call (127.0.0.1:4577)
#   AMI_PORT     manager port on loopback, user lab, secret lab (15038)
#   FOREGROUND   1: become Asterisk instead of leaving it in the background
#   FASTAGI_*    for the AGI script of extension 109, see ../perl
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lab=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/agiproxy-testbed/asterisk} instance=${2:-lab}
[ -x "$lab/root/usr/sbin/asterisk" ] || { echo "$0: no Asterisk in $lab: run setup.sh first" >&2; exit 1; }
root=$(cd "$lab" && pwd)/root dir=/lab/$instance
conf=$dir/etc/asterisk.conf
ast() { chroot "$root" asterisk -C "$conf" "$@"; }

if ast -rx 'core waitfullybooted' 2>/dev/null | grep -q 'fully booted'; then
    echo "$0: instance $instance is already running" >&2
    exit 1
fi
install -d "$root$dir/etc" "$root$dir/agi-bin"
owner=$(awk -F: '$1 == "asterisk" { print $3 ":" $4 }' "$root/etc/passwd")
for d in lib run log spool spool/outgoing spool/tmp; do
    install -d -o "${owner%:*}" -g "${owner#*:}" "$root$dir/$d"
done
moddir=$(cd "$root" && dirname "$(find usr/lib -name res_agi.so | head -1)")
for f in "$here"/etc/*.conf; do
    sed -e "s|@DIR@|$dir|g" -e "s|@MODDIR@|/$moddir|" -e "s|@AMI_PORT@|${AMI_PORT:-15038}|" \
        -e "s|@AGI_ADDR@|${AGI_ADDR:-127.0.0.1:4577}|" "$f" >"$root$dir/etc/$(basename "$f")"
done
install -m 755 "$here"/../perl/* "$root$dir/agi-bin/"

ulimit -n "$(ulimit -Hn)" # a call takes a dozen descriptors
if [ "${FOREGROUND:-}" = 1 ]; then
    exec chroot "$root" asterisk -f -C "$conf" -U asterisk -G asterisk </dev/null
fi
ast -U asterisk -G asterisk </dev/null >/dev/null 2>&1
for _ in $(seq 50); do
    if ast -rx 'core waitfullybooted' 2>/dev/null | grep -q 'fully booted'; then
        echo "Asterisk is up, pid $(cat "$root$dir/run/asterisk.pid"), log $root$dir/log/messages.log"
        exit 0
    fi
    sleep 0.2
done
echo "$0: Asterisk did not come up; see $root$dir/log" >&2
exit 1
