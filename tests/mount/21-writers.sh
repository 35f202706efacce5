#!/usr/bin/env bash
# Programs that write in their own ways: each result is compared with the same done on a plain disk.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start "$@"
	D=$P/workspace/software W=$T/src/$PREFIX
	mkdir -p "$D" "$W/workspace/software"
	L=$W/workspace/software
}

arrived() {
	exits 0 all_verified
	same_tree "$W" "$P"
	same_in_bucket "$W" "$PREFIX"
}

test_tar_extracts() {
	make_plate
	s3d_start
	mount_start
	mkdir -p "$P"
	tar -C "$SRC" --format=posix -cf - . | tar -C "$P" -xf -
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	diff <(cd "$SRC" && find . -type f -printf '%T@ %s %m %p\n' | sort) \
		<(cd "$P" && find . -type f -printf '%T@ %s %m %p\n' | sort) || fail "times or modes differ"
}

test_dd_patches_an_uploaded_file() {
	begin
	make_file "$L/a.bin" 3000000
	cp "$L/a.bin" "$D/a.bin"
	exits 0 all_verified
	make_file "$T/patch" 70000
	for at in 0 1 1400001 2930000; do
		for where in "$L" "$D"; do
			dd if="$T/patch" of="$where/a.bin" conv=notrunc oflag=seek_bytes seek=$at status=none
		done
	done
	arrived
}

test_dd_with_small_blocks_and_holes() {
	begin
	make_file "$T/patch" 4096
	for where in "$L" "$D"; do
		dd if=/dev/zero of="$where/z.bin" bs=512 count=2000 status=none
		dd if="$T/patch" of="$where/holes.bin" bs=4096 seek=700 status=none
		dd if="$T/patch" of="$where/holes.bin" bs=4096 seek=3 conv=notrunc status=none
		dd if="$T/patch" of="$where/sync.bin" bs=1000 oflag=sync status=none
		dd if="$T/patch" of="$where/fsync.bin" bs=100 conv=fsync status=none
	done
	arrived
}

test_sqlite_writes_a_database() {
	begin --delete-delay 0
	need sqlite3
	local sql='CREATE TABLE cells (well TEXT, area REAL);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
		INSERT INTO cells SELECT printf("A%02d", i % 24), i * 1.5 FROM n;
		CREATE INDEX cells_well ON cells (well);
		DELETE FROM cells WHERE well = "A07"; VACUUM;'
	for where in "$L" "$D"; do
		sqlite3 "$where/plate.sqlite" "$sql"
		sqlite3 "$where/plate.sqlite" "INSERT INTO cells VALUES ('B01', 7); UPDATE cells SET area = 3 WHERE well = 'A03'"
	done
	same "integrity" "$(sqlite3 "$D/plate.sqlite" 'PRAGMA integrity_check')" ok
	cmp <(sqlite3 "$L/plate.sqlite" .dump) <(sqlite3 "$D/plate.sqlite" .dump)
	exits 0 all_verified
	cmp "$D/plate.sqlite" "$(bucket_file "$PREFIX/workspace/software/plate.sqlite")"
	wait_for 20 not test -e "$(bucket_file "$PREFIX/workspace/software/plate.sqlite-journal")"
}

test_sqlite_with_a_write_ahead_log() {
	begin --delete-delay 0
	need sqlite3
	sqlite3 "$D/wal.sqlite" 'PRAGMA journal_mode = wal; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)' >/dev/null
	sqlite3 "$D/wal.sqlite" 'INSERT INTO t VALUES (3)'
	same "sum" "$(sqlite3 "$D/wal.sqlite" 'SELECT sum(x) FROM t')" 6
	exits 0 all_verified
	cmp "$D/wal.sqlite" "$(bucket_file "$PREFIX/workspace/software/wal.sqlite")"
}

test_python_seeks_and_writes_from_threads() {
	begin
	cat >"$T/seeks.py" <<-'PY'
	import os, random, sys, threading
	path, seed = sys.argv[1], 5
	with open(path, "wb") as out:
	    for block in random.Random(seed).sample(range(400), 300):
	        out.seek(block * 10007)
	        out.write(random.Random(block).randbytes(10007))
	fd = os.open(path, os.O_RDWR)
	def work(n):
	    for block in range(n, 200, 8):
	        os.pwrite(fd, random.Random(1000 + block).randbytes(5000), 123 + block * 20001)
	threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
	[t.start() for t in threads]
	[t.join() for t in threads]
	os.ftruncate(fd, os.fstat(fd).st_size - 777)
	os.fsync(fd)
	os.close(fd)
	PY
	"$PYTHON" "$T/seeks.py" "$L/seeks.bin"
	"$PYTHON" "$T/seeks.py" "$D/seeks.bin"
	arrived
}

test_python_maps_and_writes() {
	begin
	cat >"$T/maps.py" <<-'PY'
	import mmap, random, sys
	with open(sys.argv[1], "w+b") as out:
	    out.truncate(2_000_000)
	    with mmap.mmap(out.fileno(), 0) as memory:
	        for at in range(0, 1_990_000, 31_007):
	            memory[at:at + 500] = random.Random(at).randbytes(500)
	        memory.flush()
	PY
	"$PYTHON" "$T/maps.py" "$L/maps.bin"
	"$PYTHON" "$T/maps.py" "$D/maps.bin"
	arrived
}

test_many_appends() {
	begin
	local n
	for where in "$L" "$D"; do
		for ((n = 0; n < 200; n++)); do
			echo "line $n of a log" >>"$where/log.txt"
		done
	done
	arrived
	# a file that is closed again and again is not sent again and again
	at_most "PutObject requests" "$(requests PutObject)" 20
}

test_two_programs_append_to_one_file() {
	begin
	append() {
		local n
		for ((n = 0; n < 300; n++)); do
			printf '%s %05d\n' "$1" $n
		done >>"$D/both.txt"
	}
	append a &
	local one=$!
	append b &
	wait $one $!
	same "lines" "$(wc -l <"$D/both.txt")" 600
	same "lines of a" "$(grep -c '^a [0-9]\{5\}$' "$D/both.txt")" 300
	exits 0 all_verified
	cmp "$D/both.txt" "$(bucket_file "$PREFIX/workspace/software/both.txt")"
}

# ORDERS FILE…: a program that holds FILE open and does what a line in the pipe ORDERS says: write OFFSET
# TEXT, dup (and close that one), close, end. Each line that is done stands in ORDERS.did.
helper_start() {
	mkfifo "$1"
	: >"$1.did"
	"$PYTHON" -c '
import os, sys
orders, path = sys.argv[1:]
fd = os.open(path, os.O_RDWR | os.O_CREAT)
did = open(orders + ".did", "w", buffering=1)
for line in open(orders):
    word, *rest = line.split()
    if word == "write":
        os.pwrite(fd, rest[1].encode(), int(rest[0]))
    elif word == "dup":
        os.close(os.dup(fd))
    elif word == "close":
        os.close(fd)
    elif word == "end":
        break
    print(word, file=did)
os._exit(0)
' "$1" "$2" &
}

tell() { # ORDERS LINE
	local before
	before=$(wc -l <"$1.did")
	echo "$2" >>"$1"
	wait_for 20 did "$1" $((before + 1))
}

did() {
	[ "$(wc -l <"$1.did")" -ge "$2" ]
}

# Sent when the last of them has closed it, and once, however often the others said that they were done.
test_two_writers_of_one_file() {
	begin
	local one two
	helper_start "$T/one" "$D/both.bin"
	one=$!
	exec 5>"$T/one"
	tell "$T/one" 'write 0 aaaa'
	helper_start "$T/two" "$D/both.bin"
	two=$!
	exec 6>"$T/two"
	tell "$T/two" 'write 2 bbbb'
	local n
	for n in 1 2 3; do
		tell "$T/one" "write $((n * 10)) one$n"
		tell "$T/one" dup
		tell "$T/two" "write $((n * 10 + 5)) two$n"
		tell "$T/two" dup
	done
	tell "$T/one" close
	# another file, closed later, has time to arrive
	echo later >"$D/later"
	wait_for 30 is_state verified "$D/later"
	same "requests for what is being written" "$(requests PutObject both.bin)" 0
	tell "$T/two" 'write 1 cc'
	tell "$T/two" 'write 40 end'
	tell "$T/two" close
	exec 5>&- 6>&-
	wait $one $two
	"$PYTHON" -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for at, text in (0, b"aaaa"), (2, b"bbbb"), (10, b"one1"), (15, b"two1"), (20, b"one2"), (25, b"two2"), \
        (30, b"one3"), (35, b"two3"), (1, b"cc"), (40, b"end"):
    os.pwrite(fd, text, at)' "$L/both.bin"
	echo later >"$L/later"
	arrived
	same "PutObject requests" "$(requests PutObject both.bin)" 1
}

# The descriptor goes on in children, through exec, and is closed last by another program than opened it.
test_closed_by_another_process() {
	begin
	exec 7>"$D/handed.txt"
	echo first >&7
	bash -c 'echo second >&7'
	bash -c 'exec "$@" >&7' - echo third
	mkfifo "$T/go"
	bash -c 'read -r < "$1"; echo fourth >&7' - "$T/go" &
	local child=$!
	exec 7>&-
	echo later >"$D/later"
	wait_for 30 is_state verified "$D/later"
	same "requests for what a child has open" "$(requests PutObject handed.txt)" 0
	echo go >"$T/go"
	wait $child
	printf '%s\n' first second third fourth >"$L/handed.txt"
	echo later >"$L/later"
	arrived
	same "PutObject requests" "$(requests PutObject handed.txt)" 1
}

# What its child left when it was killed is not whole, though the parent had closed the file before.
test_the_last_writer_is_killed() {
	begin
	helper_start "$T/one" "$D/cut.bin"
	local one=$!
	exec 5>"$T/one"
	tell "$T/one" 'write 0 aaaa'
	exec 7<>"$D/cut.bin"
	exec 7>&-
	kill -KILL $one
	wait $one || true
	exec 5>&-
	wait_for 20 is_state incomplete "$D/cut.bin"
	exits 3 "$CPGFS" wait --timeout 20 "$M"
	same "PutObject requests" "$(requests PutObject cut.bin)" 0
}

test_shell_tools() {
	begin
	make_file "$T/a" 300000
	for where in "$L" "$D"; do
		cp --sparse=always "$T/a" "$where/sparse"
		cp --reflink=auto "$T/a" "$where/reflink"
		install -m 0640 "$T/a" "$where/installed"
		cp "$T/a" "$T/moved" && mv "$T/moved" "$where/moved"
		tee "$where/tee" <"$T/a" >/dev/null
		gzip -nc "$T/a" >"$where/a.gz"
		split -b 100000 "$T/a" "$where/split-"
		head -c 1000 "$T/a" >"$where/short" && truncate -s 5000 "$where/short"
		cp "$T/a" "$where/cut" && truncate -s 12345 "$where/cut"
		: >"$where/empty"
		touch "$where/touched"
		sed -i 's/x/y/' "$where/tee"
		: >"$where/overwritten"
		cp "$T/a" "$where/overwritten"
		head -c 777 "$T/a" >"$where/overwritten"
	done
	arrived
}

test_write_to_another_name_and_rename() {
	begin --delete-delay 0
	make_file "$T/one" 200000 one
	make_file "$T/two" 210000 two
	cp "$T/one" "$D/data.csv"
	exits 0 all_verified
	cp "$T/two" "$D/data.csv.tmp"
	mv "$D/data.csv.tmp" "$D/data.csv"
	cp "$T/two" "$L/data.csv"
	arrived
}

test_rewritten_with_the_same_content_is_not_sent_again() {
	begin
	make_file "$L/same.bin" 400000
	cp "$L/same.bin" "$D/same.bin"
	exits 0 all_verified
	same "PutObject requests" "$(requests PutObject)" 1
	cp "$L/same.bin" "$D/same.bin"
	exits 0 all_verified
	same "PutObject requests" "$(requests PutObject)" 1
	arrived
}

run_tests "$@"
