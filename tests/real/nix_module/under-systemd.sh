#!/bin/sh
# Runs as a unit of the systemd in the container, as root: works with loft's units and writes down what came of it,
# NAME=VALUE each, into /out/results. $1 is the folder of generated files, $2 where the cache is read, $3 its host name.
exec >/out/log 2>&1
set -x
generated=$1 web=$2 host=$3
# What the machine around the container keeps for a loft of its own is not seen here.
rm -rf /var/lib/loft /var/lib/private/loft
note() { echo "$1=$2" >>/out/results; }
# Runs a command and notes its status.
try() { name=$1; shift; "$@"; note "$name" $?; }
# Waits until the cache shows a path.
await() {
  note path "$1"
  hash=$(basename "$1" | cut -c1-32)
  for _ in $(seq 150); do
    curl -sf -o /dev/null -H "Host: $host" "$web/$hash.narinfo" && return
    sleep 0.2
  done
  note missing "$1"
}
add() { echo "$1" >"/root/$1" && nix-store --add "/root/$1"; }

export NIX_CONFIG="experimental-features = nix-command
build-users-group =
substituters =
sandbox = false
filter-syscalls = false
post-build-hook = $generated/loft-post-build-hook"
nix-store --init
nix-daemon &
# Not before: the daemon would ask itself.
export NIX_REMOTE=daemon
until [ -S /nix/var/nix/daemon-socket/socket ]; do sleep 0.1; done

before=$(add before)
try start systemctl start loft.service
grep -q '^start=0' /out/results || { journalctl --no-pager -o cat -u loft.service; exit 1; }
pid=$(systemctl show -P MainPID loft.service)
for field in Uid CapEff NoNewPrivs Seccomp; do
  note "$field" "$(sed -n "s/^$field:[[:space:]]*\([^[:space:]]*\).*/\1/p" "/proc/$pid/status")"
done
note notified "$(systemctl show -P StatusText loft.service)"
note watchdog "$(systemctl show -P WatchdogUSec loft.service)"
try security systemd-analyze security --no-pager --threshold=20 loft.service
await "$(add added)"
await "$(nix-build --no-out-link -E 'derivation {
  name = "built"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo built >$out" ]; }')"
# What was there before is not pushed by itself: the hook alone tells of it.
OUT_PATHS=$before try hook "$generated/loft-post-build-hook"
await "$before"
try prune systemctl start loft-prune.service
tr '\0' '\n' <"/proc/$pid/cmdline" >/out/told
tr '\0' '\n' <"/proc/$pid/environ" >>/out/told
try restart systemctl restart loft.service
try stop systemctl stop loft.service
away=$(add away)
OUT_PATHS=$away try hook-alone "$generated/loft-post-build-hook"
note owners "$(stat -c %u /var/lib/private/loft /var/lib/private/loft/* | sort -u | wc -l)"
try start-again systemctl start loft.service
await "$away"
try status "$generated/loft/bin/loft" -c "$generated/loft.toml" status --local
try stop-again systemctl stop loft.service

# The unit for other systems: credentials from the machine's credential store, one of which is missing.
try plain-start systemctl start loft-plain.service
await "$(add plain)"
try plain-reload systemctl reload loft-plain.service
try plain-stop systemctl stop loft-plain.service

journalctl --no-pager -o cat -u loft -u loft-prune -u loft-plain >/out/journal
# Of loft alone: what the container lets systemd do is not our business.
journalctl --no-pager -o cat -p warning -t loft >/out/warnings
note finished 0
systemctl exit 0
