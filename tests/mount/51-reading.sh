#!/usr/bin/env bash
# Reading what lies in the bucket: in chunks, kept in the cache, whole or not at all.
. "$(dirname "$0")/lib.sh"

begin() { # BYTES MOUNT OPTIONS…
	s3d_start
	mkdir -p "$(bucket_file "$PREFIX/images")"
	make_file "$T/src/a" "$1"
	cp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
	s3d_rescan
	mount_start --part-size 5M "${@:2}"
	A=$P/images/a.bin
}

test_whole_and_again_from_the_cache() {
	begin 23000000
	cmp "$T/src/a" "$A"
	local gets
	gets=$(requests GetObject)
	same "GET requests" "$gets" 5
	cmp "$T/src/a" "$A"
	same "GET requests after the second read" "$(requests GetObject)" "$gets"
	mount_end
	mount_start --part-size 5M
	cmp "$T/src/a" "$A"
	same "GET requests after a remount" "$(requests GetObject)" "$gets"
}

test_only_the_chunks_that_are_asked_for() {
	begin 53000000
	cmp <(tail -c +30000001 "$T/src/a" | head -c 1000) <(tail -c +30000001 "$A" | head -c 1000)
	at_most "GET requests" "$(requests GetObject)" 4
}

test_twenty_readers_of_one_chunk() {
	begin 4000000
	faults <<<"GetObject n=1 delay=300"
	local n readers=()
	for ((n = 0; n < 20; n++)); do
		cmp "$T/src/a" "$A" &
		readers+=($!)
	done
	for n in "${readers[@]}"; do
		wait "$n"
	done
	same "GET requests" "$(requests GetObject)" 1
}

test_replaced_in_the_bucket_while_cached() {
	begin 4000000 --list-ttl 1s
	cmp "$T/src/a" "$A"
	make_file "$T/src/b" 3000000
	put_elsewhere "$PREFIX/images/a.bin" "$T/src/b"
	refresh
	wait_for 20 cmp "$T/src/b" "$A"
}

test_replaced_while_it_is_read() {
	expect_log '.'
	begin 23000000
	faults <<<"GetObject n=2+ hold=$T/go"
	# the first chunk is the old object's; what follows must not be the new one's
	cat "$A" >"$T/read" 2>"$T/says" &
	local reader=$!
	wait_for 20 requests_at_least 1 GetObject
	make_file "$T/src/b" 23000000 other
	cp "$T/src/b" "$(bucket_file "$PREFIX/images/a.bin")"
	touch "$T/go"
	if wait $reader; then
		cmp "$T/read" "$T/src/a" || cmp "$T/read" "$T/src/b" || fail "a mix of two objects was read"
	fi
}

test_the_server_fails_and_heals() {
	expect_log '.'
	begin 4000000
	faults <<-'F'
	GetObject n=1 status=503 code=SlowDown
	GetObject n=2 cut-body=100000
	GetObject n=3 reset-before
	F
	cmp "$T/src/a" "$A"
}

test_evicted_and_read_again() {
	s3d_start
	mount_start --part-size 5M --cache-size 30M
	mkdir -p "$P/images"
	local n
	for n in 1 2 3 4 5 6 7 8; do
		make_file "$T/src/$PREFIX/images/$n.bin" 8000000
		cp "$T/src/$PREFIX/images/$n.bin" "$P/images/"
	done
	exits 0 all_verified
	at_most "bytes used" "$(status_json cache.used_bytes)" $((31 << 20))
	same_tree "$T/src/$PREFIX" "$P"
	at_least "GET requests" "$(requests GetObject)" 4
	at_most "bytes used" "$(status_json cache.used_bytes)" $((31 << 20))
	mount_end
	mount_start --part-size 5M --cache-size 30M
	same_tree "$T/src/$PREFIX" "$P"
	exits 0 all_verified
}

test_an_evicted_file_is_changed() {
	s3d_start
	mount_start --part-size 5M --cache-size 30M
	mkdir -p "$P/images"
	local n
	for n in 1 2 3 4 5 6 7 8; do
		make_file "$T/src/$n.bin" 8000000
		cp "$T/src/$n.bin" "$P/images/"
	done
	exits 0 all_verified
	printf changed | dd of="$T/src/1.bin" bs=1 seek=7000000 conv=notrunc status=none
	printf changed | dd of="$P/images/1.bin" bs=1 seek=7000000 conv=notrunc status=none
	echo more >>"$T/src/2.bin"
	echo more >>"$P/images/2.bin"
	exits 0 all_verified
	for n in 1 2 3; do
		cmp "$T/src/$n.bin" "$P/images/$n.bin"
		cmp "$T/src/$n.bin" "$(bucket_file "$PREFIX/images/$n.bin")"
	done
}

test_a_file_that_cannot_be_read_gives_an_error_not_zeros() {
	expect_log '.'
	begin 4000000
	faults <<<"GetObject always status=403 code=AccessDenied"
	not cat "$A" >"$T/read" 2>/dev/null
	same "bytes read" "$(stat -c %s "$T/read")" 0
	faults </dev/null
	wait_for 30 cmp "$T/src/a" "$A"
}

run_tests "$@"
