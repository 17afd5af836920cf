#!/usr/bin/env bash
# Takes this Ray node out of its cluster in good order: what Kubernetes runs before it ends a pod (preStop).
#
# Ray is told that the node goes, and when. The renderer hears of it, saves the canvas, and lets this node's workers go;
# then, or after $LEAVE_SECONDS (default 90), the node may end.
set -u

seconds=${LEAVE_SECONDS:-90}
# Kubernetes says where the head is in RAY_ADDRESS; ray reads it by itself.
ray drain-node --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message="the machine is taken away" \
  --deadline-remaining-seconds="$seconds" || exit 0

# Workers name their processes ray::SOMETHING; those called ray::IDLE hold nothing.
is_busy() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -a '^ray::' | grep -qav '^ray::IDLE'; }

until=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$until" ] && is_busy; do sleep 1; done
exit 0
