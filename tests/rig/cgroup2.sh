#!/bin/bash
# Runs a command while cpu, cpuset, blkio and pids are controllers of version 2 of control groups, and gives them back to
# version 1 afterwards. It holds for the whole machine, so nothing else may run containers meanwhile. What an earlier run left
# half done is repaired first. Memory cannot be moved as long as anything is accounted.
set -euo pipefail

v1=(cpu cpuset blkio pids)
root=/sys/fs/cgroup
v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)

say() { echo "cgroup2.sh: $*" >&2; }

is_v1() { awk -v dir="$root/$1" '$2 == dir && $3 == "cgroup" { found = 1 } END { exit !found }' /proc/mounts; }

# Removes the groups below a folder, the deepest first. Those with processes stay.
clear_below() {
  find "$1" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
}

back() {
  local controller try
  for controller in "${v1[@]}"; do
    is_v1 "$controller" && continue
    for try in $(seq 100); do
      clear_below "$v2"
      for used in $(cat "$v2/cgroup.subtree_control"); do echo "-$used" >"$v2/cgroup.subtree_control" 2>/dev/null || true; done
      mkdir -p "$root/$controller"
      mount -t cgroup -o "$controller" cgroup "$root/$controller" 2>/dev/null && continue 2
      sleep 0.1
    done
    say "$controller could not be given back to version 1: something still uses it below $v2"
    return 1
  done
}

there() {
  local controller try
  for controller in "${v1[@]}"; do
    is_v1 "$controller" || { say "$controller is not mounted as version 1 at $root/$controller"; return 1; }
    for try in $(seq 100); do
      clear_below "$root/$controller"
      [ "$(awk -v name="$controller" '$1 == name { print $3 }' /proc/cgroups)" = 1 ] && break
      sleep 0.1
    done
    umount "$root/$controller" || { say "$root/$controller is in use"; return 1; }
  done
  for try in $(seq 50); do
    has=$(cat "$v2/cgroup.controllers")
    [[ " $has " == *" cpu "* && " $has " == *" cpuset "* && " $has " == *" pids "* ]] && break
    sleep 0.1
  done
  echo "+cpu +cpuset +pids" >"$v2/cgroup.subtree_control" || { say "version 2 has '$has' alone"; return 1; }
}

[ -n "$v2" ] || { say "version 2 of control groups is not mounted"; exit 1; }
if [ "$root" = "$v2" ]; then
  # Version 2 alone: it has them already.
  exec "$@"
fi
back
trap back EXIT
there
"$@"
