#!/bin/sh
# Boots a real systemd in namespaces of its own and sees there whether it follows edge and connector through reload, restart, crash
# and stop, under load (scripts/systemdcheck). Needs root, debootstrap and cgroup v2; changes nothing on this machine but CACHE.
set -eu
cd "$(dirname "$0")/.."
cache=${CACHE:-/var/tmp/sallyport-systemd-check}

skip() {
	echo "skipped: systemd-check: $1"
	exit 0
}
[ "$(id -u)" = 0 ] || skip "needs root"
command -v debootstrap > /dev/null || skip "needs debootstrap"
for groups in /sys/fs/cgroup/unified /sys/fs/cgroup none; do
	[ ! -w $groups/cgroup.procs ] || [ ! -f $groups/cgroup.subtree_control ] || break
done
[ $groups != none ] || skip "needs cgroup v2"
unshare --fork --pid --mount --net --uts --ipc --cgroup true 2> /dev/null || skip "may not make namespaces"

if [ ! -f "$cache/made" ]; then
	echo "making a Debian in $cache"
	rm -rf "$cache"
	mkdir -p "$cache"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2 bookworm "$cache/pristine" > "$cache/log" 2>&1 || { tail "$cache/log" >&2; exit 1; }
	touch "$cache/made"
fi
work=$(mktemp -d "$cache/run-XXXXXX")
group=$groups/$(basename "$work")
mkdir "$group"
started=
finish() {
	[ -z "$started" ] || kill -9 "$started" 2> /dev/null || true # the first process of its namespace, and all others with it
	[ -z "$started" ] || wait || true
	for try in 1 2 3 4 5 6 7 8 9 10; do
		find "$group" -depth -type d -exec rmdir {} + 2> /dev/null && break
		sleep 0.5
	done
	rm -rf "$work"
}
trap finish EXIT
cp -a "$cache/pristine" "$work/root"
CGO_ENABLED=0 go build -o "$work/root/usr/local/bin/" ./cmd/edge ./cmd/connector ./scripts/systemdcheck

sh -eu -c 'echo $$ > "$2/cgroup.procs"
exec unshare --fork --pid --mount --net --uts --ipc --cgroup --kill-child sh -eu -c "
mount --make-rprivate /
mount --bind \"\$1\" \"\$1\"
cd \"\$1\"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
hostname systemd-check
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec env -i container=sallyport-check PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin /lib/systemd/systemd --show-status=false
" sh "$1"' sh "$work/root" "$group" > "$work/boot.log" 2>&1 &
unshare=$!

inside() { nsenter -t "$started" -a env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"; }
tries=0
until started=$(pgrep -x -P "$unshare" systemd) && inside systemctl is-system-running --wait > /dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 60 ] || ! kill -0 "$unshare" 2> /dev/null; then
		cat "$work/boot.log" >&2
		echo "systemd-check: systemd does not come up" >&2
		exit 1
	fi
	sleep 0.5
done
inside systemctl --version | head -n 1
inside systemdcheck
