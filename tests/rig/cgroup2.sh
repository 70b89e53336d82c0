#!/usr/bin/env bash
# Runs a command while cpu, cpuset, io and pids are controllers of version 2 of control groups, and gives them back to
# version 1 afterwards. Memory stays where it is: it does not move as long as anything is accounted.
#
# It holds for the whole machine, so nothing else may run containers meanwhile. What an earlier run left half done is
# repaired first. A hierarchy of version 1 that somebody has open cannot be unmounted, but as long as it has no groups it
# takes another controller in place of its own: that one has to be unused, and comes back to where it was.
set -euo pipefail

root=/sys/fs/cgroup
# A hierarchy of version 1, and the controller that stands in for its own.
pairs=(cpu:perf_event cpuset:net_cls pids:net_prio blkio:hugetlb)
v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)

say() { echo "cgroup2.sh: $*" >&2; }

holds() { awk -v dir="$root/$1" -v name="$2" \
  '$2 == dir && $3 == "cgroup" && ("," $4 ",") ~ ("," name ",") { found = 1 } END { exit !found }' /proc/mounts; }

# Removes the groups below a folder, the deepest first. Those with processes stay.
clear_below() { find "$1" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true; }

# Groups go some time after their folders, and a hierarchy takes no other controller before.
swap() {
  local try
  for try in $(seq 100); do
    holds "$1" "$2" && return
    clear_below "$root/$1"
    mount -t cgroup -o "remount,$2" cgroup "$root/$1" 2>/dev/null || sleep 0.1
  done
  say "$root/$1 does not take $2: it has groups of its own, or somebody uses $2"
  return 1
}

# Takes all controllers from all groups of version 2, those below first.
give_up() {
  local dir used
  find "$v2" -depth -type d | while read -r dir; do
    for used in $(cat "$dir/cgroup.subtree_control" 2>/dev/null); do
      echo "-$used" >"$dir/cgroup.subtree_control" || true
    done
  done
}

back() {
  local pair rc=0
  clear_below "$v2"
  give_up
  for pair in "${pairs[@]}"; do swap "${pair%:*}" "${pair%:*}" || rc=1; done
  return "$rc"
}

there() {
  local pair has
  for pair in "${pairs[@]}"; do
    swap "${pair%:*}" "${pair#*:}"
  done
  has=$(cat "$v2/cgroup.controllers")
  echo "+cpu +cpuset +io +pids" >"$v2/cgroup.subtree_control" || { say "version 2 has '$has' alone"; return 1; }
}

[ -n "$v2" ] || { say "version 2 of control groups is not mounted"; exit 1; }
if [ "$root" = "$v2" ]; then
  # Version 2 alone: it has them already.
  exec "$@"
fi
back
trap back EXIT
# Also where somebody ends it in the middle.
trap 'exit 130' INT
trap 'exit 143' TERM
there
"$@"
