#!/usr/bin/env bash
# 27-passthrough - the kernel writes new files to the cache by itself (--passthrough=auto): nothing
# that was promised may be less true for that.
# rights: root
. "$(dirname "$0")/lib.sh"

# A mount that does; else all cases are skipped, with the reason that status gives.
lending() { # [MOUNT-OPTION…]
	local state
	[ ! -s "$FILE_T/why-not" ] || skip "$(cat "$FILE_T/why-not")"
	s3d_start
	mount_start --passthrough auto "$@"
	: >"$P/probe"
	state=$(status_json passthrough.state)
	if [ "$state" = on ] && [ "$(lent)" != 1 ]; then
		state="it takes 8 GiB of room in the cache"
	fi
	[ "$state" = on ] || echo "kernel passthrough: $state" >"$FILE_T/why-not"
	[ "$state" = on ] || skip "kernel passthrough: $state"
}

sent() { # KEY-REGEX: how many such objects (an attempt that was refused does not count)
	awk -F'\t' -v key="$1" '$3 == "PutObject" && $5 ~ key && $7 == 200' "$T/requests.log" | wc -l
}

lent() { # how many files, since the mount
	status_json passthrough.files
}

# Whatever the bucket holds below $PREFIX/NAME equals DIR.
in_bucket() { # NAME DIR
	all_verified
	diff -r "$2" "$(bucket_file "$PREFIX/$1")"
}

# A program that holds a file of the mount open and does what it is told, one line each:
# write TEXT, read, sync, close, dup, exit. It answers each with "ok" or the error's name.
writer_start() { # FILE FLAGS (Python)
	coproc WRITER {
		exec "$PYTHON" -uc '
import errno, mmap, os, sys
fd = os.open(sys.argv[1], eval(sys.argv[2]), 0o644)
held = [fd]
print("ok", flush=True)
for line in sys.stdin:
    word, _, rest = line.rstrip("\n").partition(" ")
    said = "ok"
    try:
        if word == "write":
            os.write(fd, rest.encode())
        elif word == "size":
            said = str(os.fstat(fd).st_size)
        elif word == "sync":
            os.fsync(fd)
        elif word == "dup":
            held.append(os.dup(fd))
        elif word == "close":
            os.close(held.pop())
        elif word == "map":
            m = mmap.mmap(fd, 0)
        elif word == "poke":
            m[:len(rest)] = rest.encode()
        elif word == "unmap":
            m.close()
    except OSError as e:
        said = errno.errorcode[e.errno]
    print(said, flush=True)
' "$1" "$2" 2>&1
	}
	WRITER_IN=${WRITER[1]} WRITER_OUT=${WRITER[0]} WRITER_TASK=$WRITER_PID
	heard ok
}

heard() { # WHAT
	local line
	read -r -t $((20 * SLOW)) line <&"$WRITER_OUT" || fail "the writer says nothing"
	same "what the writer says" "$line" "$1"
}

tell() { # ANSWER COMMAND…
	echo "${*:2}" >&"$WRITER_IN"
	heard "$1"
}

writer_end() {
	exec {WRITER_IN}>&-
	wait_for 10 ended "$WRITER_TASK"
}

small_plate() { # DIR
	local i
	mkdir -p "$1/Images" "$1/Index"
	for i in 1 2 3 4 5 6; do
		head -c $((i * 345678)) /dev/urandom >"$1/Images/r01c0${i}f01p01-ch1sk1fk1fl1.tiff.raw"
	done
	: >"$1/Index/empty"
	touch -d '2020-02-02 02:02:02.123456789' "$1/Images/"*3f01*
}

test_cp_and_rsync() {
	lending
	small_plate src/plate
	cp -r src/plate "$P/cp"
	cp -rp src/plate "$P/cp-p"
	rsync -a src/plate/ "$P/rsync"
	tar -C src -c plate | tar -C "$P" -x
	same "how many files the kernel wrote" "$(lent)" 22 # not those of rsync, which opens them to read, too
	diff -r src/plate "$P/cp"
	same "the time that cp -p set" "$(stat -c %y "$P/cp-p/Images/"*3f01*)" "$(stat -c %y src/plate/Images/*3f01*)"
	same "the time that rsync set" "$(stat -c %y "$P/rsync/Images/"*3f01*)" "$(stat -c %y src/plate/Images/*3f01*)"
	same "what rsync would do again" "$(rsync -ain src/plate/ "$P/rsync")" ""
	# what cp writes at a time: not more than stays in the processor's cache
	same "the preferred size of writes" "$(stat -c %o "$P/cp/Index/empty")" $((256 * 1024))
	in_bucket cp src/plate
	in_bucket cp-p src/plate
	in_bucket rsync src/plate
	in_bucket plate src/plate
	# the same again, over what is there
	rm "$P/probe"
	cp -r src/plate/. "$P/cp"
	all_verified
	same "how many objects were sent" "$(sent '/cp/')" 7
}

test_sizes_and_times_while_it_is_written() {
	lending
	local before after
	before=$(date +%s)
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT | os.O_EXCL'
	same "files the kernel writes" "$(lent)" 2
	tell ok write hello
	same "size for others" "$(stat -c %s "$P/f")" 5
	tell 5 size
	same "state" "$(state "$P/f")" open
	same "what others read" "$(cat "$P/f")" hello
	tell ok write " world"
	same "what others read" "$(cat "$P/f")" "hello world"
	after=$(stat -c %Y "$P/f")
	at_least "its time" "$after" "$before"
	touch -d '2001-01-01 01:01:01' "$P/f"
	same "its time" "$(stat -c %y "$P/f" | cut -c1-19)" "2001-01-01 01:01:01"
	tell ok write "!"
	at_least "its time" "$(stat -c %Y "$P/f")" "$before"
	touch -d '2001-01-01 01:01:01' "$P/f"
	tell ok close
	writer_end
	same "its time" "$(stat -c %y "$P/f" | cut -c1-19)" "2001-01-01 01:01:01"
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" "hello world!"
}

test_copies_of_a_handle() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write one
	tell ok dup
	tell ok close
	wait_for 10 is_state closed "$P/f"
	# longer than it takes to settle: still it has a writer
	cp src/../requests.log "$P/other" && all_verified 60 "$P/other"
	same "state" "$(state "$P/f")" closed
	tell ok write two
	same "what others read" "$(cat "$P/f")" onetwo
	tell ok close
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" onetwo
	same "how often it was sent" "$(sent "broad/f$")" 1
	# a child writes and ends, then the shell
	(
		echo a
		(echo b)
		sh -c 'echo c'
	) >"$P/g"
	all_verified
	same "the object" "$(tr -d '\n' <"$(bucket_file "$PREFIX/g")")" abc
}

test_two_writers_and_readers() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write 0123456789
	same "what is read meanwhile" "$(cat "$P/f")" 0123456789
	printf ab | dd of="$P/f" conv=notrunc status=none
	echo tail >>"$P/f"
	same "what is read meanwhile" "$(cat "$P/f")" "ab23456789tail"
	"$PYTHON" -c '
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b"CD", 2)
m = mmap.mmap(fd, 0)
os.close(fd)
m[4:6] = b"EF"
r = os.open(sys.argv[1], os.O_RDONLY)
assert mmap.mmap(r, 0, mmap.MAP_SHARED, mmap.PROT_READ)[:6] == b"abCDEF"
' "$P/f"
	all_verified 60 "$P/probe"
	same "how often it was sent" "$(sent "broad/f$")" 0
	tell ok close
	writer_end
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" "abCDEF6789tail"
	# the mount is as any other for this file again
	echo more >>"$P/f"
	all_verified
	same "the object" "$(tail -n 1 "$(bucket_file "$PREFIX/f")")" more
}

# What is mapped goes on changing after everybody closed.
test_mapped_beyond_the_close() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	local first_in=$WRITER_IN first_out=$WRITER_OUT first=$WRITER_TASK
	tell ok write 0123456789
	# (bash knows one coprocess at a time, but for a warning)
	writer_start "$P/f" 'os.O_RDWR' 2>/dev/null
	tell ok map
	tell ok close
	echo close >&"$first_in"
	read -r -t 20 line <&"$first_out"
	same "what the first says" "$line" ok
	exec {first_in}>&-
	wait_for 10 ended "$first"
	tell ok poke abc
	cp requests.log "$P/other" && all_verified 60 "$P/other"
	same "how often it was sent" "$(sent "broad/f$")" 0
	tell ok poke def
	tell ok unmap
	writer_end
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" def3456789
	same "how often it was sent" "$(sent "broad/f$")" 1
}

test_changed_by_path_while_it_is_written() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write 0123456789
	truncate -s 4 "$P/f"
	tell ok write ABC
	same "what is read" "$(tr '\0' . <"$P/f")" "0123......ABC"
	fallocate -l 20 "$P/f"
	same "size" "$(stat -c %s "$P/f")" 20
	truncate -s 13 "$P/f"
	mkdir "$P/d"
	mv "$P/f" "$P/d/g"
	chmod 640 "$P/d/g"
	tell ok write DEF
	tell ok close
	writer_end
	all_verified
	same "the object" "$(tr '\0' . <"$(bucket_file "$PREFIX/d/g")")" "0123......ABCDEF"
	[ ! -e "$(bucket_file "$PREFIX/f")" ]
	# emptied by somebody else, who writes too
	writer_start "$P/e" 'os.O_WRONLY | os.O_CREAT'
	tell ok write 0123456789
	echo new >"$P/e"
	tell ok close
	writer_end
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/e")")" new
}

data_files_are() { # NUMBER
	[ "$(find cache/data -type f | wc -l)" = "$1" ]
}

test_removed_while_it_is_written() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write 0123456789
	rm "$P/f"
	tell ok write 0123456789
	echo another >"$P/f"
	tell ok close
	writer_end
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" another
	wait_for 20 data_files_are 2
	# one that replaces it by a rename
	writer_start "$P/f" 'os.O_WRONLY | os.O_TRUNC'
	tell ok write old
	echo third >"$P/t"
	mv "$P/t" "$P/f"
	tell ok write old
	tell ok close
	writer_end
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" third
}

test_killed_writers() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write half
	kill -KILL "$WRITER_TASK"
	wait_for 10 is_state incomplete "$P/f"
	wait "$WRITER_TASK" || true
	all_verified 60 "$P/probe"
	same "how often it was sent" "$(sent "broad/f$")" 0
	# a copy of the handle that is killed counts for nothing when the owner closes in order
	"$PYTHON" -c '
import os, signal, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"a")
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
os.close(fd)
' "$P/g"
	all_verified 60 "$P/g"
	echo whole >"$P/f"
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" whole
}

# The daemon is killed; the program goes on writing, which the kernel lets it.
test_writers_outlive_the_daemon() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write before
	tell ok dup
	echo "closed and left alone" >"$P/closed"
	mount_crash
	tell ok write after
	mount_start --passthrough auto
	same "state" "$(state "$P/f")" incomplete
	grep -q 'still writes into it' <<<"$("$CPGFS" status "$M")" || fail "status does not say why"
	tell ok write more
	# neither accepted nor changed while that goes on
	fails_with "Text file busy" "$CPGFS" accept "$P/f"
	fails_with "Text file busy" truncate -s 3 "$P/f"
	fails_with "Text file busy" dd if=requests.log of="$P/f" conv=notrunc status=none
	same "state" "$(state "$P/f")" incomplete
	same "what is read" "$(head -c 6 "$P/f")" before
	all_verified 60 "$P/closed"
	same "how often it was sent" "$(sent "broad/f$")" 0
	# once more, and it ends meanwhile
	mount_crash
	tell ENOTCONN close
	tell ok write end
	tell ENOTCONN close
	writer_end
	mount_start --passthrough auto
	same "state" "$(state "$P/f")" incomplete
	same "what is read" "$(cat "$P/f")" beforeaftermoreend
	"$CPGFS" accept "$P/f"
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" beforeaftermoreend
}

# Copied in again while the first program still writes into what was there.
test_copied_again_while_the_stranger_writes() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write before
	mount_crash
	mount_start --passthrough auto
	head -c 300000 /dev/urandom >src/f
	cp src/f "$P/f"
	tell ok write STRANGER
	cmp src/f "$P/f"
	all_verified
	cmp src/f "$(bucket_file "$PREFIX/f")"
	tell ENOTCONN close
	writer_end
	cmp src/f "$P/f"
	mount_crash
	mount_start
	cmp src/f "$P/f"
	all_verified
}

# A version that was closed, and written to after the daemon's death.
test_changed_after_its_close() {
	lending --settle 1h
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write before
	tell ok dup
	tell ok close
	same "state" "$(state "$P/f")" closed
	echo whole >"$P/g"
	mount_crash
	mount_start --passthrough auto --settle 1h
	same "one that is still held" "$(state "$P/f")" incomplete
	same "one that nobody holds" "$(state "$P/g")" closed
	mount_crash
	tell ok write after
	tell ENOTCONN close
	writer_end
	mount_start --passthrough auto
	same "state" "$(state "$P/f")" incomplete
	same "what is read" "$(cat "$P/f")" beforeafter
	all_verified 60 "$P/g"
	rm "$P/f"
	all_verified
}

test_unchanged_after_its_close() {
	lending --settle 1h
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write whole
	tell ok dup
	tell ok close
	mount_crash
	tell ENOTCONN close
	writer_end
	mount_start --passthrough auto
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" whole
}

# The connection is cut, the daemon ends in order; the program goes on.
test_writers_outlive_the_mount() {
	lending
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write before
	tell ok dup
	tell ok close
	local pid
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_for 20 ended "$pid"
	fusermount3 -uzq "$M" || true
	tell ok write after
	mount_start --passthrough auto
	same "state" "$(state "$P/f")" incomplete
	tell ENOTCONN close
	writer_end
	"$CPGFS" accept "$P/f"
	all_verified
	same "the object" "$(cat "$(bucket_file "$PREFIX/f")")" beforeafter
}

test_drained_while_a_program_goes_on() {
	lending --drain
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	tell ok write before
	tell ok dup
	tell ok close
	local pid
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_for 20 not mountpoint -q "$M"
	wait_for 20 requests_at_least 1 PutObject 'broad/probe$'
	tell ok write after
	same "how often it was sent" "$(sent "broad/f$")" 0
	tell ENOTCONN close
	writer_end
	wait_for 30 ended "$pid"
	mount_start
	same "state" "$(state "$P/f")" incomplete
	same "what is read" "$(cat "$P/f")" beforeafter
	same "how often it was sent" "$(sent "broad/f$")" 0
}

test_mounts_that_do_not() {
	lending
	umount "$M" 2>/dev/null || mount_end
	wait_for 20 not mountpoint -q "$M"
	mount_start --passthrough off
	cp requests.log "$P/a"
	same "files the kernel wrote" "$(lent)" 0
	same "the preferred size of writes, each a round trip" "$(stat -c %o "$P/a")" $((1024 * 1024))
	mount_end
	mount_start --passthrough auto --durability close
	cp requests.log "$P/b"
	same "files the kernel wrote" "$(lent)" 0
	mount_end
	mount_start --passthrough auto --cache-size 4G
	cp requests.log "$P/c"
	same "files the kernel wrote, in a small cache" "$(lent)" 0
	mount_end
	mount_start --passthrough auto
	cp requests.log "$P/d"
	dd if=requests.log of="$P/e" oflag=append conv=notrunc status=none
	dd if=requests.log of="$P/d" conv=notrunc status=none
	dd if=requests.log of="$P/g" oflag=dsync status=none
	same "files the kernel wrote" "$(lent)" 1
	exec 5<"$P/d"
	cp requests.log "$P/d"
	exec 5<&-
	same "files the kernel wrote" "$(lent)" 1
	all_verified
}

# The disk is full, though there was ample room when the file was opened.
deadline_test_full_disk=120
test_full_disk() {
	[ ! -s "$FILE_T/why-not" ] || skip "$(cat "$FILE_T/why-not")"
	truncate -s 10G "$T/disk"
	mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$T/disk" || skip "no mkfs.ext4"
	mkdir "$T/small"
	mount -o loop "$T/disk" "$T/small" || skip "no loop devices"
	CACHE=$T/small/cache lending
	local free said=ok i
	writer_start "$P/f" 'os.O_WRONLY | os.O_CREAT'
	same "files the kernel writes" "$(lent)" 2
	free=$(df --output=avail -B1 "$T/small" | tail -1)
	fallocate -l $((free - 2000000)) "$T/small/ballast"
	for ((i = 0; i < 100; i++)); do
		echo "write $(head -c 60000 /dev/zero | tr '\0' x)" >&"$WRITER_IN"
		read -r -t 20 said <&"$WRITER_OUT"
		[ "$said" = ok ] || break
	done
	same "what the writer was told" "$said" ENOSPC
	expect_log 'no room for a request'
	fails_with "No space left" cp requests.log "$P/ordinary"
	# it does not care, and closes: it hears it again, and what it wrote does not count as whole
	tell ENOSPC close
	writer_end
	same "state" "$(state "$P/f")" incomplete
	grep -q 'disk was full while it was written' "$M/.cpgfs/failed.tsv" || fail "failed.tsv does not say why"
	rm "$T/small/ballast" "$P/f" "$P/ordinary"
	wait_for 20 copied_by_the_kernel
	all_verified
}

copied_by_the_kernel() {
	local before
	before=$(lent)
	cp requests.log "$P/again"
	[ "$(lent)" -gt "$before" ]
}

test_too_large() {
	lending
	fails_with "File too large" "$PYTHON" -c '
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.pwrite(fd, b"x", 6 << 40)
os.close(fd)' "$P/f"
	same "state" "$(state "$P/f")" incomplete
	grep -q 'larger than S3 takes' <<<"$("$CPGFS" status "$M")" || fail "status does not say why"
	rm "$P/f"
	all_verified
}

run_tests "$@"
