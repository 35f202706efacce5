#!/usr/bin/env bash
# kill -9 of the daemon: what was closed arrives, and nothing else does.
# long
. "$(dirname "$0")/lib.sh"

# Every line of $T/closed ("sha256  path") is in the bucket with that content.
closed_files_arrived() {
	(cd "$(bucket_file "$PREFIX")" && sha256sum --quiet -c "$T/closed") || fail "closed files are missing or differ"
}

# [SECONDS]: until nothing is on its way any more (files that wait for a person do not count).
nothing_pending() {
	wait_for "${1:-60}" has_no_pending
}

has_no_pending() {
	[ "$(pending)" = 0 ]
}

# Copies $T/src file by file and notes each that was closed, until the mount is gone.
copy_and_note() {
	local file
	while read -r file; do
		mkdir -p "$(dirname "$P/$file")" && cp "$SRC/$file" "$P/$file" || return 0
		(cd "$SRC" && sha256sum "$file") >>"$T/closed"
	done < <(cd "$SRC" && find . -type f -printf '%P\n' | sort)
} 2>/dev/null

test_while_copying() {
	make_plate --wells 10 --bytes 300K
	s3d_start
	mount_start
	: >"$T/closed"
	copy_and_note &
	local copier=$!
	wait_for 20 lines_in "$T/closed" 12
	local daemon
	daemon=$(daemon_pid)
	kill -KILL "$daemon"
	wait $copier || true # it ends at the dead mount; without that it would write beneath it
	wait_for 10 ended "$daemon"
	fusermount3 -uz "$M"
	mount_start
	at_most "files cut off" "$(status_json files.incomplete)" 1
	nothing_pending
	closed_files_arrived
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" "$(wc -l <"$T/closed")"
	copy_plate
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

lines_in() { # FILE AT-LEAST
	[ "$(wc -l <"$1")" -ge "$2" ]
}

test_while_uploading() {
	make_plate --wells 15 --bytes 300K
	s3d_start --delay-ms 20
	mount_start --max-transfers 4
	copy_plate
	local files crash
	files=$(find "$SRC" -type f | wc -l)
	for crash in 1 2 3; do
		wait_for 30 requests_at_least $((crash * files / 5)) PutObject
		mount_crash
		mount_start --max-transfers 4
	done
	same_tree "$SRC" "$P"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	# what was on its way at each kill, and in each mount the one that finds out about conditions
	at_most "PutObject requests" "$(requests PutObject)" $((files + 3 * 4 + 4))
}

test_again_and_again_while_starting() {
	make_plate --wells 10
	s3d_start
	mount_start --paused
	copy_plate
	mount_crash
	local n pid
	for n in 1 2 3 4 5 6 7 8; do
		"$CPGFS" mount -f --endpoint "$ENDPOINT" --cache-dir "$T/cache" --log-file "$T/cpgfs.log" \
			"s3://$BUCKET/$PREFIX" "$M" >>"$T/start.log" 2>&1 &
		pid=$!
		# a little later each time: before, in and after recovery
		"$PYTHON" -c "import time; time.sleep($n * 0.03)"
		kill -KILL $pid
		wait $pid || true
		fusermount3 -uz "$M" 2>/dev/null || true
	done
	mount_start
	same_tree "$SRC" "$P"
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
}

test_in_a_multipart_upload() {
	s3d_start
	faults <<<"UploadPart n=6+ hold=$T/go"
	mount_start --part-size 5M --multipart-threshold 5M --max-transfers 4
	mkdir -p "$P/images" "$T/src/$PREFIX/images"
	make_file "$T/src/$PREFIX/images/big.bin" 80000000
	cp "$T/src/$PREFIX/images/big.bin" "$P/images/"
	wait_for 30 requests_at_least 5 UploadPart
	mount_crash
	touch "$T/go"
	mount_start --part-size 5M --multipart-threshold 5M --max-transfers 4
	exits 0 all_verified
	same_in_bucket "$T/src/$PREFIX" "$PREFIX"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
	# what had arrived before is not sent again
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
}

test_before_the_reply_to_a_put() {
	make_plate --wells 1
	s3d_start
	faults <<<"PutObject n=3-6 hold=$T/go at=after-apply"
	mount_start
	copy_plate
	# these are in the bucket, but cpgfs was never told
	wait_for 30 objects_are_there 6
	mount_crash
	touch "$T/go"
	mount_start
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	same "conflicts" "$(status_json files.conflict)" 0
}

objects_are_there() { # AT-LEAST
	[ "$(find "$T/s3/$BUCKET" -type f | wc -l)" -ge "$1" ]
}

test_after_renames_and_deletes() {
	make_plate --wells 4
	s3d_start
	mount_start --delete-delay 0
	copy_plate
	exits 0 all_verified
	"$CPGFS" pause "$M"
	mv "$P/images/2021_04_26_Batch1" "$P/images/2021_04_27_Batch2"
	rm "$P/workspace/profiles/2021_04_26_Batch1/BR00117035/BR00117035.csv.gz"
	mv "$P/workspace/backend/2021_04_26_Batch1" "$P/workspace/backend/2021_04_27_Batch2"
	mkdir -p "$T/want"
	ledger "$P" >"$T/before"
	mount_crash
	mount_start --delete-delay 0
	ledger "$P" >"$T/after"
	cmp_ledgers "$T/before" "$T/after" "the tree before" "the tree after the crash"
	exits 0 all_verified
	wait_for 20 not test -e "$(bucket_file "$PREFIX/workspace/profiles/2021_04_26_Batch1/BR00117035/BR00117035.csv.gz")"
	wait_for 20 no_files_below "$(bucket_file "$PREFIX/images/2021_04_26_Batch1")"
	find "$T/s3/$BUCKET" -type d -empty -delete
	same_tree "$P" "$(bucket_file "$PREFIX")"
}

deadline_test_random_operations=150
test_random_operations() {
	local seed
	s3d_start
	for seed in 11 12 13 14 15 16; do
		churn_and_crash $seed
	done
}

churn_and_crash() { # SEED: run, kill at a place that depends on the seed, and look
	local seed=$1 churn ops=$(($1 * 37 % 150 + 40))
	mount_start --delete-delay 0
	mkdir -p "$P/workspace/software/seed$seed"
	local D=$P/workspace/software/seed$seed
	"$TOOLS/churn" run "$D" "$T/ledger.$seed" --seed "$seed" --ops 100000 >"$T/churn.$seed" 2>&1 &
	churn=$!
	wait_for 20 has_bytes "$T/ledger.$seed.done" $ops
	mount_crash
	wait $churn || true
	mount_start --delete-delay 0
	"$TOOLS/churn" check "$D" "$T/ledger.$seed" || fail "seed $seed: the mount differs from the ledger"
	nothing_pending
	wait_for 20 deletes_done
	"$TOOLS/churn" bucket "$(bucket_file "$PREFIX/workspace/software/seed$seed")" "$T/ledger.$seed" ||
		fail "seed $seed: the bucket differs from the ledger"
	mount_end
}

deletes_done() {
	status_is files.deleting 0
}

has_bytes() { # FILE AT-LEAST
	[ "$(stat -c %s "$1")" -ge "$2" ]
}

test_a_writer_is_cut_off_with_the_daemon() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	make_file "$T/src/a.bin" 3000000
	# a shell's redirections are closed, and so said to be complete, at the end of each command
	"$PYTHON" -c '
import sys, time
out = open(sys.argv[2], "wb", buffering=0)
out.write(open(sys.argv[1], "rb").read(1500000))
print("written", flush=True)
time.sleep(600)' "$T/src/a.bin" "$P/images/half.bin" >"$T/says" &
	local writer=$!
	wait_for 10 grep -q written "$T/says"
	cp "$T/src/a.bin" "$P/images/whole.bin"
	mount_crash
	kill -KILL $writer
	wait $writer || true
	mount_start
	same "state" "$(state "$P/images/half.bin")" incomplete
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	is_state verified "$P/images/whole.bin"
	cmp "$T/src/a.bin" "$P/images/whole.bin"
	not test -e "$(bucket_file "$PREFIX/images/half.bin")"
	cmp <(head -c 1500000 "$T/src/a.bin") "$P/images/half.bin"
	cp "$T/src/a.bin" "$P/images/half.bin"
	exits 0 all_verified
	cmp "$T/src/a.bin" "$(bucket_file "$PREFIX/images/half.bin")"
}

# A notice to the kernel that waits for the lock of a folder would outlive the kill: neither the
# daemon nor the program that holds the lock would ever end.
test_while_a_lookup_waits_and_a_delete_is_taken_back() {
	s3d_start
	make_file "$T/src/b" 100
	put_elsewhere "$PREFIX/images/one/b.bin" "$T/src/b"
	mount_start --delete-delay 1h
	make_file "$P/images/one/a.bin" 3000
	exits 0 all_verified
	rm "$P/images/one/a.bin"
	mount_end
	faults <<<"ListObjectsV2 n=2+ hold=$T/go"
	mount_start --delete-delay 1h
	stat "$P/images/one/none" >/dev/null 2>&1 &
	local looker=$!
	wait_for 10 test -e "$T/go.held"
	"$CPGFS" undelete "$M"
	mount_crash
	touch "$T/go"
	wait $looker || true
	mount_start
	exits 0 all_verified
	test -e "$P/images/one/a.bin"
}

run_tests "$@"
