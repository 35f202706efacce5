#!/usr/bin/env bash
# By mount(8), as fstab does it: root's business.
# rights: root
. "$(dirname "$0")/lib.sh"

test_by_mount_8() {
	s3d_start
	# what "mount -t fuse.cpgfs s3://…" comes to where cpgfs is installed
	mount -t fuse -o "endpoint=$ENDPOINT,cache-dir=$T/cache,log-file=$T/cpgfs.log,settle=100ms,_netdev,nofail,rw,dev,suid" \
		"$CPGFS#s3://$BUCKET/$PREFIX" "$M" || fail "mount(8) failed"
	P=$M/$PREFIX
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 0 all_verified
	grep -q " $M fuse.cpgfs " /proc/self/mounts || fail "type in /proc/mounts: $(grep " $M " /proc/self/mounts)"
	local pid
	pid=$(status_json pid)
	umount "$M"
	wait_for 20 ended "$pid"
}

run_tests "$@"
