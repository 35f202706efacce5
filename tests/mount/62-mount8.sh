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

# At boot there is no HOME; the gallery is found nevertheless, and so is one of the user who mounts.
test_a_gallery_by_mount_8() {
	s3d_start
	mkdir -p "$T/config/cpgfs/galleries"
	printf '[gallery]\nbucket = %s\ndescription = ours\n[mount]\nendpoint = %s\ncache-dir = %s\nprefix = %s\n' \
		"$BUCKET" "$ENDPOINT" "$T/cache" "$PREFIX" >"$T/config/cpgfs/galleries/ours.ini"
	unset AWS_ENDPOINT_URL
	env -u HOME XDG_CONFIG_HOME="$T/config" mount -t fuse -o "gallery=ours,log-file=$T/cpgfs.log,_netdev,nofail" \
		"$CPGFS#s3://$BUCKET" "$M" || fail "mount(8) failed"
	mkdir -p "$M/$PREFIX/images"
	echo a >"$M/$PREFIX/images/a"
	exits 0 all_verified
	umount "$M"
	exits 0 env -u HOME -u XDG_CONFIG_HOME "$CPGFS" galleries
	says cellpainting-staging
}

# In a mount namespace of its own, without the device, and with something else in its place.
test_check_without_dev_fuse() {
	unshare --mount true 2>/dev/null || skip "no mount namespaces here (/ is no mount point)"
	s3d_start
	local check=("$CPGFS" check --quick --no-write --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX")
	exits 3 unshare --mount sh -c 'mount -t tmpfs none /dev && exec "$@"' - "${check[@]}"
	says "FAIL  fuse"
	says "modprobe fuse"
	exits 3 unshare --mount sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' - "${check[@]}"
	says "is not the FUSE device"
	exits 0 "${check[@]}"
}

run_tests "$@"
