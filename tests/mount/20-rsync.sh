#!/usr/bin/env bash
# rsync in the variants people use, whole, repeated and interrupted.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	make_plate ${PLATE:-}
	s3d_start
	mount_start "$@"
	mkdir -p "$P"
}

# No name that rsync used on the way was ever sent.
no_temporary_keys() {
	local pattern='/[.][^/]*[.][A-Za-z0-9]{6}$|[.]~tmp~|rsync-partial|[.]partial/'
	same "requests with a temporary name" \
		"$(($(requests PutObject "$pattern") + $(requests CreateMultipartUpload "$pattern")))" 0
}

arrived() {
	exits 0 all_verified
	same_tree "$SRC" "$P"
	same_in_bucket "$SRC" "$PREFIX"
	no_temporary_keys
}

# Each object that exists is a whole file of the source.
nothing_truncated_in_bucket() {
	local file
	[ -d "$(bucket_file "$PREFIX")" ] || return 0
	while read -r file; do
		cmp "$SRC/$file" "$(bucket_file "$PREFIX/$file")"
	done < <(cd "$(bucket_file "$PREFIX")" && find . -type f -printf '%P\n')
}

# Nothing differs for rsync; else the times of what does, of source and copy, are said, too.
same_for_rsync() { # WHEN
	local changes path
	changes=$(rsync -ain "$SRC/" "$P/")
	[ -n "$changes" ] || return 0
	while read -r path; do
		stat --format='%n: modified %y, changed %z, inode %i' "$SRC/$path" "$P/$path"
	done < <(sed 's/^[^ ]* //' <<<"$changes") >&2 || true
	fail "changes found $1: $changes"
}

test_archive_mode_and_again_transfers_nothing() {
	begin
	rsync -a "$SRC/" "$P/"
	arrived
	same "PutObject requests" "$(puts)" "$(find "$SRC" -type f | wc -l)"
	same_for_rsync "by the second rsync"
	rsync -a "$SRC/" "$P/"
	mount_end
	mount_start
	same_for_rsync "after a remount"
	same "PutObject requests" "$(puts)" "$(find "$SRC" -type f | wc -l)"
}

test_the_pure_view_shows_what_the_bucket_lacks() {
	begin
	rsync -a "$SRC/workspace" "$P/"
	exits 0 all_verified
	"$CPGFS" pause "$M"
	rsync -a "$SRC/" "$P/"
	same "files the bucket lacks" \
		"$(rsync -rn --size-only --out-format=%n "$SRC/" "$M/.cpgfs/remote/$PREFIX/" | grep -v '/$' | sort)" \
		"$(cd "$SRC" && find images -type f | sort)"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	same "files the bucket lacks" \
		"$(rsync -rn --size-only --out-format=%n "$SRC/" "$M/.cpgfs/remote/$PREFIX/" | grep -v '/$')" ""
}

test_inplace() {
	begin
	rsync -a --inplace "$SRC/" "$P/"
	arrived
	make_file "$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff.changed" 5000
	dd if="$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff.changed" status=none conv=notrunc bs=1 seek=20000 \
		of="$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	rm "$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff.changed"
	rsync -a --inplace --no-whole-file "$SRC/" "$P/"
	arrived
}

test_partial_and_temp_dir() {
	begin
	mkdir -p "$P/images/.rsync-tmp.partial"
	rsync -a --partial --temp-dir="$P/images/.rsync-tmp.partial" "$SRC/" "$P/"
	rmdir "$P/images/.rsync-tmp.partial"
	arrived
}

test_temp_dir_elsewhere() {
	begin
	mkdir "$T/elsewhere"
	rsync -a --temp-dir="$T/elsewhere" "$SRC/" "$P/"
	arrived
}

test_append() {
	begin
	mkdir -p "$P/$IMAGES"
	head -c 30000 "$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff" >"$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	rsync -a --append "$SRC/" "$P/"
	arrived
}

test_delay_updates() {
	begin
	rsync -a --delay-updates "$SRC/" "$P/"
	arrived
	same "PutObject requests" "$(puts)" "$(find "$SRC" -type f | wc -l)"
}

test_delete_and_changed_files() {
	begin --delete-delay 0
	rsync -a "$SRC/" "$P/"
	exits 0 all_verified
	rm "$SRC/$IMAGES/Index.idx.xml"
	rm -r "$SRC/workspace/profiles"
	make_file "$SRC/$IMAGES/r01c01f01p01-ch2sk1fk1fl1.tiff" 90000 other
	printf 'II*\0\10\0\0\0\1\0' | dd of="$SRC/$IMAGES/r01c01f01p01-ch2sk1fk1fl1.tiff" conv=notrunc status=none
	rsync -a --delete "$SRC/" "$P/"
	exits 0 all_verified
	same_tree "$SRC" "$P"
	wait_for 20 not test -e "$(bucket_file "$PREFIX/$IMAGES/Index.idx.xml")"
	wait_for 20 no_files_below "$(bucket_file "$PREFIX/workspace/profiles")"
	find "$T/s3/$BUCKET" -type d -empty -delete
	same_in_bucket "$SRC" "$PREFIX"
}

# rsync writes 256 KiB at a time: a file has to be larger to be seen growing.
LARGE="--wells 1 --sites 1 --bytes 2M"

# [RSYNC OPTIONS…]: Ctrl-C in the middle of a file.
interrupt_rsync() {
	setsid rsync -a --bwlimit=2000 "$@" "$SRC/" "$P/" &
	local rsync=$!
	wait_for 20 grep_in_tree 1
	wait_for 20 growing
	# the whole group, as a terminal does
	kill -INT -- -$rsync
	wait $rsync || true
}

grep_in_tree() { # NUMBER: so many files are there
	[ "$(find "$P/images" -type f | wc -l)" -ge "$1" ]
}

growing() { # a file that rsync is writing has some bytes, but not all
	local file
	file=$(find "$P/images" -type f -name '.r*' -size +0 | head -1)
	[ -n "$file" ]
}

test_interrupted_and_run_again() {
	PLATE=$LARGE begin
	interrupt_rsync
	nothing_truncated_in_bucket
	rsync -a "$SRC/" "$P/"
	arrived
}

test_interrupted_with_partial_and_run_again() {
	PLATE=$LARGE begin
	interrupt_rsync --partial
	# what rsync kept of the broken file carries the real name, and the time 0
	local broken
	broken=$(find "$P/images" -type f ! -newermt 1970-01-02)
	[ -n "$broken" ] || fail "rsync kept nothing: the case does not show anything"
	wait_for 10 is_state incomplete "$broken"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	not test -e "$(bucket_file "${broken#"$M"/}")"
	nothing_truncated_in_bucket
	rsync -a --partial "$SRC/" "$P/"
	arrived
}

test_killed_and_run_again() {
	PLATE=$LARGE begin
	setsid rsync -a --bwlimit=2000 "$SRC/" "$P/" &
	local rsync=$!
	wait_for 20 growing
	kill -KILL -- -$rsync
	wait $rsync || true
	nothing_truncated_in_bucket
	rsync -a --delete "$SRC/" "$P/"
	arrived
}

run_tests "$@"
