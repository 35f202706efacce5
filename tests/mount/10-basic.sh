#!/usr/bin/env bash
# The main job on a small plate, step by step.
# rights: both
. "$(dirname "$0")/lib.sh"

test_a_copied_plate_arrives() {
	make_plate
	s3d_start
	mount_start
	copy_plate
	same_tree "$SRC" "$P"
	exits 0 all_verified
	same_tree "$SRC" "$P"
	same_in_bucket "$SRC" "$PREFIX"
	same "verified files" "$(status_json files.verified)" "$(find "$SRC" -type f | wc -l)"
	same "PutObject requests" "$(puts)" "$(find "$SRC" -type f | wc -l)"
	same "verified bytes" "$(status_json bytes.verified)" \
		"$(find "$SRC" -type f -printf '%s\n' | awk '{n += $1} END {print n}')"
}

test_the_link_count_tells_what_is_only_here() {
	make_plate
	s3d_start
	mount_start --paused
	copy_plate
	same "files with one link" "$(find "$P" -type f -links 1 | wc -l)" "$(find "$SRC" -type f | wc -l)"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	"$CPGFS" resume "$M"
	exits 0 all_verified
	same "files with one link" "$(find "$P" -type f -links 1 | wc -l)" 0
	same "files with two links" "$(find "$P" -type f -links 2 | wc -l)" "$(find "$SRC" -type f | wc -l)"
}

test_unmounted_at_once_it_goes_on_at_the_next_mount() {
	make_plate
	s3d_start
	mount_start --settle 1h
	copy_plate
	mount_end
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	mount_start
	same_tree "$SRC" "$P"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

test_what_is_verified_stays_so_over_a_remount() {
	make_plate
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	mount_end
	: >"$T/requests.log"
	mount_start
	same "verified files" "$(status_json files.verified)" "$(find "$SRC" -type f | wc -l)"
	exits 0 all_verified
	same_tree "$SRC" "$P"
	same "PutObject requests after the remount" "$(requests PutObject)" 0
}

test_another_cache_reads_it_from_the_bucket() {
	make_plate
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	mount_end
	CACHE=$T/other mount_start
	same_tree "$SRC" "$P"
	same "files of ours in the new cache" "$(pending)" 0
}

test_wait_cuts_a_long_settle_short() {
	make_plate --wells 1
	s3d_start
	mount_start --settle 1h
	copy_plate
	exits 0 all_verified 30
	same_in_bucket "$SRC" "$PREFIX"
}

test_mtime_and_type_go_along() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	make_file "$T/src/a.tiff" 1000
	printf 'II*\0\10\0\0\0\1\0' | dd of="$T/src/a.tiff" conv=notrunc status=none
	touch -d '2021-05-02T16:02:51.25Z' "$T/src/a.tiff"
	cp -p "$T/src/a.tiff" "$P/images/a.tiff"
	exits 0 all_verified
	"$TOOLS/s3" head "$BUCKET" "$PREFIX/images/a.tiff" >"$T/last"
	says 'content-type: image/tiff'
	says 'x-amz-meta-mtime: 1619971371.25'
	same "mtime" "$(stat -c %.9Y "$P/images/a.tiff")" 1619971371.250000000
}

run_tests "$@"
