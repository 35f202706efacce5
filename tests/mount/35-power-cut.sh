#!/usr/bin/env bash
# Power cuts of a real file system under the cache: ext4 (XFS with --long) ends as it is, and is mounted again from
# what its disk has. That is another disk for the kernel (diskseq), so the daemon knows; tests/crash/sweep cuts at
# each call instead, and decides itself what is left.
# rights: root
# long
. "$(dirname "$0")/lib.sh"

disk_on() {
	mount -o loop "$T/disk.img" "$DISK" 2>"$T/said" || skip "no loop device can be mounted here: $(cat "$T/said")"
}

new_disk() { # FILE-SYSTEM
	DISK=$T/disk CACHE=$T/disk/cache
	mkdir -p "$DISK"
	rm -f "$T/disk.img"
	truncate -s 1G "$T/disk.img"
	case $1 in
	ext4) mkfs.ext4 -q "$T/disk.img" ;;
	xfs) need mkfs.xfs && mkfs.xfs -q "$T/disk.img" ;;
	esac
	disk_on
	[ -s /sys/block/"$(basename "$(findmnt -no SOURCE "$DISK")")"/diskseq ] || skip "Linux has no diskseq here"
}

disk_off() {
	umount "$DISK"
}

cut_while_writing() { # FILE-SYSTEM SEED
	local ledger=$T/ledger.$2 writer ops=$(($2 * 137 % 900 + 100))
	new_disk "$1"
	mount_start --min-free 1M
	mkdir -p "$P/images"
	"$TOOLS/cut" work "$P/images" "$ledger" --seed "$2" &
	writer=$!
	wait_for 60 has_lines "$ledger" "$ops"
	"$TOOLS/cut" power "$DISK"
	mount_crash
	wait $writer
	wait_for 20 disk_off
	disk_on
	mount_start --min-free 1M
	"$TOOLS/cut" check "$P/images" "$ledger" "$T/s3/$BUCKET" || fail "$1, seed $2: after the cut"
	"$CPGFS" wait --timeout $((60 * SLOW)) "$M" || [ $? = 3 ]
	"$TOOLS/cut" check "$P/images" "$ledger" "$T/s3/$BUCKET" || fail "$1, seed $2: when all was sent"
	mount_end
	disk_off
	rm -rf "$T/s3/$BUCKET/$PREFIX"
}

has_lines() { # FILE AT-LEAST
	[ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]
}

deadline_test_cut_while_writing=200
test_cut_while_writing() {
	local seed
	expect_log '.' # the disk ends under it
	s3d_start
	for seed in 1 2; do
		cut_while_writing ext4 $seed
	done
}

deadline_long_test_cut_again_and_again=1800
long_test_cut_again_and_again() {
	local seed
	expect_log '.' # the disk ends under it
	s3d_start
	for seed in $(seq 11 30); do
		cut_while_writing ext4 "$seed"
		cut_while_writing xfs "$seed"
	done
}

run_tests "$@"
