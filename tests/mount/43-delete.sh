#!/usr/bin/env bash
# Deleting: at once what only we have, later what is in the bucket, and back.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	make_plate
	s3d_start
	mount_start "$@"
	copy_plate
	exits 0 all_verified
	FILES=$(find "$SRC" -type f | wc -l)
}

test_waits_for_the_delay() {
	begin --delete-delay 3s
	local began=$SECONDS
	rm "$P/$IMAGES/Index.idx.xml"
	not test -e "$P/$IMAGES/Index.idx.xml"
	test -e "$(bucket_file "$PREFIX/$IMAGES/Index.idx.xml")"
	same "deleting" "$(status_json files.deleting)" 1
	exits 0 all_verified
	wait_for 30 not test -e "$(bucket_file "$PREFIX/$IMAGES/Index.idx.xml")"
	at_least "seconds until it went" $((SECONDS - began)) 2
	wait_for 10 status_is files.deleting 0
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" $((FILES - 1))
}

test_a_mistaken_rm_is_taken_back() {
	begin --delete-delay 1h
	rm -r "$P/images"
	not test -e "$P/images/2021_04_26_Batch1"
	at_least "deleting" "$(status_json files.deleting)" 10
	mount_end
	mount_start --delete-delay 1h
	not test -e "$P/images/2021_04_26_Batch1"
	exits 0 "$CPGFS" undelete "$M"
	same_tree "$SRC" "$P"
	exits 0 all_verified
	same "deleting" "$(status_json files.deleting)" 0
	same_in_bucket "$SRC" "$PREFIX"
	same "DeleteObject requests" "$(requests DeleteObject)" 0
}

test_undelete_of_one_file() {
	begin --delete-delay 1h
	rm "$P/$IMAGES/Index.idx.xml" "$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	exits 0 "$CPGFS" undelete "$M" "$P/$IMAGES/Index.idx.xml"
	cmp "$SRC/$IMAGES/Index.idx.xml" "$P/$IMAGES/Index.idx.xml"
	not test -e "$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	same "deleting" "$(status_json files.deleting)" 1
}

# Each that does not come back is told with its reason, and a path where nothing was deleted, too.
test_undelete_tells_what_stays_deleted() {
	begin --delete-delay 1h
	rm "$P/$IMAGES/Index.idx.xml" "$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	mkdir "$P/$IMAGES/Index.idx.xml"
	fails_with "$IMAGES/Index.idx.xml: another file has its name" "$CPGFS" undelete "$M"
	cmp "$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff" "$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff"
	same "deleting" "$(status_json files.deleting)" 1
	fails_with "nothing there that could be brought back" "$CPGFS" undelete "$M" "$P/images/typo"
	rmdir "$P/$IMAGES/Index.idx.xml"
	exits 0 "$CPGFS" undelete "$M" "$P/$IMAGES"
	says "1 brought back"
	same_tree "$SRC" "$P"
	expect_log 'cannot be undeleted: another file has its name'
}

takes_back() { # FILE
	"$CPGFS" undelete "$M" && test -e "$1"
}

# The object is gone, but nobody here knows: it was verified once, and is not any more.
test_taken_back_after_the_delete_lost_its_answer() {
	local file=$IMAGES/Index.idx.xml
	begin --delete-delay 1s
	faults <<-'F'
	DeleteObject n=1 reset-after
	HeadObject n=2+ reset-before
	F
	rm "$P/$file"
	wait_for 30 not test -e "$(bucket_file "$PREFIX/$file")"
	wait_for 30 takes_back "$P/$file"
	cmp "$SRC/$file" "$P/$file"
	same "said to be in the bucket" "$(stat -c %h "$P/$file")" 1
	faults </dev/null
	exits 0 all_verified
	cmp "$SRC/$file" "$(bucket_file "$PREFIX/$file")"
	same_in_bucket "$SRC" "$PREFIX"
}

test_what_was_never_sent_is_gone_at_once() {
	s3d_start
	mount_start --paused
	make_file "$T/src/a" 5000
	mkdir -p "$P/images"
	cp "$T/src/a" "$P/images/a.bin"
	rm "$P/images/a.bin"
	same "deleting" "$(status_json files.deleting)" 0
	"$CPGFS" resume "$M"
	exits 1 "$CPGFS" wait --timeout 5 "$M" "$P/images/a.bin"
	same "PutObject requests" "$(requests PutObject)" 0
	no_files_below "$T/s3/$BUCKET"
}

test_made_again_before_the_delay() {
	begin --delete-delay 1h
	rm "$P/$IMAGES/Index.idx.xml"
	echo new >"$P/$IMAGES/Index.idx.xml"
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/$IMAGES/Index.idx.xml")")" new
	same "deleting" "$(status_json files.deleting)" 0
	same "DeleteObject requests" "$(requests DeleteObject)" 0
}

test_while_it_is_being_sent() {
	s3d_start
	faults <<<"PutObject n=1 hold=$T/go"
	mount_start --delete-delay 0
	make_file "$T/src/a" 5000
	mkdir -p "$P/images"
	cp "$T/src/a" "$P/images/a.bin"
	wait_for 20 requests_seen_holding
	rm "$P/images/a.bin"
	not test -e "$P/images/a.bin"
	touch "$T/go"
	wait_for 30 status_is files.deleting 0
	wait_for 30 no_files_below "$T/s3/$BUCKET"
	not test -e "$P/images/a.bin"
}

requests_seen_holding() {
	is_state sending "$P/images/a.bin"
}

test_rm_rf_of_the_whole_plate_empties_the_bucket() {
	begin --delete-delay 0
	rm -rf "$P/images" "$P/workspace"
	wait_for 30 no_files_below "$T/s3/$BUCKET"
	wait_for 10 status_is files.deleting 0
	same "DeleteObject requests" "$(requests DeleteObject)" "$FILES"
	same "entries" "$(find "$P" -type f | wc -l)" 0
}

test_pending_deletes_survive_a_crash() {
	begin --delete-delay 2s
	rm -r "$P/workspace"
	mount_crash
	mount_start --delete-delay 2s
	not test -e "$P/workspace/profiles"
	wait_for 30 no_files_below "$(bucket_file "$PREFIX/workspace")"
	exits 0 all_verified
	same_in_bucket "$SRC/images" "$PREFIX/images"
}

run_tests "$@"
