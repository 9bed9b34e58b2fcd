#!/bin/bash
# Places one call into the lab's running Asterisk and prints what the dialplan
# said about it.
#
#   call.sh EXTEN [SECONDS [LAB-DIR [INSTANCE]]]     call.sh 108
#   AGIURL=agi://127.0.0.1:4573/ivr call.sh run      any URL
#
# The caller stays on the line for SECONDS (30) at most, so a small number is a
# caller who hangs up in mid-session.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 EXTEN [SECONDS [LAB-DIR [INSTANCE]]]" >&2; exit 2; }
exten=$1 secs=${2:-30} id=call-$$-$RANDOM
lab=${3:-${XDG_CACHE_HOME:-$HOME/.cache}/agiproxy-testbed/asterisk} dir=$lab/root/lab/${4:-lab}
log=$dir/log/messages.log
[ -e "$log" ] || log=$dir/log/messages
from=$(wc -l <"$log")
context=demo
[ "$exten" != run ] || context=lab
f=$(mktemp "$dir/spool/tmp/XXXXXX")
cat >"$f" <<END
Channel: Local/$exten@$context/n
Application: Wait
Data: $secs
MaxRetries: 0
Setvar: __TESTID=$id
Setvar: __AGIURL=${AGIURL:-}
END
chown --reference="$dir/spool/outgoing" "$f"
mv "$f" "$dir/spool/outgoing/$id.call"
for _ in $(seq $((5 * (secs + 10)))); do
    if tail -n +$((from + 1)) "$log" | grep "NOTICE.* RESULT id=$id "; then exit 0; fi
    sleep 0.2
done
echo "$0: nothing from the dialplan about call $id" >&2
exit 1
