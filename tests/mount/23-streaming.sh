#!/usr/bin/env bash
# Large files are sent while they are still being written.
. "$(dirname "$0")/lib.sh"

PART=$((5 << 20))

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start --part-size 5M --multipart-threshold 10M --stream-quiet 1s "$@"
	I=$P/images
	mkdir -p "$I"
}

# FILE: a program that does what it is told (tell), to FILE and the same to $T/copy, which is what
# FILE should hold in the end.
writer_start() {
	rm -f "$T/orders" "$T/did"
	mkfifo "$T/orders"
	: >"$T/did"
	"$PYTHON" -c '
import os, random, sys
files = [os.open(name, os.O_RDWR | os.O_CREAT) for name in sys.argv[1:3]]
did = open(sys.argv[4], "w", buffering=1)
for order in open(sys.argv[3]):
    word, *numbers = order.split()
    numbers = [int(n) for n in numbers]
    if word == "write":
        offset, length = numbers
        data = random.Random(order).randbytes(length)
        for fd in files:
            for at in range(0, length, 1 << 20):
                os.pwrite(fd, data[at:at + (1 << 20)], offset + at)
    elif word == "truncate":
        for fd in files:
            os.ftruncate(fd, numbers[0])
    elif word == "close":
        break
    print(order.strip(), file=did)
for fd in files:
    os.close(fd)
' "$1" "$T/copy" "$T/orders" "$T/did" &
	WRITER=$!
	exec 4>"$T/orders"
}

tell() { # ORDER…
	local before
	before=$(wc -l <"$T/did")
	echo "$*" >&4
	wait_for 30 writer_did $((before + 1))
}

writer_did() {
	[ "$(wc -l <"$T/did")" -ge "$1" ]
}

writer_close() {
	echo close >&4
	exec 4>&-
	wait $WRITER
}

sent() { # how many parts
	requests UploadPart
}

parts_are_sent() { # NUMBER
	wait_for 60 requests_at_least "$1" UploadPart
	same "parts sent" "$(sent)" "$1"
}

is_there() { # FILE
	exits 0 all_verified
	cmp "$T/copy" "$(bucket_file "${1#"$M"/}")"
	cmp "$T/copy" "$1"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

test_parts_are_there_before_the_close() {
	begin
	writer_start "$I/a.bin"
	tell write 0 $((3 * PART + 1000))
	parts_are_sent 3
	same "state" "$(state "$I/a.bin")" open
	tell write $((3 * PART + 1000)) $((5 * PART))
	parts_are_sent 8
	same "state" "$(state "$I/a.bin")" open
	same "uploads completed" "$(requests CompleteMultipartUpload)" 0
	not test -e "$(bucket_file "${I#"$M"/}/a.bin")"
	same "links" "$(links "$I/a.bin")" 1
	writer_close
	is_there "$I/a.bin"
	same "parts sent" "$(sent)" 9
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
	same "uploads completed" "$(requests CompleteMultipartUpload)" 1
}

# As TIFF, zip and HDF5 writers do: what comes first is known last.
test_the_beginning_is_written_last() {
	begin
	writer_start "$I/a.h5"
	tell write 0 $((8 * PART))
	parts_are_sent 8
	tell write 0 16
	tell write $((4 * PART - 8)) 16
	writer_close
	is_there "$I/a.h5"
	same "parts sent" "$(sent)" 11
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
}

test_a_database_that_grows() {
	begin
	"$PYTHON" - "$I/profiles.sqlite" "$T/requests.log" <<-'PY'
	import random, sqlite3, sys, time
	db = sqlite3.connect(sys.argv[1])
	db.execute("create table cells (n integer primary key, data blob)")
	rows = random.Random(1)
	def grow(first):
	    for n in range(first, first + 200):
	        db.execute("insert into cells values (?, ?)", (n, rows.randbytes(100000)))
	    db.commit()
	def parts():
	    return sum("\tUploadPart\t" in line for line in open(sys.argv[2]))
	grow(0)
	end = time.monotonic() + 60
	while parts() < 3:
	    assert time.monotonic() < end
	    time.sleep(0.05)
	grow(200)
	db.close()
	PY
	exits 0 all_verified
	local object
	object=$(bucket_file "${I#"$M"/}/profiles.sqlite")
	cmp "$I/profiles.sqlite" "$object"
	cp "$object" "$T/copy.sqlite"
	same "the database" "$("$PYTHON" -c '
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(*db.execute("pragma integrity_check").fetchone(), *db.execute("select count(*), sum(n) from cells").fetchone())
' "$T/copy.sqlite")" "ok 400 79800"
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

# The daemon is killed in the middle, right after a part that had been sent was written again.
test_killed_and_gone_on_with() {
	begin
	writer_start "$I/a.bin"
	tell write 0 $((6 * PART))
	parts_are_sent 6
	tell write $((2 * PART + 77)) 1000
	mount_crash
	kill -KILL $WRITER
	wait $WRITER || true
	exec 4>&-
	mount_start --part-size 5M --multipart-threshold 10M --stream-quiet 1s
	same "state" "$(state "$I/a.bin")" incomplete
	writer_start "$I/a.bin"
	tell write $((6 * PART)) $((2 * PART + 5))
	parts_are_sent 9
	writer_close
	is_there "$I/a.bin"
	same "parts sent" "$(sent)" 10
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
}

# Nothing is completed of what its writer left; what is copied again replaces it.
test_writer_killed() {
	begin
	writer_start "$I/a.bin"
	tell write 0 $((4 * PART + 9))
	parts_are_sent 4
	kill -KILL $WRITER
	wait $WRITER || true
	exec 4>&-
	wait_for 10 is_state incomplete "$I/a.bin"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "uploads completed" "$(requests CompleteMultipartUpload)" 0
	make_file "$T/copy" $((4 * PART + 9)) again
	cp "$T/copy" "$I/a.bin"
	is_there "$I/a.bin"
	same "uploads completed" "$(requests CompleteMultipartUpload)" 1
}

test_renamed_and_removed_meanwhile() {
	begin
	writer_start "$I/a.bin"
	tell write 0 $((3 * PART))
	parts_are_sent 3
	mv "$I" "$P/pictures"
	I=$P/pictures
	parts_are_sent 6
	wait_for 20 requests_at_least 1 AbortMultipartUpload
	writer_close
	is_there "$I/a.bin"
	rm -f "$T/copy"
	writer_start "$I/b.bin"
	tell write 0 $((3 * PART))
	parts_are_sent 9
	rm "$I/b.bin"
	wait_for 20 requests_at_least 2 AbortMultipartUpload
	wait_for 20 no_uploads
	writer_close
	exits 0 all_verified
	same "uploads completed" "$(requests CompleteMultipartUpload)" 1
}

# Nobody but the record of its attempt knows then that there is an upload to abort.
test_removed_right_before_the_unmount() {
	begin
	faults <<-'F'
	UploadPart n=2+ delay=3000
	AbortMultipartUpload status=503 code=SlowDown
	F
	make_file "$T/copy" $((4 * PART + 9))
	cp "$T/copy" "$I/a.bin"
	wait_for 20 requests_at_least 1 UploadPart
	rm "$I/a.bin"
	cd "$T"
	mount_end
	same "uploads left open" "$(open_uploads | wc -l)" 1
	faults </dev/null
	mount_start
	wait_for 20 no_uploads
	exits 0 all_verified
	not test -e "$(bucket_file "${I#"$M"/}/a.bin")"
	same "uploads completed" "$(requests CompleteMultipartUpload)" 0
}

no_uploads() {
	[ -z "$("$TOOLS/s3" uploads "$BUCKET")" ]
}

run_tests "$@"
