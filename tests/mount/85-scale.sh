#!/usr/bin/env bash
# Many files: what the daemon keeps of each of them is bounded, and little. Nothing here is timed.
# Looking at a daemon's descriptors is root's business.
# rights: root
# long
. "$(dirname "$0")/lib.sh"

MANY=2000 PENDING=2000 FILE_BYTES=24000 # a quarter of them must hold two parts
[ -z "${CPGFS_TEST_LONG:-}" ] || MANY=200000 PENDING=50000 FILE_BYTES=4000

# DIR FIRST LAST: files of FILE_BYTES, each with content of its own, 1,000 to a folder.
make_many() {
	"$PYTHON" - "$1" "$2" "$3" $FILE_BYTES <<-'PY'
	import os, sys
	top, first, last, size = sys.argv[1], *map(int, sys.argv[2:])
	for n in range(first, last):
	    folder = "%s/%03d" % (top, n // 1000)
	    if n % 1000 == 0 or n == first:
	        os.makedirs(folder, exist_ok=True)
	    with open("%s/%07d.bin" % (folder, n), "wb", buffering=0) as out:
	        out.write((b"%07d\n" % n) * (size // 8))
	PY
}

# PID: what it has open, but sockets: those are connections, kept for a while.
files_open() {
	find "/proc/$1/fd" -type l -printf '%l\n' 2>/dev/null | grep -vc '^socket:'
}

data_files_open() { # PID
	find "/proc/$1/fd" -type l -printf '%l\n' 2>/dev/null | grep -c "^$T/cache/data/" || true
}

memory_kb() { # PID FIELD
	sed -n "s/^$2:[^0-9]*\\([0-9]*\\) kB/\\1/p" "/proc/$1/status"
}

data_files() {
	find "$T/cache/data" -type f | wc -l
}

deadline_test_a_session_of_many_files=120
[ -z "${CPGFS_TEST_LONG:-}" ] || deadline_test_a_session_of_many_files=5400
test_a_session_of_many_files() {
	local pid open sockets cache_bytes=$((MANY * FILE_BYTES / 4))
	s3d_start
	mount_start --cache-size $cache_bytes --part-size 5M
	pid=$(daemon_pid)
	mkdir -p "$P/images"
	# a first file, that all is there which is made with the first
	make_file "$P/images/first" 1000
	exits 0 all_verified
	open=$(files_open "$pid")
	make_many "$P/images" 0 $MANY
	at_most "RssAnon in kB with all copied in" "$(memory_kb "$pid" RssAnon)" 61440
	exits 0 all_verified 3600
	at_most "RssAnon in kB with all uploaded" "$(memory_kb "$pid" RssAnon)" 61440
	same "files verified" "$(status_json files.verified)" $((MANY + 1))
	same "PUTs" "$(puts)" $((MANY + 1))
	same "objects" "$(find "$(bucket_file "$PREFIX/images")" -type f | wc -l)" $((MANY + 1))
	# most were evicted meanwhile: no descriptor is left, and no data file of theirs
	wait_for 30 same_number "$open" files_open "$pid"
	same "data files open" "$(data_files_open "$pid")" 0
	sockets=$(find "/proc/$pid/fd" -type l -lname 'socket:*' | wc -l)
	at_most "sockets" "$sockets" 280 # as many as --max-transfers, and for listings
	at_most "bytes used" "$(status_json cache.used_bytes)" $cache_bytes
	at_most "data files" "$(data_files)" $((cache_bytes / FILE_BYTES + 1))
	at_most "bytes of the index" "$(status_json cache.index_bytes)" $((MANY * 2500 + (2 << 20)))
	at_most "bytes of the journal" "$(stat -c %s "$T/cache/journal")" $((64 << 20))
	at_most "bytes of the witness" "$(stat -c %s "$T/cache/witness")" $((MANY * 1600 + (17 << 20)))
	# an evicted one comes back
	cmp "$P/images/000/0000007.bin" "$(bucket_file "$PREFIX/images/000/0000007.bin")"
	# all of them removed: nothing is left of them, here or there
	mount_end
	mount_start --cache-size $cache_bytes --part-size 5M --delete-delay 0
	pid=$(daemon_pid)
	rm -r "$P/images"
	wait_for 1800 status_is files.deleting 0
	same "objects left" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 0
	wait_for 30 same_number 0 data_files
	same "files verified" "$(status_json files.verified)" 0
	at_most "RssAnon in kB with all removed" "$(memory_kb "$pid" RssAnon)" 61440
	mount_end
}

same_number() { # WANTED COMMAND…
	[ "$("${@:2}")" = "$1" ]
}

deadline_test_a_folder_of_pending_files_is_renamed=120
[ -z "${CPGFS_TEST_LONG:-}" ] || deadline_test_a_folder_of_pending_files_is_renamed=3600
test_a_folder_of_pending_files_is_renamed() {
	local before after pid
	s3d_start
	mount_start --paused
	mkdir -p "$P/images/plate"
	make_many "$P/images/plate" 0 $PENDING
	wait_for 120 status_is files.queued $PENDING
	before=$(status_json cache.journal_bytes)
	mv "$P/images/plate" "$P/images/renamed"
	mv "$P/images" "$P/pictures"
	after=$(status_json cache.journal_bytes)
	# a record each, not one for each file (a checkpoint between the two looks makes it smaller)
	at_most "bytes of journal for two renames" $((after - before)) 16384
	same "files queued" "$(status_json files.queued)" $PENDING
	same "jobs" "$(status_json jobs)" 0
	# the next start reads no more of the index than it needs
	mount_end
	mount_start --paused
	pid=$(daemon_pid)
	[ -z "${CPGFS_TEST_LONG:-}" ] ||
		at_most "mapped kB of index and program after a start" "$(memory_kb "$pid" RssFile)" \
			$((16384 + $(status_json cache.index_bytes) / 1024 / 8))
	at_most "RssAnon in kB after a start" "$(memory_kb "$pid" RssAnon)" 30720
	same "files queued" "$(status_json files.queued)" $PENDING
	"$CPGFS" resume "$M" >/dev/null
	exits 0 all_verified 3000
	same "PUTs" "$(puts)" $PENDING
	same "PUTs under the last name" "$(requests PutObject "^$PREFIX/pictures/renamed/")" "$(requests PutObject)"
	same "copies" "$(requests CopyObject)" 0
	same "deletes" "$(requests DeleteObject)" 0
}

run_tests "$@"
