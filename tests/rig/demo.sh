#!/usr/bin/env bash
# Shows the daemon on a Podman of its own: launch, progress, list, logs, a stop that waits, a refusal; then the same Package
# on Docker and containerd, where they are installed, each of its own too, and on runc with no engine daemon, which is
# hibernated and woken where CRIU works; and a CPU that one workload has alone.
# Everything lives in one temporary folder and is gone at the end, however it ends.
# Usage: demo.sh FOLDER-OF-THE-PROGRAMS (with actioncontroller and actionctl in it).
set -euo pipefail

programs=${1:?the folder with actioncontroller and actionctl}
project=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/actioncontroller-demo.XXXXXX")
podman_pid='' containerd_pid='' docker_pid='' daemon_pid=''

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Podman with everything of its own, so that nothing of the machine's is seen or touched.
podman_here=(env "CONTAINERS_CONF=$work/containers.conf" podman --root "$work/storage" --runroot "$work/run"
  --tmpdir "$work/tmp" --network-config-dir "$work/networks")

ctl() {
  printf '$ actionctl %s\n' "${*//$project\//}"
  "$programs/actionctl" --address "unix://$work/actioncontroller.sock" "$@"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what did not come within $seconds s"
    sleep 0.1
  done
}

# end_process PID SECONDS: SIGTERM, then SIGKILL when it takes too long; says the exit code.
end_process() {
  local end=$((SECONDS + $2)) code=0
  kill -TERM "$1" 2>/dev/null || true
  while kill -0 "$1" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.1; done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" || code=$?
  return "$code"
}

clean_up() {
  local code=$?
  trap - EXIT
  set +e
  if [ "$code" -ne 0 ] && [ -s "$work/daemon.log" ]; then
    printf '\nThe daemon said:\n' >&2
    tail -n 40 "$work/daemon.log" >&2
  fi
  [ -z "$daemon_pid" ] || end_process "$daemon_pid" 25
  if [ -d "$work/storage" ]; then
    "${podman_here[@]}" pod rm --all --force --time 0 >/dev/null 2>&1
    "${podman_here[@]}" rm --all --force --time 0 >/dev/null 2>&1
  fi
  for pid in "$podman_pid" "$docker_pid" "$containerd_pid"; do
    [ -z "$pid" ] || end_process "$pid" 10 2>/dev/null
  done
  # Shims and the writers of output, whose command lines name the folder, where the end was not the planned one.
  for process in /proc/[0-9]*; do
    { words=$(tr '\0' ' ' <"$process/cmdline"); } 2>/dev/null
    case $words in
      *containerd-shim*"$work/"* | *container-log*"$work/"*) kill -KILL "${process#/proc/}" 2>/dev/null ;;
    esac
  done
  for container in "$work"/oci-run/*/; do
    [ ! -d "$container" ] || runc --root "$work/oci-run" delete --force "$(basename "$container")" 2>/dev/null
  done
  # The innermost mounts come last in the list and have to go first.
  awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | tac | while read -r mount; do
    umount -l "$mount"
  done
  rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for program in actioncontroller actionctl; do
  [ -x "$programs/$program" ] || fail "'$programs/$program' is not there; run 'make demo'"
done
[ "$(id -u)" = 0 ] || fail 'needs root, for a Podman that can start containers on any machine'

say 'A Podman of our own, with an image made here'
cat > "$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
mkdir -p "$work/image/bin" "$work/image/tmp" "$work/networks"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for applet in sh sleep echo true cat ls ps kill; do ln -s busybox "$work/image/bin/$applet"; done
tar -C "$work/image" -c . | "${podman_here[@]}" import --change 'ENV PATH=/bin' - localhost/actioncontroller-demo:1 \
  >/dev/null 2>"$work/import.log" || { cat "$work/import.log" >&2; fail 'the image cannot be made'; }
"${podman_here[@]}" system service --time 0 "unix://$work/podman.sock" 2>"$work/podman.log" &
podman_pid=$!
wait_for 20 "Podman's socket" test -S "$work/podman.sock"
"${podman_here[@]}" images --format '{{.Repository}}:{{.Tag}} {{.Size}}'

mkdir "$work/images"
"${podman_here[@]}" save --quiet --format oci-archive --output "$work/images/demo.tar" localhost/actioncontroller-demo:1

# The usual archive, which Docker and containerd read.
"${podman_here[@]}" save --quiet --output "$work/demo.tar" localhost/actioncontroller-demo:1

engines=(podman)
if command -v containerd >/dev/null && command -v ctr >/dev/null; then
  say 'A containerd of our own'
  mkdir "$work/containerd"
  containerd --config /dev/null --root "$work/containerd/root" --state "$work/containerd/state" \
    --address "$work/containerd.sock" >"$work/containerd.log" 2>&1 &
  containerd_pid=$!
  wait_for 20 containerd ctr --address "$work/containerd.sock" version
  ctr --address "$work/containerd.sock" --namespace actioncontroller images import "$work/demo.tar"
  engines+=(containerd)
fi
if command -v dockerd >/dev/null && command -v docker >/dev/null && [ -n "$containerd_pid" ]; then
  say 'A Docker of our own'
  dockerd --data-root "$work/docker/root" --exec-root "$work/docker/exec" --pidfile "$work/docker.pid" \
    --host "unix://$work/docker.sock" --containerd "$work/containerd.sock" --bridge none --iptables=false \
    >"$work/docker.log" 2>&1 &
  docker_pid=$!
  docker_here=(docker --host "unix://$work/docker.sock")
  wait_for 30 Docker "${docker_here[@]}" version
  "${docker_here[@]}" load --quiet --input "$work/demo.tar"
  engines+=(docker)
fi

# Debian 13's CRIU, unpacked by tests/rig/criu.sh, where it is there.
criu=${ACTIONCONTROLLER_CRIU_DIR:-$HOME/.cache/actioncontroller/criu}/bin
[ ! -x "$criu/criu" ] || export PATH="$criu:$PATH"

say 'The daemon, with one drop-in'
mkdir "$work/config.d"
cat > "$work/config.d/10-demo.yaml" <<CONF
node: demo
state_dir: $work/state
listen:
  unix: $work/actioncontroller.sock
runtimes:
  preference: [$(IFS=,; echo "${engines[*]}"), oci]
  podman:
    socket: $work/podman.sock
  docker:
    enabled: $([ -n "$docker_pid" ] && echo true || echo false)
    socket: $work/docker.sock
  containerd:
    enabled: $([ -n "$containerd_pid" ] && echo true || echo false)
    socket: $work/containerd.sock
  oci:
    enabled: true
    runtime: runc
    run_dir: $work/oci-run
    image_folders: [$work/images]
CONF
cat "$work/config.d/10-demo.yaml"
"$programs/actioncontroller" --config "$work/config.d" 2>"$work/daemon.log" &
daemon_pid=$!
wait_for 20 'the daemon' "$programs/actionctl" --address "unix://$work/actioncontroller.sock" health
ctl health
ctl runtimes

say 'What a launch would do'
ctl plan -f "$project/config/examples/dashboard.yaml"

say 'Launch: a Package with two containers'
ctl apply -f "$project/config/examples/dashboard.yaml"
ctl ps

say 'The same again changes nothing'
ctl apply -f "$project/config/examples/dashboard.yaml"

say 'What it writes'
meter_has_counted() { "$programs/actionctl" --address "unix://$work/actioncontroller.sock" logs dashboard meter | grep -q "km 3"; }
wait_for 20 "the meter's third kilometre" meter_has_counted
ctl logs dashboard meter
ctl logs dashboard watcher

say 'Other limits while it runs, with no restart'
ctl scale dashboard --container meter --cpus 250m --memory 96m
ctl get workload dashboard | tee "$work/limits.txt"
grep -q 'In force:.*cpu 250m.*memory 96.0 MiB' "$work/limits.txt" || fail 'the new limits are not in force'

say 'A stop: its SIGTERM handler takes a second and ends with code 7'
ctl stop dashboard
ctl ps -o json | tee "$work/ps.json"
"${podman_here[@]}" inspect --format '{{.State.ExitCode}}' dashboard_meter | grep -qx 7 || fail "the meter's exit code is not 7"
"${podman_here[@]}" logs dashboard_meter 2>&1 | grep -qx saved || fail 'the meter could not save'
echo "The meter saved and ended with code 7."

say 'A bad manifest is refused, with its place and what would be right'
code=0
ctl apply -f "$project/config/examples/bad-quantity.yaml" || code=$?
[ "$code" -ne 0 ] || fail 'the bad manifest was taken'
echo "actionctl ended with code $code."
"${podman_here[@]}" ps --all --format '{{.Names}}' | grep -q too-hungry && fail 'something of the bad manifest is there'

say 'Away with it'
ctl terminate dashboard
left=$("${podman_here[@]}" ps --all --quiet | wc -l)
[ "$left" = 0 ] || fail "$left containers are left"

for engine in "${engines[@]:1}"; do
  say "The same Package on $engine"
  ctl apply --runtime "$engine" -f "$project/config/examples/dashboard.yaml"
  wait_for 20 "the meter's third kilometre" meter_has_counted
  ctl ps
  ctl stop dashboard
  "$programs/actionctl" --address "unix://$work/actioncontroller.sock" ps -o json >"$work/ps.json"
  grep -q '"exit_code": *7' "$work/ps.json" || { cat "$work/ps.json"; fail "the meter's exit code is not 7"; }
  ctl terminate dashboard
done

say 'The same Package with no engine daemon, by runc under conmon'
ctl apply --runtime oci -f "$project/config/examples/dashboard.yaml"
ctl ps
if [ -x "$criu/criu" ]; then
  say 'Hibernated: its memory is given back, its processes are on disk; woken, it goes on where it was'
  wait_for 20 "the meter's third kilometre" meter_has_counted
  ctl hibernate dashboard
  ctl ps
  pgrep -f 'watcher is up' >/dev/null && fail 'a process is left'
  ctl wake dashboard
  ctl ps
  kilometres() { "$programs/actionctl" --address "unix://$work/actioncontroller.sock" logs dashboard meter | grep -c km; }
  before=$(kilometres)
  meter_goes_on() { [ "$(kilometres)" -gt "$before" ]; }
  wait_for 20 'the next kilometre' meter_goes_on
  ctl logs dashboard meter | tail -n 3
else
  echo "No CRIU that works is at hand (tests/rig/criu.sh gets one), so nothing is hibernated."
fi
ctl stop dashboard
ctl terminate dashboard

if [ "$(nproc)" -gt 1 ]; then
  say 'A CPU for one workload alone'
  cat > "$work/alone.yaml" <<POD
apiVersion: v1
kind: Pod
metadata:
  name: alone
  annotations: {actioncontroller.io/exclusive-cpu-count: "1"}
spec:
  hostNetwork: true
  containers:
    - {name: main, image: "localhost/actioncontroller-demo:1", command: [/bin/sh, -c, 'trap exit TERM; while :; do sleep 0.1; done']}
POD
  ctl apply --runtime oci -f "$work/alone.yaml"
  ctl cores | tee "$work/cores.txt"
  cpu=$(awk '/alone/ { print $1 }' "$work/cores.txt")
  pid=$("$programs/actionctl" --address "unix://$work/actioncontroller.sock" get workload alone | awk '$1 == "Pid:" { print $2 }')
  [ "$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$pid/status")" = "$cpu" ] || fail "process $pid is not on CPU $cpu alone"
  [ "$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$daemon_pid/status")" != "$cpu" ] || fail 'the daemon is on it'
  ctl terminate alone
  "$programs/actionctl" --address "unix://$work/actioncontroller.sock" cores | grep -q alone && fail 'the CPU is not free again'
fi

say 'SIGTERM ends the daemon'
code=0
end_process "$daemon_pid" 25 || code=$?
daemon_pid=''
[ "$code" = 0 ] || fail "the daemon ended with code $code"
say 'Done; nothing is left'
