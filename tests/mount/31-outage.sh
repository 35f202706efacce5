#!/usr/bin/env bash
# The server is away: before the mount, in the middle, for a while, or hangs.
. "$(dirname "$0")/lib.sh"

test_away_before_the_mount() {
	expect_log 'the server does not answer'
	make_plate
	s3d_start
	s3d_stop
	mount_start
	copy_plate
	same_tree "$SRC" "$P"
	same "files with one link" "$(find "$P" -type f -links 1 | wc -l)" "$(find "$SRC" -type f | wc -l)"
	exits 2 "$CPGFS" wait --timeout 1 "$M"
	[ "$(status_json paused_reason)" != null ] || fail "status does not say why nothing goes on"
	s3d_start
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	same "paused_reason" "$(status_json paused_reason)" null
}

test_away_in_the_middle() {
	expect_log 'the server does not answer'
	make_plate --wells 10
	s3d_start --delay-ms 20
	mount_start --max-transfers 4
	copy_plate
	wait_for 20 requests_at_least 10 PutObject
	s3d_stop
	cp -r "$SRC/images" "$P/workspace/copy"
	same_tree "$SRC/images" "$P/workspace/copy"
	ls -lR "$P" >/dev/null
	s3d_start
	exits 0 all_verified
	same_in_bucket "$SRC/images" "$PREFIX/workspace/copy"
	same_in_bucket "$SRC/images" "$PREFIX/images"
}

test_hangs_for_a_while() {
	expect_log 'the server does not answer'
	make_plate --wells 4
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	kill -STOP $S3D_PID
	local began=$SECONDS
	cp -r "$SRC/images" "$P/workspace/copy"
	same_tree "$SRC/images" "$P/workspace/copy"
	ls -l "$P/images" >/dev/null
	at_most "seconds for a copy while the server hangs" $((SECONDS - began)) $((15 * SLOW))
	kill -CONT $S3D_PID
	exits 0 all_verified
	same_in_bucket "$SRC/images" "$PREFIX/workspace/copy"
}

test_copying_is_as_fast_without_the_server() {
	expect_log 'the server does not answer'
	make_plate --wells 20 --images-only
	s3d_start
	s3d_stop
	mount_start
	mkdir -p "$P"
	local began ended_at
	began=$(date +%s%3N)
	cp -r "$SRC/." "$P/"
	ended_at=$(date +%s%3N)
	# 81 files: a single wait for the network per file would be minutes
	at_most "milliseconds" $((ended_at - began)) $((5000 * SLOW))
	same_tree "$SRC" "$P"
}

test_stopped_and_mounted_again_during_the_outage() {
	expect_log 'the server does not answer'
	make_plate
	s3d_start
	mount_start
	mkdir -p "$P"
	s3d_stop
	cp -r "$SRC/." "$P/"
	mount_end
	mount_start
	same_tree "$SRC" "$P"
	s3d_start
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

run_tests "$@"
