#!/usr/bin/env bash
# The cache on a disk that is small and fills up: what is there stays, writers are told, and a reserve is
# kept. Small disks are mounted by root.
# rights: root
. "$(dirname "$0")/lib.sh"

MIN_FREE=$((64 << 20))

# SIZE: an ext4 of its own for the cache (tmpfs where loop devices are missing).
small_disk() {
	DISK=$T/disk
	mkdir "$DISK"
	truncate -s "$1" "$T/disk.img"
	if ! { mkfs.ext4 -q -m 0 -b 1024 "$T/disk.img" && mount -o loop "$T/disk.img" "$DISK"; } 2>/dev/null; then
		mount -t tmpfs -o "size=$1" tmpfs "$DISK"
	fi
	CACHE=$DISK/cache
}

disk_free() {
	echo $(($(stat -f -c '%a * %S' "$DISK")))
}

# Writes the least free room that it saw to $T/least, until $T/seen-enough is there.
watch_disk() {
	"$PYTHON" - "$DISK" "$T/least" "$T/seen-enough" <<-'PY' &
	import os, sys, time
	disk, least, enough = sys.argv[1:]
	seen = 1 << 60
	while not os.path.exists(enough):
	    st = os.statvfs(disk)
	    seen = min(seen, st.f_bavail * st.f_frsize)
	    with open(least + ".new", "w") as out:
	        out.write(str(seen))
	    os.replace(least + ".new", least)
	    time.sleep(0.01)
	PY
	WATCHER=$!
	wait_for 10 test -e "$T/least"
}

watched() {
	touch "$T/seen-enough"
	wait $WATCHER
}

has_errors_of() { # ERROR-TEXT FILE…: nothing but this, and at least once
	local text=$1
	shift
	cat "$@" >"$T/errors"
	grep -qF "$text" "$T/errors" || fail "nobody was told '$text'"
	not grep -vF "$text" "$T/errors" >"$T/other-errors" || fail "told otherwise: $(head -3 "$T/other-errors")"
}

deadline_test_the_reserve_is_kept=180
test_the_reserve_is_kept() {
	expect_log 'no room for a request'
	small_disk 256M
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --min-free 64M --full-timeout 3s --multipart-threshold 20M
	mkdir -p "$P/images"
	make_file "$T/src/a" 8000000
	watch_disk
	local n copiers=() whole=() torn=()
	for n in $(seq 40); do
		cp "$T/src/a" "$P/images/$n" 2>"$T/error.$n" &
		copiers+=($!)
	done
	for n in $(seq 40); do
		if wait "${copiers[n - 1]}"; then
			whole+=("$n")
		else
			torn+=("$n")
		fi
	done
	has_errors_of 'No space left' "$T"/error.*
	at_least "files that came in" ${#whole[@]} 3
	watched
	at_least "least free room" "$(cat "$T/least")" $MIN_FREE
	status_has "the disk has .* free, and --min-free keeps 64 MiB of it"
	# what was acknowledged is here, what was not is not sent
	for n in "${whole[@]}"; do
		cmp "$T/src/a" "$P/images/$n"
	done
	touch "$T/go"
	for n in "${torn[@]}"; do
		rm -f "$P/images/$n"
	done
	exits 0 all_verified
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" ${#whole[@]}
	for n in "${whole[@]}"; do
		cmp "$T/src/a" "$(bucket_file "$PREFIX/images/$n")"
	done
	# and there is room again
	for n in "${torn[@]}"; do
		cp "$T/src/a" "$P/images/$n"
	done
	exits 0 all_verified
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 40
}

status_has() { # REGEX
	grep -qE "$1" "$M/.cpgfs/status" || fail "status does not say '$1': $(cat "$M/.cpgfs/status")"
}

# What a file that was made longer took is a hole, or was given back: nobody is told ENOSPC for it.
test_holes_that_come_and_go_fill_nothing() {
	small_disk 256M
	s3d_start
	mount_start --min-free 64M
	mkdir -p "$P/images"
	"$PYTHON" - "$P/images/sparse" <<-'PY'
	import os, sys
	fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
	for n in range(20):
	    os.posix_fallocate(fd, (60 << 20) + n, 1)
	    os.ftruncate(fd, 0)
	    os.ftruncate(fd, 60 << 20)
	    os.ftruncate(fd, 0)
	os.write(fd, b"all of it")
	os.close(fd)
	PY
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/images/sparse")")" "all of it"
}

# Room that a file took when it was made longer is not on the disk before it is filled.
test_filling_holes_keeps_the_reserve() {
	expect_log 'no room for a request'
	small_disk 256M
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --min-free 64M --full-timeout 2s --multipart-threshold 100M
	mkdir -p "$P/images"
	watch_disk
	exec 7>"$P/images/sparse"
	truncate -s 90M "$P/images/sparse"
	make_file "$T/src/a" 40000000
	cp "$T/src/a" "$P/images/a"
	fails_with 'No space left' dd if=/dev/urandom of="$P/images/sparse" bs=1M count=90 conv=notrunc status=none
	watched
	at_least "least free room" "$(cat "$T/least")" $MIN_FREE
	exec 7>&-
	rm "$P/images/sparse"
	touch "$T/go"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a")"
}

# What was evicted cannot be fetched again while somebody else has the disk: that is no defect of it.
test_no_room_to_fetch_what_was_evicted() {
	expect_log 'no room for a request'
	small_disk 256M
	s3d_start
	mount_start --min-free 64M --full-timeout 2s --part-size 5M
	mkdir -p "$P/images"
	make_file "$T/src/a" 20000000
	cp "$T/src/a" "$P/images/a"
	exits 0 all_verified
	fallocate -l $(($(disk_free) - (16 << 20))) "$DISK/theirs"
	fails_with 'No space left' cp "$T/src/a" "$P/images/b"
	rm "$P/images/b"
	same "blocks of the evicted file" "$(find "$DISK/cache/data" -type f -size +1M | wc -l)" 0
	fails_with 'No space left' cmp "$T/src/a" "$P/images/a"
	fails_with 'No space left' dd if="$T/src/a" of="$P/images/a" bs=1M count=3 conv=notrunc status=none
	wait_for 10 is_state verified "$P/images/a"
	rm "$DISK/theirs"
	cmp "$T/src/a" "$P/images/a"
	dd if="$T/src/a" of="$P/images/a" bs=1M count=3 seek=5 conv=notrunc status=none
	dd if="$T/src/a" of="$T/src/a.want" bs=1M status=none
	dd if="$T/src/a" of="$T/src/a.want" bs=1M count=3 seek=5 conv=notrunc status=none
	exits 0 all_verified
	cmp "$T/src/a.want" "$(bucket_file "$PREFIX/images/a")"
}

# Somebody else takes all of the disk, the reserve too.
deadline_test_another_program_fills_the_disk=180
test_another_program_fills_the_disk() {
	expect_log 'no room|No space left|space|room'
	small_disk 256M
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --min-free 16M --full-timeout 2s
	mkdir -p "$P/images"
	make_file "$T/src/a" 8000000
	cp "$T/src/a" "$P/images/before"
	dd if=/dev/zero of="$DISK/theirs" bs=1M status=none 2>/dev/null || true
	at_most "free room" "$(disk_free)" $((2 << 20))
	cp "$T/src/a" "$P/images/meanwhile" 2>"$T/error" && fail "there was room"
	has_errors_of 'No space left' "$T/error"
	cmp "$T/src/a" "$P/images/before"
	ls -l "$P/images" >/dev/null
	# what is recorded of an upload finds its room in the journal
	touch "$T/go"
	wait_for 60 is_state verified "$P/images/before"
	not test -e "$(bucket_file "$PREFIX/images/meanwhile")"
	rm "$DISK/theirs"
	cp "$T/src/a" "$P/images/meanwhile"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/meanwhile")"
	mount_crash
	mount_start --min-free 16M
	cmp "$T/src/a" "$P/images/before"
	exits 0 all_verified
}

# A program that was told of a full disk and goes on all the same has not written a whole file.
test_a_writer_that_ignores_the_error() {
	expect_log 'no room for a request'
	small_disk 256M
	s3d_start
	mount_start --min-free 16M --cache-size 20M --part-size 5M
	mkdir -p "$P/images"
	"$PYTHON" - "$P/images/a" <<-'PY'
	import errno, os, sys
	fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
	told = 0
	for n in range(30):
	    try:
	        os.pwrite(fd, b"x" * 1_000_000, n * 1_000_000)
	    except OSError as error:
	        assert error.errno == errno.ENOSPC, error
	        told += 1
	assert told
	os.ftruncate(fd, 5_000_000)
	os.pwrite(fd, b"y" * 1000, 0)
	os.close(fd)
	PY
	wait_for 10 is_state incomplete "$P/images/a"
	exits 3 "$CPGFS" wait --timeout 20 "$M"
	same "PutObject requests" "$(requests PutObject)" 0
	make_file "$T/src/b" 9000000
	cp "$T/src/b" "$P/images/a"
	exits 0 all_verified
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/a")"
}

run_tests "$@"
