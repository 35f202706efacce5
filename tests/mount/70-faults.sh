#!/usr/bin/env bash
# A server that fails, lies and loses replies: everything arrives whole, and nothing is said too early.
# long
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…; the fault script on standard input
	expect_log '.'
	make_plate
	s3d_start
	faults
	mount_start --part-size 5M --multipart-threshold 5M "$@"
}

arrives_although() {
	copy_plate
	exits 0 all_verified 120
	same_in_bucket "$SRC" "$PREFIX"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

large_arrives_although() {
	mkdir -p "$P/images" "$T/large/images"
	make_file "$T/large/images/big.bin" 23000000
	cp "$T/large/images/big.bin" "$P/images/"
	exits 0 all_verified 120
	same_in_bucket "$T/large" "$PREFIX"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

test_server_errors() {
	begin <<-'F'
	PutObject n=1-3 status=500 code=InternalError
	PutObject n=5-6 status=503 code=SlowDown
	PutObject n=8 status=400 code=RequestTimeout
	PutObject n=9 status=409 code=ConditionalRequestConflict
	PutObject n=10 200-error code=InternalError
	PutObject n=11 200-error code=InternalError leading-space
	F
	arrives_although
}

test_connections_that_break() {
	begin <<-'F'
	PutObject n=1 reset-before
	PutObject n=3 reset-after
	PutObject n=5 reset-before at=headers
	PutObject n=7 wrong-content-length
	ListObjectsV2 n=3 cut-body=50
	ListObjectsV2 n=5 reset-before
	F
	arrives_although
	same "conflicts" "$(status_json files.conflict)" 0
}

test_lists_that_are_garbage() {
	begin <<-'F'
	ListObjectsV2 n=2 garbage-xml
	ListObjectsV2 n=3 entity-bomb
	ListObjectsV2 n=4 empty-body
	ListObjectsV2 n=5 repeat-token
	ListObjectsV2 n=6 missing-token
	F
	arrives_although
}

test_multipart_errors() {
	begin <<-'F'
	CreateMultipartUpload n=1 status=500 code=InternalError
	UploadPart n=2 status=500 code=InternalError
	UploadPart n=4 reset-after
	UploadPart n=5 no-etag
	F
	large_arrives_although
}

test_complete_answers_200_with_an_error() {
	begin <<-'F'
	CompleteMultipartUpload n=1 200-error code=InternalError
	CompleteMultipartUpload n=2 200-error code=InternalError leading-space
	CompleteMultipartUpload n=3 empty-body no-apply
	F
	large_arrives_although
}

test_complete_loses_its_reply() {
	begin <<-'F'
	CompleteMultipartUpload n=1 reset-after
	F
	large_arrives_although
	same "conflicts" "$(status_json files.conflict)" 0
}

test_an_upload_vanishes() {
	begin <<-'F'
	UploadPart n=3 status=404 code=NoSuchUpload
	F
	mkdir -p "$P/images"
	make_file "$T/src/big.bin" 23000000
	cp "$T/src/big.bin" "$P/images/"
	exits 0 all_verified 120
	cmp "$T/src/big.bin" "$(bucket_file "$PREFIX/images/big.bin")"
	same "uploads begun" "$(requests CreateMultipartUpload)" 2
}

test_refused_for_good_is_failed_and_kept() {
	begin <<-'F'
	PutObject key=*/Index.idx.xml always status=400 code=InvalidRequest
	F
	copy_plate
	exits 3 "$CPGFS" wait --timeout 60 "$M"
	same "failed" "$(status_json files.failed)" 1
	same "verified" "$(status_json files.verified)" $(($(find "$SRC" -type f | wc -l) - 1))
	same "state" "$(state "$P/$IMAGES/Index.idx.xml")" failed
	grep -q Index.idx.xml "$M/.cpgfs/failed.tsv" || fail "failed.tsv does not name it"
	cmp "$SRC/$IMAGES/Index.idx.xml" "$P/$IMAGES/Index.idx.xml"
	xattr error "$P/$IMAGES/Index.idx.xml" | grep -q InvalidRequest || fail "user.cpgfs.error does not say why"
	mount_end
	mount_start
	same "failed after a remount" "$(status_json files.failed)" 1
	faults </dev/null
	exits 0 "$CPGFS" retry "$M"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

test_denied_for_all_keeps_everything() {
	begin <<-'F'
	PutObject always status=403 code=AccessDenied
	F
	make_plate --wells 20
	copy_plate
	wait_for 60 denied
	same_tree "$SRC" "$P"
	no_files_below "$T/s3/$BUCKET"
	# the rest waits: nobody hammers a server that says no
	at_most "PutObject requests" "$(requests PutObject)" 60
	faults </dev/null
	exits 0 "$CPGFS" retry "$M"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

denied() {
	[ "$(status_json paused_reason)" != null ] || [ "$(status_json files.failed)" -gt 0 ]
}

test_a_wrong_checksum_is_not_believed() {
	begin <<-'F'
	PutObject n=2 wrong-checksum
	PutObject n=4 wrong-etag
	F
	arrives_although
}

test_a_wrong_clock() {
	begin <<-'F'
	* always skew-date=1200
	F
	arrives_although
}

test_expired_keys_are_waited_for() {
	begin <<-'F'
	PutObject n=5+ expire-token
	F
	copy_plate
	wait_for 30 denied
	at_most "PutObject requests while the keys are expired" "$(requests PutObject)" 40
	same "failed" "$(status_json files.failed)" 0
	faults </dev/null
	exits 0 "$CPGFS" retry "$M"
	exits 0 all_verified 90
	same_in_bucket "$SRC" "$PREFIX"
}

deadline_test_a_stalled_request_is_given_up=150
test_a_stalled_request_is_given_up() {
	begin <<-'F'
	PutObject n=2 stall=forever of=response
	PutObject n=4 stall=forever of=request
	F
	arrives_although
}

test_an_old_server_without_checksums() {
	make_plate
	s3d_start --crc64nvme off --conditions put
	mount_start --part-size 5M --multipart-threshold 5M
	copy_plate
	large_arrives_although_beside_the_plate
	same "payloads that were not signed" \
		"$(awk -F'\t' '$3 == "PutObject" && $15 ~ /unsigned/' "$T/requests.log" | wc -l)" 0
}

large_arrives_although_beside_the_plate() {
	make_file "$SRC/images/big.bin" 23000000
	cp "$SRC/images/big.bin" "$P/images/"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

test_changed_while_it_is_sent() {
	s3d_start
	faults <<<"PutObject n=1 hold=$T/go at=mid-body after=100000"
	mount_start
	mkdir -p "$P/images"
	make_file "$T/src/a" 3000000
	make_file "$T/src/b" 3000000 other
	cp "$T/src/a" "$P/images/a.bin"
	wait_for 20 is_state sending "$P/images/a.bin"
	cp "$T/src/b" "$P/images/a.bin"
	touch "$T/go"
	exits 0 all_verified
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/a.bin")"
	cmp "$T/src/b" "$P/images/a.bin"
}

test_a_large_file_changed_while_it_is_sent() {
	s3d_start
	faults <<<"UploadPart n=3 hold=$T/go at=mid-body after=100000"
	mount_start --part-size 5M --multipart-threshold 5M
	mkdir -p "$P/images"
	make_file "$T/src/a" 23000000
	cp "$T/src/a" "$P/images/a.bin"
	wait_for 20 requests_at_least 2 UploadPart
	for where in "$T/src/a" "$P/images/a.bin"; do
		printf changed | dd of="$where" bs=1 seek=22000000 conv=notrunc status=none
		printf changed | dd of="$where" bs=1 seek=5 conv=notrunc status=none
	done
	touch "$T/go"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

run_tests "$@"
