#!/usr/bin/env bash
# rights: both
# Data files that change, shrink or vanish in the cache directory behind the daemon's back, and cache
# directories that cannot be used: noticed before anything is sent, never zeros, with the way out.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…: one file, digested, queued, not sent
	s3d_start
	mount_start "$@"
	mkdir -p "$P/images"
	"$CPGFS" pause "$M"
	make_file "$T/src/a" 300000
	cp "$T/src/a" "$P/images/a"
	wait_for 20 is_state queued "$P/images/a"
}

data_file() { # PATH in the mount: where its bytes are
	local ino
	ino=$(stat -c %i "$1")
	printf '%s/data/%02x/%016x' "$T/cache" $((ino & 255)) "$ino"
}

# The kernel keeps pages of what was read or written through it.
drop_pages() {
	mount_end
	mount_start "$@"
}

# It is shown with what to do, it cannot be read, nothing was sent; copied again it arrives.
is_lost() {
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/images/a")" lost
	fails_with 'Input/output error' cat "$P/images/a"
	exits 3 "$CPGFS" status "$M"
	says "lost"
	says "copy it again"
	grep -q "images/a	lost" "$M/.cpgfs/failed.tsv"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	cp "$T/src/a" "$P/images/a"
	all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a")"
	cmp "$T/src/a" "$P/images/a"
}

is_torn() {
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/images/a")" torn
	exits 3 "$CPGFS" status "$M"
	says "torn"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	cp "$T/src/a" "$P/images/a"
	all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a")"
}

test_removed_while_it_waits() {
	expect_log 'its data file in the cache directory is missing or too short'
	begin
	rm "$(data_file "$P/images/a")"
	"$CPGFS" resume "$M"
	is_lost
}

test_removed_while_nothing_is_mounted() {
	expect_log 'its data file in the cache directory is missing or too short'
	begin
	local file
	file=$(data_file "$P/images/a")
	mount_end
	rm "$file"
	mount_start
	"$CPGFS" resume "$M"
	is_lost
}

test_cut_off_while_it_waits() {
	expect_log 'its data file in the cache directory is missing or too short'
	begin
	truncate -s 1000 "$(data_file "$P/images/a")"
	"$CPGFS" resume "$M"
	is_lost
}

# As long as before, but other bytes: only its checksum tells.
test_replaced_while_it_waits() {
	expect_log 'are not those that were written'
	begin
	make_file "$T/other" 300000
	cp "$T/other" "$(data_file "$P/images/a")"
	"$CPGFS" resume "$M"
	is_torn
}

test_punched_while_it_waits() {
	expect_log 'are not those that were written'
	begin
	fallocate --punch-hole --offset 8192 --length 65536 "$(data_file "$P/images/a")"
	"$CPGFS" resume "$M"
	is_torn
}

# A descriptor is open: the bytes that it sends are those that were written.
test_removed_while_it_is_sent() {
	begin
	faults <<<"PutObject n=1 hold=$T/go at=mid-body"
	"$CPGFS" resume "$M"
	wait_for 20 test -e "$T/go.held"
	rm "$(data_file "$P/images/a")"
	touch "$T/go"
	all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a")"
	drop_pages
	cmp "$T/src/a" "$P/images/a" # fetched from the bucket
}

large_begin() {
	s3d_start
	mount_start --part-size 64M --multipart-threshold 64M
	mkdir -p "$P/images"
	"$CPGFS" pause "$M"
	make_file "$T/src/a" 40000000
	cp "$T/src/a" "$P/images/a"
	wait_for 30 is_state queued "$P/images/a"
	faults <<<"PutObject n=1 hold=$T/go at=mid-body"
	"$CPGFS" resume "$M"
	wait_for 20 test -e "$T/go.held"
}

# The rest of the body is other bytes: the checksum that went before them refuses it.
test_overwritten_while_it_is_sent() {
	expect_log 'are not those that were written|BadDigest|did not match'
	large_begin
	dd if=/dev/zero of="$(data_file "$P/images/a")" bs=1M seek=30 count=8 conv=notrunc status=none
	touch "$T/go"
	is_torn
}

test_cut_off_while_it_is_sent() {
	expect_log 'its data file in the cache directory is missing or too short'
	large_begin
	truncate -s 20000000 "$(data_file "$P/images/a")"
	touch "$T/go"
	is_lost
}

# What the bucket holds is fetched from there.
test_removed_when_it_is_in_the_bucket() {
	begin
	"$CPGFS" resume "$M"
	all_verified
	local file
	file=$(data_file "$P/images/a")
	drop_pages
	rm "$file"
	cmp "$T/src/a" "$P/images/a"
	drop_pages
	truncate -s 5 "$file"
	cmp "$T/src/a" "$P/images/a"
	same "state" "$(state "$P/images/a")" verified
	same "PUTs" "$(requests PutObject)" 1
}

# Evicted, one chunk fetched again, and that vanishes.
test_removed_when_partly_evicted() {
	local file
	s3d_start
	mount_start --part-size 5M --multipart-threshold 64M --cache-size 30M
	mkdir -p "$P/images"
	make_file "$T/src/a" 12000000
	make_file "$T/src/b" 25000000
	cp "$T/src/a" "$P/images/a"
	all_verified
	cp "$T/src/b" "$P/images/b" # needs the room
	all_verified
	wait_for 20 no_files "$(data_file "$P/images/a")"
	drop_pages --part-size 5M --multipart-threshold 64M --cache-size 30M
	dd if="$P/images/a" bs=1M count=1 status=none | cmp - <(head -c 1048576 "$T/src/a")
	file=$(data_file "$P/images/a")
	[ -e "$file" ]
	drop_pages --part-size 5M --multipart-threshold 64M --cache-size 30M
	rm -f "$file"
	cmp "$T/src/a" "$P/images/a"
}

no_files() {
	not test -e "$1"
}

test_unreadable() {
	[ "$(id -u)" != 0 ] || return 0 # root reads anything
	expect_log 'Permission denied'
	begin
	local file
	file=$(data_file "$P/images/a")
	mount_end
	chmod 000 "$file"
	mount_start --paused
	"$CPGFS" resume "$M"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/images/a")" failed
	grep -q 'Permission denied' "$M/.cpgfs/failed.tsv"
	fails_with 'Permission denied' cat "$P/images/a"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	chmod 600 "$file"
	"$CPGFS" retry "$M"
	all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a")"
}

# ---- the directory ----------------------------------------------------------------------------------

refuses() { # TEXT
	fails_with "$1" "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "${CACHE:-$T/cache}" \
		--log-file "$T/refused.log" "s3://$BUCKET/$PREFIX" "$M"
	not mountpoint -q "$M"
}

test_a_directory_that_cannot_be_written() {
	[ "$(id -u)" != 0 ] || return 0
	s3d_start
	mkdir -m 500 "$T/cache"
	refuses "the cache directory $T/cache cannot be used: Permission denied"
	chmod 700 "$T/cache"
	mount_start
	mount_end
	chmod 500 "$T/cache/data"/*
	mount_start
	mkdir -p "$P/images"
	expect_log 'Permission denied'
	fails_with 'Permission denied' cp /etc/passwd "$P/images/a"
	chmod 700 "$T/cache/data"/*
	cp /etc/passwd "$P/images/a"
	rm -f "$P/images/a"
}

test_a_file_in_its_place() {
	s3d_start
	echo >"$T/cache"
	refuses "$T/cache"
}

test_somebody_else_s_cache() {
	[ "$(id -u)" = 0 ] || return 0 # only root can make one
	s3d_start
	mount_start
	mount_end
	chown -R 12345 "$T/cache"
	refuses "belongs to user 12345"
	chown -R 0 "$T/cache"
	mount_start
}

test_a_read_only_disk() {
	[ "$(id -u)" = 0 ] || return 0 # only root can mount one
	s3d_start
	mkdir "$T/disk"
	mount -t tmpfs -o size=300M none "$T/disk"
	CACHE=$T/disk/cache
	mount_start
	mkdir -p "$P/images"
	mount_end
	mount -o remount,ro "$T/disk"
	refuses "Read-only file system"
	mount -o remount,rw "$T/disk"
	mount_start
	[ -d "$P/images" ]
	mount_end
	umount "$T/disk"
}

run_tests "$@"
