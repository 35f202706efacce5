#!/usr/bin/env bash
# A writer that was cut off leaves a file that is kept, shown and not uploaded.
. "$(dirname "$0")/lib.sh"

begin() {
	s3d_start
	mount_start "$@"
	mkdir -p "$P/images"
	I=$P/images
}

# SIGNAL FILE: a program that has written a part is ended by the signal.
killed_writer() {
	rm -f "$T/says" # the one before said so, too
	"$PYTHON" -c '
import sys, time
out = open(sys.argv[1], "wb", buffering=0)
out.write(b"II*\0\10\0\0\0" + bytes(5000))
print("written", flush=True)
time.sleep(600)' "$2" >"$T/says" &
	local pid=$!
	wait_for 10 grep -q written "$T/says"
	kill -"$1" $pid
	wait $pid || true
}

kept_back() { # FILE
	wait_for 10 is_state incomplete "$1"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	not test -e "$(bucket_file "${1#"$M"/}")"
}

test_killed_by_a_signal() {
	begin
	local signal
	for signal in KILL TERM HUP SEGV; do
		killed_writer $signal "$I/$signal.bin"
		kept_back "$I/$signal.bin"
	done
	same "incomplete" "$(status_json files.incomplete)" 4
	same "PutObject requests" "$(requests PutObject)" 0
}

test_accepted_as_it_is() {
	begin
	killed_writer KILL "$I/a.bin"
	kept_back "$I/a.bin"
	exits 0 "$CPGFS" accept "$M" "$I/a.bin"
	exits 0 all_verified
	cmp "$I/a.bin" "$(bucket_file "$PREFIX/images/a.bin")"
	same "size" "$(stat -c %s "$I/a.bin")" 5008
}

test_written_again() {
	begin
	killed_writer KILL "$I/a.bin"
	kept_back "$I/a.bin"
	make_file "$T/src/a" 20000
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
}

test_discarded() {
	begin
	killed_writer KILL "$I/a.bin"
	kept_back "$I/a.bin"
	expect_log 'discarded by command'
	echo whole >"$I/b.bin"
	exits 0 "$CPGFS" discard "$M" "$I/a.bin"
	wait_for 10 not test -e "$I/a.bin" # the kernel may keep the name for a second
	exits 0 all_verified
}

test_still_kept_back_after_a_remount() {
	begin
	killed_writer KILL "$I/a.bin"
	kept_back "$I/a.bin"
	mount_end
	grep -q 'stopped with 1 file that needs you' "$T/cpgfs.log" || fail "the log does not tell of it"
	not grep 'nothing is left' "$T/cpgfs.log"
	mount_start
	kept_back "$I/a.bin"
}

test_ending_normally_without_close_is_complete() {
	begin
	"$PYTHON" - "$I" <<-'PY'
	import os, sys, threading, time
	def idle():
	    time.sleep(600)
	for _ in range(8):
	    threading.Thread(target=idle, daemon=True).start()
	fd = os.open(sys.argv[1] + "/threads.bin", os.O_WRONLY | os.O_CREAT)
	os.write(fd, b"all of it")
	os._exit(0)
	PY
	bash -c 'exec 7>"$1"; echo all of it >&7; exit 3' - "$I/status.bin" || same "exit status" $? 3
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/images/threads.bin")")" "all of it"
	same "content" "$(cat "$(bucket_file "$PREFIX/images/status.bin")")" "all of it"
}

test_a_program_that_handles_ctrl_c_closes_normally() {
	begin
	"$PYTHON" -c '
import signal, sys
out = open(sys.argv[1], "wb")
out.write(b"all of it")
signal.signal(signal.SIGINT, signal.default_int_handler)
print("written", flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    out.close()' "$I/a.bin" >"$T/says" &
	local pid=$!
	wait_for 10 grep -q written "$T/says"
	kill -INT $pid
	wait $pid || true
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/images/a.bin")")" "all of it"
}

test_a_killed_cp() {
	begin
	make_file "$T/src/a" 30000000
	mkfifo "$T/slow"
	"$PYTHON" -c '
import sys, time
with open(sys.argv[1], "rb") as data, open(sys.argv[2], "wb") as pipe:
    pipe.write(data.read(10_000_000))
    pipe.flush()
    time.sleep(600)' "$T/src/a" "$T/slow" &
	local feeder=$!
	cat "$T/slow" >"$I/a.bin" &
	local copier=$!
	wait_for 20 has_size 9000000 "$I/a.bin"
	kill -KILL $copier
	wait $copier || true
	kill $feeder
	kept_back "$I/a.bin"
}

has_size() { # AT-LEAST FILE
	[ "$(stat -c %s "$2")" -ge "$1" ]
}

test_tiffs_that_are_not_whole() {
	begin
	make_plate --wells 1 --images-only
	local whole
	whole=$(find "$SRC" -name '*.tiff' | head -1)
	# as Samba closes a file whose client vanished: normally
	head -c 50 "$whole" >"$I/head.tiff"
	head -c 50000 /dev/zero >"$I/zeros.tif"
	"$PYTHON" -c '
import sys
data = bytearray(open(sys.argv[1], "rb").read(1000))
data[4:8] = (900000).to_bytes(4, "little")
open(sys.argv[2], "wb").write(data)' "$whole" "$I/ifd.tiff"
	kept_back "$I/head.tiff"
	kept_back "$I/zeros.tif"
	kept_back "$I/ifd.tiff"
	cp "$whole" "$I/whole.tiff"
	: >"$I/empty.tiff"
	wait_for 30 is_state verified "$I/whole.tiff"
	wait_for 30 is_state verified "$I/empty.tiff"
	cp "$whole" "$I/head.tiff"
	wait_for 30 is_state verified "$I/head.tiff"
	cmp "$whole" "$(bucket_file "$PREFIX/images/head.tiff")"
}

test_the_time_by_which_rsync_marks_a_broken_transfer() {
	begin
	make_file "$T/src/a" 20000
	cp "$T/src/a" "$I/a.bin"
	touch -d @0 "$I/a.bin"
	kept_back "$I/a.bin"
	same "PutObject requests" "$(requests PutObject)" 0
}

# Its last good version stays in the bucket, in a folder that nobody has any more.
test_moved_before_and_mounted_again() {
	begin --delete-delay 0
	make_file "$I/one/a.bin" 3000
	exits 0 all_verified
	"$CPGFS" pause "$M"
	mv "$I/one" "$I/two"
	killed_writer KILL "$I/two/a.bin"
	wait_for 10 is_state incomplete "$I/two/a.bin"
	same "names" "$(ls "$I")" two
	mount_end
	mount_start --delete-delay 0
	is_state incomplete "$I/two/a.bin"
	wait_for 20 not test -e "$I/one"
	same "names" "$(ls "$I")" two
	test -e "$(bucket_file "${I#"$M"/}/one/a.bin")"
}

run_tests "$@"
