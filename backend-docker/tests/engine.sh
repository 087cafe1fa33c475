#!/bin/bash
# A private Docker engine with a small test image, without systemd and without a registry.
#
#   engine.sh up DIR     starts it (installing Debian's docker.io if absent) and prints DOCKER_HOST=...
#   engine.sh stop DIR   stops it by its pid and keeps its data; `up` starts it again
#   engine.sh kill DIR   kills it by its pid
#   engine.sh down DIR   removes its containers, stops it, deletes DIR
#
# DATA_SIZE     its data on a file system of this size (48m), to fill it up
# DOCKERD_ARGS  more arguments for dockerd (--live-restore)
# NETNS=1       in a network namespace of its own: a second engine of this machine must not share one,
#               because the later one removes the bridge of the earlier one
set -euo pipefail
action=${1:?up, stop, kill or down} dir=${2:?a directory}
name=poolyard-$(basename "$dir")
socket=$dir/docker.sock

api() { curl -sf --unix-socket "$socket" "$@"; }

install_engine() {
  command -v dockerd >/dev/null && command -v busybox >/dev/null && return
  export DEBIAN_FRONTEND=noninteractive
  # The package must not start a service of its own.
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  apt-get -o DPkg::Lock::Timeout=300 -qq update
  apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends docker.io busybox-static iptables curl >/dev/null
}

start_engine() {
  mkdir -p "$dir"
  # After a kill these name processes that are gone, or zombies; the engine would wait for them.
  rm -f "$dir/dockerd.pid" "$dir/exec/containerd/containerd.pid"
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
  # shellcheck disable=SC2086
  setsid "${enter[@]}" dockerd --data-root "$dir/data" --exec-root "$dir/exec" -p "$dir/dockerd.pid" \
    -H "unix://$socket" --log-level warn ${DOCKERD_ARGS:-} >>"$dir/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 600); do api http://d/_ping >/dev/null 2>&1 && return; sleep 0.05; done
  tail -20 "$dir/dockerd.log" >&2
  exit 1
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
  tar -C "$root" -c . | api -X POST -H 'Content-Type: application/x-tar' -T - \
    'http://d/images/create?fromSrc=-&repo=poolyard-test&tag=1&changes=ENV%20PATH%3D%2Fbin&changes=CMD%20%5B%22%2Fbin%2Fsh%22%5D' >/dev/null
  rm -rf "$root"
}

engine_pid() { cat "$dir/dockerd.pid" 2>/dev/null || true; }

ended() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

signal_engine() {
  local pid; pid=$(engine_pid)
  [ -n "$pid" ] || return 0
  kill "-$1" "$pid" 2>/dev/null || return 0
  for _ in $(seq 400); do ended "$pid" && return 0; sleep 0.05; done
  echo "dockerd $pid did not end" >&2
  return 1
}

# Killing dockerd leaves its containerd behind, which the next start would have to live with.
kill_containerd() {
  local pid; pid=$(cat "$dir/exec/containerd/containerd.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$dir"; then kill -KILL "$pid" || true; fi
}

case $action in
up) install_engine; start_engine; import_image; echo "DOCKER_HOST=unix://$socket" ;;
stop) signal_engine TERM ;;
kill) signal_engine KILL; kill_containerd ;;
down)
  # Otherwise dockerd waits ten seconds for each of them.
  for id in $(api 'http://d/containers/json?all=1' 2>/dev/null | grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do
    api -X DELETE "http://d/containers/$id?force=1&v=1" >/dev/null || true
  done
  signal_engine TERM || true
  if mountpoint -q "$dir/data"; then umount -l "$dir/data"; fi
  rm -rf "$dir"
  if [ -e "/var/run/netns/$name" ]; then ip netns del "$name"; fi
  ;;
*) echo "unknown action $action" >&2; exit 2 ;;
esac
