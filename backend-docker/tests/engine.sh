#!/bin/bash
# A private engine with a small test image, without systemd and without a registry.
#
#   engine.sh up DIR     starts it (installing Debian's packages if absent) and prints DOCKER_HOST=...
#   engine.sh stop DIR   stops it by its pid and keeps its data; `up` starts it again
#   engine.sh kill DIR   kills it by its pid
#   engine.sh down DIR   removes its containers, stops it, deletes DIR
#
# ENGINE        docker (the default) or podman
# OWNER         a process id: when that process ends, so does the engine, as by `down`
# DATA_SIZE     its data on a file system of this size (48m), to fill it up
# DOCKERD_ARGS  more arguments for dockerd (--live-restore)
# NETNS=1       in a network namespace of its own: a second engine of this machine must not share one,
#               because the later one removes the bridge of the earlier one
set -euo pipefail
action=${1:?up, stop, kill or down} dir=${2:?a directory}
name=poolyard-$(basename "$dir")
engine=${ENGINE:-docker}
socket=$dir/docker.sock pid_file=$dir/$engine.pid

api() { curl -sf --unix-socket "$socket" "$@"; }

has() { command -v "$1" >/dev/null; }

installed() {
  has busybox && has curl && has ip && has iptables || return
  if [ "$engine" = docker ]; then has dockerd; else
    has podman && { [ -x /usr/libexec/podman/catatonit ] || has catatonit; }
  fi
}

install_engine() {
  installed && return
  local packages="docker.io busybox-static curl iproute2 iptables"
  [ "$engine" = docker ] || packages="$packages podman containernetworking-plugins catatonit"
  export DEBIAN_FRONTEND=noninteractive
  # The package must not start a service of its own.
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  apt-get -o DPkg::Lock::Timeout=300 -qq update
  # shellcheck disable=SC2086
  apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $packages >/dev/null
}

start_engine() {
  mkdir -p "$dir"
  if [ -n "${DATA_SIZE:-}" ] && ! mountpoint -q "$dir/data"; then
    mkdir -p "$dir/data"
    mount -t tmpfs -o "size=$DATA_SIZE" poolyard "$dir/data"
  fi
  local enter=()
  if [ "${NETNS:-0}" = 1 ]; then
    [ -e "/var/run/netns/$name" ] || { ip netns add "$name"; ip -n "$name" link set lo up; }
    # Not `ip netns exec`: it would hide the cgroup mounts.
    enter=(nsenter "--net=/var/run/netns/$name")
  fi
  "start_$engine"
  for _ in $(seq 600); do api http://d/_ping >/dev/null 2>&1 && return; sleep 0.05; done
  tail -20 "$dir/$engine.log" >&2
  exit 1
}

# A bridge of its own and no rules in the machine's filters: a second engine would take docker0 away from
# the first, and flush its rules. Addresses are those between networks for benchmarks (RFC 2544).
number=$(cksum <<<"$dir" | cut -d' ' -f1) bridge=py$number
make_bridge() {
  "${enter[@]}" ip link show "$bridge" >/dev/null 2>&1 && return
  "${enter[@]}" ip link add "$bridge" type bridge
  "${enter[@]}" ip addr add "198.18.$((number % 256)).1/24" dev "$bridge"
  "${enter[@]}" ip link set "$bridge" up
}

start_docker() {
  make_bridge
  # After a kill these name processes that are gone, or zombies; the engine would wait for them.
  rm -f "$pid_file" "$dir/exec/containerd/containerd.pid"
  # shellcheck disable=SC2086
  setsid "${enter[@]}" dockerd --data-root "$dir/data" --exec-root "$dir/exec" -p "$pid_file" \
    -H "unix://$socket" --bridge "$bridge" --iptables=false --log-level warn ${DOCKERD_ARGS:-} >>"$dir/docker.log" 2>&1 </dev/null &
}

# Podman's defaults lean on systemd, on limits that only a machine's owner can raise, and on locks in a
# shared memory that all its instances use.
start_podman() {
  cat >"$dir/containers.conf" <<END
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
END
  printf '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n' >"$dir/registries.conf"
  # It mounts and unmounts its storage at every command: not where a test takes a census. And it leaves
  # every image that it was given in the directory for temporary files.
  mkdir -p "$dir/temporary"
  TMPDIR=$dir/temporary CONTAINERS_CONF=$dir/containers.conf CONTAINERS_REGISTRIES_CONF=$dir/registries.conf \
    setsid "${enter[@]}" unshare -m --propagation private podman --root "$dir/data" --runroot "$dir/run" \
    --tmpdir "$dir/tmp" --network-config-dir "$dir/networks" --log-level warn \
    system service -t 0 "unix://$socket" >>"$dir/podman.log" 2>&1 </dev/null &
  echo $! >"$pid_file"
}

# busybox and nothing else, straight through the API.
import_image() {
  api http://d/images/poolyard-test:1/json >/dev/null 2>&1 && return
  local root; root=$(mktemp -d)
  mkdir -p "$root"/{bin,tmp,box,etc,dev,proc,sys,run,var/tmp}
  chmod 1777 "$root/tmp" "$root/box" "$root/var/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done
  printf 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/box:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nuser:x:1000:\nextra:x:1001:user\n' >"$root/etc/group"
  # Podman reads no tag of its own.
  tar -C "$root" -c . | api -X POST -H 'Content-Type: application/x-tar' -T - \
    'http://d/images/create?fromSrc=-&repo=poolyard-test:1&changes=ENV%20PATH%3D%2Fbin&changes=CMD%20%5B%22%2Fbin%2Fsh%22%5D' >/dev/null
  rm -rf "$root"
}

# A process of its own that outlives us and waits for the owner's end.
end_with_owner() {
  [ -n "${OWNER:-}" ] && [ ! -e "$dir/watched" ] || return 0
  touch "$dir/watched"
  setsid sh -c 'tail --pid="$1" -f /dev/null; exec bash "$2" down "$3"' - "$OWNER" "$0" "$dir" >/dev/null 2>&1 </dev/null &
}

engine_pid() { cat "$pid_file" 2>/dev/null || true; }

ended() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

signal_engine() {
  local pid; pid=$(engine_pid)
  [ -n "$pid" ] || return 0
  kill "-$1" "$pid" 2>/dev/null || return 0
  for _ in $(seq 400); do ended "$pid" && return 0; sleep 0.05; done
  echo "$engine $pid did not end" >&2
  return 1
}

# Killing dockerd leaves its containerd behind, which the next start would have to live with.
kill_containerd() {
  local pid; pid=$(cat "$dir/exec/containerd/containerd.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$dir"; then kill -KILL "$pid" || true; fi
}

# What watched over ended commands of Podman's containers stays for minutes, and writes into DIR.
end_monitors() {
  local pid
  for pid in $(pgrep -x conmon || true); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$dir/"; then kill -KILL "$pid" || true; fi
  done
}

remove_containers() {
  for id in $(api 'http://d/containers/json?all=1' 2>/dev/null | grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do
    api -X DELETE "http://d/containers/$id?force=1&v=1" >/dev/null || true
  done
  # Each has a bridge, which would stay.
  api -X POST http://d/networks/prune >/dev/null || true
}

case $action in
up) install_engine; start_engine; import_image; end_with_owner; echo "DOCKER_HOST=unix://$socket" ;;
stop) signal_engine TERM ;;
kill) signal_engine KILL; kill_containerd ;;
down)
  [ -d "$dir" ] || exit 0
  # Otherwise dockerd waits ten seconds for each of them.
  remove_containers
  signal_engine TERM || true
  end_monitors
  if mountpoint -q "$dir/data"; then umount -l "$dir/data"; fi
  rm -rf "$dir"
  if [ -e "/var/run/netns/$name" ]; then ip netns del "$name"; fi
  ip link del "$bridge" 2>/dev/null || true
  ;;
*) echo "unknown action $action" >&2; exit 2 ;;
esac
