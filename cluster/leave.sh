#!/usr/bin/env bash
# Removes this Ray node from its cluster without loss of work. Kubernetes runs it before it ends a pod (preStop).
#
# It tells Ray that the node will end, and when. The renderer then saves the canvas and stops this node's workers. The
# script returns when no worker is busy, or after $LEAVE_SECONDS (default 90).
set -u

seconds=${LEAVE_SECONDS:-90}
# Kubernetes sets RAY_ADDRESS to the address of the head; the command ray reads it.
ray drain-node --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message="the machine is taken away" \
  --deadline-remaining-seconds="$seconds" || exit 0

# Ray names the processes of workers ray::NAME; those called ray::IDLE have no work.
is_busy() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -a '^ray::' | grep -qav '^ray::IDLE'; }

until=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$until" ] && is_busy; do sleep 1; done
exit 0
