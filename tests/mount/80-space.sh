#!/usr/bin/env bash
# A cache that fills up: writers wait or are told, readers go on, nothing is cut short.
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
