#!/usr/bin/env bash
# Objects from elsewhere: adopted, in conflict, and never changed silently.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	expect_log 'holds something else under this key'
	expect_log 'was not copied in through this mount'
	make_file "$T/src/ours" 60000 ours
	make_file "$T/src/theirs" 50000 theirs
	s3d_start
	put_elsewhere "$PREFIX/images/a.bin" "$T/src/theirs"
	: >"$T/requests.log"
	mount_start "$@"
	A=$P/images/a.bin B=$(bucket_file "$PREFIX/images/a.bin")
}

test_the_same_plate_again_with_an_empty_cache_is_adopted() {
	make_plate
	s3d_start
	mount_start --part-size 5M --multipart-threshold 5M
	mkdir -p "$SRC/images/large"
	make_file "$SRC/images/large/big.bin" 12000000
	copy_plate
	exits 0 all_verified
	mount_end
	: >"$T/requests.log"
	CACHE=$T/other mount_start --part-size 5M --multipart-threshold 5M
	copy_plate
	exits 0 all_verified
	same "PutObject requests" "$(requests PutObject)" 0
	same "multipart uploads" "$(requests CreateMultipartUpload)" 0
	same "verified files" "$(status_json files.verified)" "$(find "$SRC" -type f | wc -l)"
	same_in_bucket "$SRC" "$PREFIX"
}

test_the_same_plate_from_another_tool_is_adopted() {
	need "$AWS"
	make_plate
	s3d_start
	aws_cli s3 cp --recursive --only-show-errors --acl bucket-owner-full-control "$SRC" "s3://$BUCKET/$PREFIX"
	: >"$T/requests.log"
	mount_start
	copy_plate
	exits 0 all_verified
	same "PutObject requests" "$(requests PutObject)" 0
	same "verified files" "$(status_json files.verified)" "$(find "$SRC" -type f | wc -l)"
}

test_other_content_is_a_conflict_and_both_are_kept() {
	begin
	cp "$T/src/ours" "$A"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$A")" conflict
	same "conflicts" "$(status_json files.conflict)" 1
	cmp "$T/src/ours" "$A"
	cmp "$T/src/theirs" "$B"
	same "PutObject requests that were applied" "$(awk -F'\t' '$3 == "PutObject" && $7 == 200' "$T/requests.log" | wc -l)" 0
	mount_end
	mount_start
	same "state" "$(state "$A")" conflict
	cmp "$T/src/ours" "$A"
}

test_accept_replaces_the_object() {
	begin
	cp "$T/src/ours" "$A"
	wait_for 20 is_state conflict "$A"
	exits 0 "$CPGFS" accept "$M" "$A"
	exits 0 all_verified
	cmp "$T/src/ours" "$B"
}

test_discard_drops_the_local_file() {
	begin
	cp "$T/src/ours" "$A"
	wait_for 20 is_state conflict "$A"
	expect_log 'discarded by command'
	exits 0 "$CPGFS" discard "$M" "$A"
	exits 0 all_verified
	cmp "$T/src/theirs" "$B"
	cmp "$T/src/theirs" "$A"
	not "$CPGFS" discard "$M" 2>/dev/null
}

test_allow_overwrite_replaces_at_once() {
	begin --allow-overwrite
	cp "$T/src/ours" "$A"
	exits 0 all_verified
	cmp "$T/src/ours" "$B"
}

test_changing_in_place_and_deleting_are_refused() {
	begin
	cmp "$T/src/theirs" "$A"
	fails_with 'Operation not permitted' dd if="$T/src/ours" of="$A" bs=10 count=1 conv=notrunc
	fails_with 'Operation not permitted' bash -c 'echo more >>"$1"' - "$A"
	fails_with 'Operation not permitted' truncate -s 10 "$A"
	fails_with 'Operation not permitted' rm -f "$A"
	fails_with 'Operation not permitted' mv "$A" "$A.new"
	fails_with 'Operation not permitted' mv "$P/images" "$P/renamed"
	fails_with 'Operation not permitted' rm -rf "$P/images"
	cmp "$T/src/theirs" "$A"
	cmp "$T/src/theirs" "$B"
	same "requests that change" "$(grep -cE '	(PutObject|DeleteObject|CopyObject|DeleteObjects)	' "$T/requests.log" || true)" 0
}

test_changing_in_place_where_allowed() {
	begin --allow-overwrite --allow-delete --delete-delay 0
	cp "$T/src/theirs" "$T/src/want"
	printf more | dd of="$T/src/want" bs=1 seek=1000 conv=notrunc status=none
	printf more | dd of="$A" bs=1 seek=1000 conv=notrunc status=none
	exits 0 all_verified
	cmp "$T/src/want" "$B"
	put_elsewhere "$PREFIX/images/b.bin" "$T/src/theirs"
	refresh
	rm "$P/images/b.bin"
	wait_for 20 not test -e "$(bucket_file "$PREFIX/images/b.bin")"
}

test_rename_over_an_object_from_elsewhere() {
	begin
	cp "$T/src/theirs" "$P/images/.a.bin.Xy12Zw"
	mv "$P/images/.a.bin.Xy12Zw" "$A"
	exits 0 all_verified
	same "PutObject requests" "$(requests PutObject)" 0
	cp "$T/src/ours" "$P/images/.a.bin.Xy12Zw"
	mv "$P/images/.a.bin.Xy12Zw" "$A"
	exits 0 all_verified
	# adopted, so ours to replace
	cmp "$T/src/ours" "$B"
}

test_changed_by_others_after_our_upload() {
	begin
	cp "$T/src/ours" "$P/images/b.bin"
	exits 0 all_verified
	put_elsewhere "$PREFIX/images/b.bin" "$T/src/theirs"
	make_file "$T/src/newer" 70000 newer
	cp "$T/src/newer" "$P/images/b.bin"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/images/b.bin")" conflict
	cmp "$T/src/newer" "$P/images/b.bin"
	cmp "$T/src/theirs" "$(bucket_file "$PREFIX/images/b.bin")"
}

test_created_by_others_while_we_send() {
	begin
	faults <<<"PutObject key=*/b.bin n=1 hold=$T/go"
	cp "$T/src/ours" "$P/images/b.bin"
	wait_for 20 is_state sending "$P/images/b.bin"
	# s3d looks at the file itself before it applies a condition
	cp "$T/src/theirs" "$(bucket_file "$PREFIX/images/b.bin")"
	s3d_rescan
	touch "$T/go"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/images/b.bin")" conflict
	cmp "$T/src/theirs" "$(bucket_file "$PREFIX/images/b.bin")"
	cmp "$T/src/ours" "$P/images/b.bin"
}

test_moved_on_by_the_maintainers_is_gone_and_not_sent_again() {
	begin
	cp "$T/src/ours" "$P/images/b.bin"
	exits 0 all_verified
	"$TOOLS/s3" delete "$BUCKET" "$PREFIX/images/b.bin"
	: >"$T/requests.log"
	refresh
	ls "$P/images" >/dev/null
	wait_for 40 is_state gone "$P/images/b.bin"
	exits 0 all_verified
	same "gone" "$(status_json files.gone)" 1
	same "PutObject requests" "$(requests PutObject)" 0
	mount_end
	mount_start
	same "state" "$(state "$P/images/b.bin")" gone
	same "PutObject requests" "$(requests PutObject)" 0
}

test_a_whole_plate_moved_on() {
	make_plate --wells 12
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	rm -r "$(bucket_file "$PREFIX/$IMAGES")"
	s3d_rescan
	: >"$T/requests.log"
	refresh
	ls "$P/$IMAGES" >/dev/null
	wait_for 40 status_is files.gone "$(find "$SRC/$IMAGES" -type f | wc -l)"
	same_tree "$SRC" "$P"
	# not one by one
	at_most "HeadObject requests" "$(requests HeadObject)" 20
	same "PutObject requests" "$(requests PutObject)" 0
}

run_tests "$@"
