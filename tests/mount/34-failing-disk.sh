#!/usr/bin/env bash
# A cache disk that refuses bytes long after write() took them. The kernel drops them from memory then, and reads
# zeros: they are never sent as the file's. The disk is a loop device whose file lies on a full tmpfs.
# rights: root
. "$(dirname "$0")/lib.sh"

# What lies behind the first MIB megabytes of it is refused, from disk_refuses to disk_heals.
failing_disk() { # MIB
	local image=$T/below/disk.img
	DISK=$T/disk CACHE=$T/disk/cache
	mkdir "$DISK" "$T/below"
	mount -t tmpfs -o size=400M tmpfs "$T/below"
	truncate -s 120M "$image"
	mkfs.ext4 -q -m 0 -b 4096 -N 2048 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 "$image"
	# all of it is there but what is punched out, so that the file system's own blocks are never refused
	cp --sparse=never "$image" "$image.whole"
	mv "$image.whole" "$image"
	fallocate -p -o "$1M" -l $((120 - $1))M "$image"
	mount -o loop "$image" "$DISK" 2>"$T/said" || skip "no loop device can be mounted here: $(cat "$T/said")"
}

disk_refuses() {
	not dd if=/dev/zero of="$T/below/ballast" bs=64K 2>"$T/said" || fail "it is not full"
}

disk_heals() {
	rm "$T/below/ballast"
}

# What the disk refused, or has, is in memory no more.
memory_forgets() {
	sync -f "$DISK" 2>"$T/said" || true # the daemon may have been told before
	"$PYTHON" - "$CACHE/data" <<-'PY'
	import os, sys
	for folder, _, names in os.walk(sys.argv[1]):
	    for name in names:
	        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
	        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
	        os.close(fd)
	PY
}

objects_are_right() {
	local name bad=0
	for name in "$T"/src/*; do
		cmp -s "$name" "$(bucket_file "$PREFIX/images/${name##*/}")" || bad=$((bad + 1))
	done
	[ $bad = 0 ] || fail "$bad objects are not what was copied in"
}

# How often somebody had the kernel forget all that it can read again.
drops() {
	grep drop_pagecache /proc/vmstat
}

sent_from_memory() {
	all_verified >"$T/waited" 2>&1 || [ "$(drops)" = "$DROPS" ] || skip "somebody dropped what was in memory"
	exits 0 all_verified
	objects_are_right
}

twenty_files() {
	local n
	for n in $(seq 20); do
		make_file "$T/src/$n.bin" 2000000
	done
}

deadline_test_refused_and_forgotten=120
test_refused_and_forgotten() {
	local objects
	expect_log 'the cache disk did not take|writing the index failed|the index is written again|cache disk failed'
	expect_log 'the index of the cache takes|takes no records'
	failing_disk 30
	s3d_start
	mount_start --min-free 1M --settle 1h # until somebody waits for it
	twenty_files
	mkdir -p "$P/images"
	disk_refuses
	cp "$T"/src/* "$P/images/"
	memory_forgets
	exits 3 all_verified
	is_state torn "$P"/images/* || fail "$(getfattr -n user.cpgfs.state "$P"/images/* 2>&1 | sort | uniq -c)"
	exits 3 "$CPGFS" status "$M"
	says "copy it again"
	objects=$(find "$T/s3/$BUCKET" -type f | wc -l)
	same "objects" "$objects" 0
	disk_heals
	cp "$T"/src/* "$P/images/"
	exits 0 all_verified
	objects_are_right
}

# Before it is forgotten it has been sent.
test_refused_and_sent_from_memory() {
	expect_log 'the cache disk did not|writing the index failed|the index is written again|cache disk failed'
	expect_log 'the index of the cache takes|takes no records'
	failing_disk 30
	s3d_start
	mount_start --min-free 1M
	twenty_files
	mkdir -p "$P/images"
	DROPS=$(drops)
	disk_refuses
	cp "$T"/src/* "$P/images/"
	sent_from_memory
	memory_forgets
	disk_heals
	mount_crash
	mount_start --min-free 1M
	exits 0 all_verified
	objects_are_right
}

# (Only with --long: once in some forty runs the kernel itself drops a file of them.)
# What the disk refused is right in memory still, for hours perhaps, if nobody drops it there: a sync that fails,
# and one that succeeds.
refused_and_looked_at() {
	expect_log 'the cache disk did not|writing the index failed|the index is written again|cache disk failed|could not be closed in order'
	expect_log 'the index of the cache takes|takes no records'
	failing_disk 30
	s3d_start
	mount_start --min-free 1M "$@"
	twenty_files
	mkdir -p "$P/images"
	DROPS=$(drops)
	disk_refuses
	cp "$T"/src/* "$P/images/"
}

sync_twice() {
	not sync "$P/images" 2>"$T/said" || fail "the disk refused nothing"
	sync "$P/images" || true
	sync "$P/images" || true
}

long_test_a_sync_forgets_nothing_that_has_no_checksum() {
	refused_and_looked_at --settle 1h
	sync_twice
	sent_from_memory
	disk_heals
}

long_test_a_sync_forgets_nothing_that_waits() {
	refused_and_looked_at --paused
	wait_for 60 is_state queued "$P"/images/*
	sync_twice
	"$CPGFS" resume "$M"
	sent_from_memory
	disk_heals
}

run_tests "$@"
