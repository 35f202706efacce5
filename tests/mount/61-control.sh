#!/usr/bin/env bash
# status, wait, and the files of .cpgfs.
# rights: both
. "$(dirname "$0")/lib.sh"

test_the_shape_of_status_json() {
	make_plate
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	"$PYTHON" - "$M/.cpgfs/status.json" "$(find "$SRC" -type f | wc -l)" <<-'PY'
	import json, sys
	status = json.load(open(sys.argv[1]))
	states = {"open", "closed", "settled", "queued", "sending", "uploaded", "verified", "held", "incomplete",
	          "torn", "lost", "unknown", "conflict", "failed", "gone", "moving", "deleting"}
	for table in "files", "bytes":
	    assert set(status[table]) == states, set(status[table]) ^ states
	    assert all(isinstance(n, int) for n in status[table].values())
	assert status["files"]["verified"] == int(sys.argv[2])
	assert status["paused_reason"] is None
	assert isinstance(status["rate_bytes_per_s"], (int, float))
	assert status["eta_s"] is None or isinstance(status["eta_s"], (int, float))
	for name in "size_bytes", "used_bytes", "pending_bytes":
	    assert isinstance(status["cache"][name], int), name
	assert status["cache"]["used_bytes"] >= status["bytes"]["verified"]
	assert status["cache"]["pending_bytes"] == 0
	PY
	exits 0 "$CPGFS" status "$M"
	says verified
	exits 0 "$CPGFS" status --json "$M"
	"$PYTHON" -m json.tool "$T/last" >/dev/null
	grep -q verified "$M/.cpgfs/status"
}

test_exit_codes() {
	s3d_start
	mount_start --paused
	exits 0 "$CPGFS" wait --timeout 5 "$M"
	mkdir -p "$P/images"
	exits 1 "$CPGFS" wait --timeout 5 "$M" "$P/images/none"
	says none
	exits 1 "$CPGFS" wait --timeout 5 "$M" "$P/images"
	echo a >"$P/images/a"
	exits 2 "$CPGFS" wait --timeout 1 "$M"
	exits 2 "$CPGFS" wait --timeout 1 "$M" "$P/images/a"
	exits 2 "$CPGFS" status "$M"
	says PAUSED
	"$CPGFS" resume "$M"
	exits 0 "$CPGFS" wait --timeout 30 "$M" "$P/images/a"
	mkdir "$P/images/empty"
	exits 1 "$CPGFS" wait --timeout 5 "$M" "$P/images/a" "$P/images/empty"
	says empty
	exits 0 "$CPGFS" status "$M"
	exits 1 "$CPGFS" wait "$T/src"
	exits 1 "$CPGFS" wait
	mkdir -p "$P/images/b/images/x y"
	echo a >"$P/images/b/images/x y/a"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	exits 0 "$CPGFS" wait --timeout 30 "$M" "$P/images/a"
	exits 3 "$CPGFS" status "$M"
}

test_wait_for_a_folder_does_not_wait_for_others() {
	make_plate --wells 1
	s3d_start
	faults <<<"PutObject key=*/backend/* always hold=$T/go"
	mount_start
	copy_plate
	exits 0 "$CPGFS" wait --timeout 30 "$M" "$P/images"
	exits 2 "$CPGFS" wait --timeout 1 "$M"
	touch "$T/go"
	exits 0 all_verified
}

test_pause_and_resume() {
	make_plate --wells 1
	s3d_start
	mount_start
	mkdir -p "$P"
	exits 0 "$CPGFS" pause "$M"
	cp -r "$SRC/." "$P/"
	exits 2 "$CPGFS" wait --timeout 2 "$M"
	same "PutObject requests" "$(requests PutObject)" 0
	[ "$(status_json paused_reason)" != null ] || fail "no reason is given"
	exits 0 "$CPGFS" resume "$M"
	exits 0 all_verified
	same "paused_reason" "$(status_json paused_reason)" null
}

test_attributes_tell_the_state() {
	s3d_start
	mount_start --paused
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	wait_for 10 not is_state open "$P/images/a"
	same "key" "$(xattr key "$P/images/a")" "$PREFIX/images/a"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	same "state" "$(state "$P/images/a")" verified
	same "ETag" "$(xattr etag "$P/images/a" | tr -d '"')" "$(md5sum <<<a | cut -d' ' -f1)"
	# not listed: programs that copy all attributes would try to set them
	setfattr -n user.note -v kept "$P/images/a"
	same "listed" "$(getfattr --absolute-names -m - "$P/images/a" | sed '1d;/^$/d')" user.note
}

test_the_tables() {
	make_plate --wells 1
	s3d_start
	mount_start --paused
	copy_plate
	local files
	files=$(find "$SRC" -type f | wc -l)
	wait_for 20 lines_of queue.tsv "$files"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	same "lines of uploaded.tsv" "$(grep -c "$PREFIX" "$M/.cpgfs/uploaded.tsv")" "$files"
	same "lines of queue.tsv" "$(grep -c "$PREFIX" "$M/.cpgfs/queue.tsv" || true)" 0
	same "lines of failed.tsv" "$(grep -c "$PREFIX" "$M/.cpgfs/failed.tsv" || true)" 0
	grep -q '^# TYPE cpgfs_' "$M/.cpgfs/metrics" || fail "metrics are not in Prometheus' format"
}

lines_of() { # TABLE NUMBER
	[ "$(grep -c "$PREFIX" "$M/.cpgfs/$1")" = "$2" ]
}

# What could not be printed was not said, however well things stand.
test_a_full_disk_under_the_output() {
	local command
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 0 all_verified
	for command in status "status --json" "status --plates" "ls -R" ls verify "verify --json" \
		retry refresh; do
		# shellcheck disable=SC2086 # words
		exits 0 "$CPGFS" $command "$M"
		# shellcheck disable=SC2016,SC2086
		exits 1 bash -c '"$@" >/dev/full' - "$CPGFS" $command "$M"
		says "standard output cannot be written"
	done
	exits 1 bash -c '"$@" >/dev/full' - "$CPGFS" plan "$T/src" "s3://$BUCKET/$PREFIX"
	exits 1 bash -c '"$@" >/dev/full' - "$CPGFS" --help
	exits 1 bash -c '"$@" >/dev/full' - "$CPGFS" report -o "$T/report" "$M"
}

# Where the kernel writes by itself that is told; where it cannot it is no news.
test_passthrough_is_shown_where_it_is_on() {
	local state
	s3d_start
	mount_start
	state=$(status_json passthrough.state)
	exits 0 "$CPGFS" status "$M"
	same "lines of $state" "$(grep -c "kernel passthrough" "$T/last" || true)" "$([ "$state" = on ] && echo 1 || echo 0)"
}

test_commands_are_the_owners_alone() {
	s3d_start
	mount_start
	same "mode of control" "$(stat -c %a "$M/.cpgfs/control")" 600
	fails_with '' cat "$M/.cpgfs/control"
	not bash -c 'echo nonsense >"$1"' - "$M/.cpgfs/control" 2>/dev/null
	refresh
}

test_many_waiters_and_a_status_while_uploading() {
	make_plate --wells 10
	s3d_start --delay-ms 20
	mount_start
	copy_plate
	local n waiters=()
	for n in 1 2 3 4 5; do
		"$CPGFS" wait --timeout 50 "$M" &
		waiters+=($!)
	done
	for n in 1 2 3 4 5; do
		status_json files >/dev/null
	done
	for n in "${waiters[@]}"; do
		wait "$n"
	done
	same_in_bucket "$SRC" "$PREFIX"
}

run_tests "$@"
