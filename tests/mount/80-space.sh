#!/usr/bin/env bash
# A cache that fills up: writers wait or are told, readers go on, nothing is cut short.
# long
. "$(dirname "$0")/lib.sh"

deadline_test_a_copy_larger_than_the_cache_waits=120
test_a_copy_larger_than_the_cache_waits() {
	s3d_start
	mount_start --cache-size 40M --part-size 5M
	mkdir -p "$P/images" "$T/src/$PREFIX/images"
	local n
	for n in $(seq 20); do
		make_file "$T/src/$PREFIX/images/$n.bin" 8000000
	done
	cp "$T/src/$PREFIX/images/"* "$P/images/"
	exits 0 all_verified
	same_in_bucket "$T/src/$PREFIX" "$PREFIX"
	at_most "bytes used" "$(status_json cache.used_bytes)" $((41 << 20))
}

test_writers_wait_while_others_go_on() {
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --cache-size 20M --part-size 5M
	mkdir -p "$P/images"
	make_file "$T/src/a" 8000000
	cp "$T/src/a" "$P/images/1"
	cp "$T/src/a" "$P/images/2"
	local n copiers=()
	for n in 3 4 5 6 7 8 9 10 11 12 13 14; do
		cp "$T/src/a" "$P/images/$n" &
		copiers+=($!)
	done
	wait_for 30 says_it_is_full
	# many writers are blocked: the rest of the mount answers
	ls -l "$P/images" >/dev/null
	cmp "$T/src/a" "$P/images/1"
	status_json files >/dev/null
	kill -INT "${copiers[11]}" 2>/dev/null
	kill -TERM "${copiers[11]}" 2>/dev/null
	wait "${copiers[11]}" || true
	touch "$T/go"
	for n in "${copiers[@]:0:11}"; do
		wait "$n"
	done
	rm -f "$P/images/14"
	exits 0 all_verified
	for n in $(seq 13); do
		cmp "$T/src/a" "$(bucket_file "$PREFIX/images/$n")"
	done
	not test -e "$(bucket_file "$PREFIX/images/14")"
}

says_it_is_full() {
	grep -qiE 'full|room|space' "$M/.cpgfs/status" || [ "$(status_json paused_reason)" != null ]
}

status_says() { # REGEX…
	local regex
	for regex in "$@"; do
		grep -qE "$regex" "$M/.cpgfs/status" || return 1
	done
}

writers_wait() { # HOW MANY
	status_is requests.writers_waiting "$1"
}

deadline_test_fifty_writers_wait=120
test_fifty_writers_wait() {
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --cache-size 40M --part-size 5M --multipart-threshold 20M
	mkdir -p "$P/images/b/images/x y"
	make_file "$T/src/a" 6000000
	cp "$T/src/a" "$P/images/b/images/x y/held" # a name that the gallery refuses
	local n copiers=()
	for n in 1 2 3 4 5; do
		cp "$T/src/a" "$P/images/pending$n"
	done
	wait_for 20 status_is files.sending 5
	for n in $(seq 50); do
		env --default-signal=INT cp "$T/src/a" "$P/images/$n" &
		copiers+=($!)
	done
	wait_for 60 writers_wait 50
	wait_for 10 status_says '^50 writers wait for room: the cache is full \(--cache-size 40 MiB\); it comes with each upload' \
		'^    sending +28.6 MiB  goes when it is uploaded' '^    open +' \
		'^    held +5.7 MiB  rename it in the mount \(`cpgfs rename-clean` renames folders\)'
	same "sending in status.json" "$(status_json cache.filled_by.sending)" 30000000
	same "held in status.json" "$(status_json cache.filled_by.held)" 6000000
	# nothing else stands still
	same "names" "$(ls -l "$P/images" | tail -n +2 | wc -l)" 56
	cmp "$T/src/a" "$P/images/pending1"
	exits 3 "$CPGFS" status "$M"
	says 'writers wait for room'
	mkdir "$P/images/new"
	: >"$P/images/new/empty"
	for n in 0 24 49; do
		kill -INT "${copiers[n]}"
		! wait "${copiers[n]}" || fail "it was interrupted, yet ended well"
	done
	wait_for 10 writers_wait 47
	rm "$P/images/1" "$P/images/25" "$P/images/50"
	mv "$P/images/b/images/x y/held" "$P/images/named"
	touch "$T/go"
	for n in $(seq 50); do
		case $n in
		1 | 25 | 50) ;;
		*)
			wait "${copiers[n - 1]}"
			wait_for 60 is_state verified "$P/images/$n"
			cmp "$T/src/a" "$(bucket_file "$PREFIX/images/$n")"
			;;
		esac
	done
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/named")"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 54
	not grep -q 'writers wait' "$M/.cpgfs/status"
}

# The delay must not keep others from working: what the bucket still has need not be here, too.
test_full_of_what_was_deleted() {
	s3d_start
	mount_start --cache-size 20M --part-size 5M
	mkdir -p "$P/images"
	make_file "$T/src/a" 9700000 a
	make_file "$T/src/b" 9700000 b
	cp "$T/src/a" "$P/images/1"
	cp "$T/src/b" "$P/images/2"
	exits 0 all_verified
	rm "$P/images/1" "$P/images/2"
	status_says '^    deleting +18.[0-9] MiB  goes when --delete-delay is over' ||
		fail "status does not say what fills it: $(cat "$M/.cpgfs/status")"
	cp "$T/src/b" "$P/images/3"
	cp "$T/src/a" "$P/images/4"
	exits 0 all_verified
	exits 0 "$CPGFS" undelete "$M" "$P/images/1"
	exits 0 "$CPGFS" undelete "$M" "$P/images/2"
	exits 0 all_verified
	cmp "$T/src/a" "$P/images/1"
	cmp "$T/src/b" "$P/images/2"
	same "deletions" "$(requests DeleteObject)" 0
}

used_at_most() { # BYTES
	at_most "bytes used" "$(status_json cache.used_bytes)" "$1"
}

deadline_test_an_object_larger_than_the_cache_is_read=120
test_an_object_larger_than_the_cache_is_read() {
	s3d_start
	make_file "$T/src/large" 70000000
	put_elsewhere "$PREFIX/images/large" "$T/src/large"
	mount_start --cache-size 24M --part-size 5M
	cmp "$T/src/large" "$P/images/large"
	used_at_most $((24 << 20))
	# two at once, and one that jumps
	cmp "$T/src/large" "$P/images/large" &
	local one=$!
	cmp --ignore-initial=30000000 "$T/src/large" "$P/images/large" &
	local two=$!
	"$PYTHON" - "$T/src/large" "$P/images/large" <<-'PY'
	import random, sys
	source = random.Random(1)
	with open(sys.argv[1], "rb") as want, open(sys.argv[2], "rb") as got:
	    for _ in range(40):
	        at = source.randrange(70_000_000)
	        want.seek(at)
	        got.seek(at)
	        assert want.read(100_000) == got.read(100_000), at
	PY
	wait $one
	wait $two
	used_at_most $((24 << 20))
	# many, each of which takes away what another one waited for
	"$PYTHON" - "$T/src/large" "$P/images/large" <<-'PY'
	import random, sys, threading
	wrong = []
	def read(seed):
	    source = random.Random(seed)
	    with open(sys.argv[1], "rb") as want, open(sys.argv[2], "rb") as got:
	        for _ in range(12):
	            at = source.randrange(70_000_000)
	            want.seek(at)
	            got.seek(at)
	            if want.read(50_000) != got.read(50_000):
	                wrong.append(at)
	def attempt(seed):
	    try:
	        read(seed)
	    except Exception as error:
	        wrong.append(repr(error))
	threads = [threading.Thread(target=attempt, args=(n,)) for n in range(12)]
	for thread in threads:
	    thread.start()
	for thread in threads:
	    thread.join()
	if wrong:
	    sys.exit("wrong: %s" % wrong[:5])
	PY
	# and writing goes on beside it
	cp "$T/src/large" "$T/src/small"
	truncate -s 9000000 "$T/src/small"
	exec 7<"$P/images/large"
	head -c 20000000 <&7 >/dev/null
	cp "$T/src/small" "$P/images/small"
	exec 7<&-
	exits 0 all_verified
	cmp "$T/src/small" "$(bucket_file "$PREFIX/images/small")"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 2
}

# A cache far smaller than what is on its way, and readers that make it evict and fetch all the time.
deadline_test_eviction_while_much_is_pending=240
test_eviction_while_much_is_pending() {
	s3d_start
	faults <<<"PutObject every=3 delay=20"
	mount_start --cache-size 12M --part-size 5M
	mkdir -p "$P/images"
	"$PYTHON" - "$P/images" "$M/.cpgfs/status.json" "$T/s3/$BUCKET/$PREFIX/images" <<-'PY'
	import json, os, random, sys, threading
	top, status, bucket = sys.argv[1:]
	FILES = 1500
	done, stop, wrong = [], threading.Event(), []
	def content(n):
	    return random.Random(n).randbytes(random.Random(-n).randrange(1, 64_000))
	def attempt(work):
	    try:
	        work()
	    except Exception as error:
	        wrong.append(repr(error))
	def copy():
	    for n in range(FILES):
	        with open("%s/%d" % (top, n), "wb") as out:
	            out.write(content(n))
	        done.append(n)
	def read(seed):
	    source = random.Random(seed)
	    while not stop.is_set():
	        if done:
	            n = source.choice(done)
	            with open("%s/%d" % (top, n), "rb") as data:
	                if data.read() != content(n):
	                    wrong.append("file %d has other bytes" % n)
	def count():
	    while not stop.is_set():
	        before = len(done)
	        files = sum(json.load(open(status))["files"].values())
	        after = len(done) + 1
	        if not before <= files <= after:
	            wrong.append("%d files in status, of %d to %d" % (files, before, after))
	copier = threading.Thread(target=attempt, args=(copy,))
	others = [threading.Thread(target=attempt, args=(work,)) for work in
	          (lambda: read(1), lambda: read(2), lambda: read(3), count)]
	for thread in [copier, *others]:
	    thread.start()
	copier.join()
	stop.set()
	for thread in others:
	    thread.join()
	if wrong:
	    sys.exit("\n".join(wrong[:10]))
	PY
	exits 0 all_verified 120
	same "verified" "$(status_json files.verified)" 1500
	same "PutObject requests" "$(puts)" 1500
	at_least "chunks fetched again" "$(requests GetObject)" 1
	used_at_most $((12 << 20))
	same_tree "$P/images" "$(bucket_file "$PREFIX/images")"
}

test_told_when_waiting_cannot_help() {
	expect_log '.'
	s3d_start
	mount_start --cache-size 20M --part-size 5M
	mkdir -p "$P/images"
	make_file "$T/src/a" 30000000
	fails_with 'No space left' dd if="$T/src/a" of="$P/images/a" bs=1M
	# what is there now was never complete
	rm "$P/images/a"
	make_file "$T/src/b" 8000000
	cp "$T/src/b" "$P/images/b"
	exits 0 all_verified
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/b")"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 1
}

test_full_of_what_needs_a_person() {
	expect_log '.'
	s3d_start
	mount_start --cache-size 20M --part-size 5M
	mkdir -p "$P/images/b/images/x y"
	make_file "$T/src/a" 9000000
	cp "$T/src/a" "$P/images/b/images/x y/1"
	cp "$T/src/a" "$P/images/b/images/x y/2"
	fails_with 'No space left' cp "$T/src/a" "$P/images/3"
	rm "$P/images/b/images/x y/1"
	cp "$T/src/a" "$P/images/3"
	wait_for 30 is_state verified "$P/images/3"
}

test_the_full_timeout() {
	expect_log '.'
	s3d_start
	faults <<<"PutObject always hold=$T/go"
	mount_start --cache-size 20M --part-size 5M --full-timeout 2s
	mkdir -p "$P/images"
	make_file "$T/src/a" 9000000
	cp "$T/src/a" "$P/images/1"
	cp "$T/src/a" "$P/images/2"
	local began=$SECONDS
	fails_with 'No space left' cp "$T/src/a" "$P/images/3"
	at_least "seconds" $((SECONDS - began)) 1
	at_most "seconds" $((SECONDS - began)) $((20 * SLOW))
	rm -f "$P/images/3"
	touch "$T/go"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/2")"
}

run_tests "$@"
