#!/usr/bin/env bash
# cpgfs repair: a cache whose index, journal or data was damaged behind the daemon's back; the mount
# refuses and names the command, the command brings back what can be, and the upload goes on.
. "$(dirname "$0")/lib.sh"

PLATE=$PREFIX/images/2026_01_15_Batch1/images/BR00117035

# A plate in the cache: some of it verified in the bucket, the rest pending, the server gone.
prepare() {
	local n
	for n in $(seq -w 24); do
		head -c $((6000 + ${n#0} * 10)) /dev/urandom >"$T/src/r01c${n}f01p01-ch1.raw"
		head -c $((9000 + ${n#0} * 10)) /dev/urandom >"$T/src/r01c${n}f02p01-ch1.raw"
	done
	s3d_start
	mount_start "$@"
	mkdir -p "$M/$PLATE"
	cp "$T/src"/*f01* "$M/$PLATE/"
	all_verified
	"$CPGFS" pause "$M"
	cp "$T/src"/*f02* "$M/$PLATE/"
	wait_for 20 no_undigested
}

no_undigested() {
	[ "$(status_json files.closed)" = 0 ] && [ "$(status_json files.settled)" = 0 ]
}

# The mount refuses and says what to do; the words are those of a shell.
refuses() {
	fails_with "cpgfs repair --cache-dir $T/cache" "$CPGFS" mount --endpoint "$ENDPOINT" \
		--cache-dir "$T/cache" "s3://$BUCKET/$PREFIX" "$M"
}

repairs() { # EXIT
	exits "$1" "$CPGFS" repair --cache-dir "$T/cache"
}

# Everything arrives, nothing was sent twice, and what the mount shows is what was copied in.
goes_on() {
	local before
	before=$(requests PutObject)
	mount_start
	"$CPGFS" resume "$M"
	all_verified
	same_tree "$T/src" "$M/$PLATE"
	same_in_bucket "$T/src" "$PLATE"
	same "PUTs after the repair" "$(($(requests PutObject) - before))" "$1"
}

f02() {
	ls "$T/src" | grep -c f02
}

test_index_is_lost() {
	prepare
	mount_crash
	rm "$T/cache/index/data.mdb"
	refuses
	exits 2 "$CPGFS" repair --dry-run --cache-dir "$T/cache"
	says "the index is missing"
	refuses
	repairs 0
	says "are compared with what is known of them"
	goes_on "$(f02)"
	exits 0 "$CPGFS" umount "$M"
	repairs 0
	says "the index and journal are sound"
}

test_index_and_journal_are_lost() {
	prepare
	mount_end
	rm -r "$T/cache/index" "$T/cache/journal"
	refuses
	repairs 0
	goes_on "$(f02)"
}

test_index_is_overwritten() {
	prepare
	mount_crash
	dd if=/dev/urandom of="$T/cache/index/data.mdb" bs=4096 seek=4 count=8 conv=notrunc status=none
	repairs 0
	says "cannot be read"
	goes_on "$(f02)"
}

# A script must be able to tell, whatever the repair itself could do.
test_what_needed_a_person_still_does() {
	expect_log 'holds something else under this key'
	make_file "$T/src/ours" 6000 ours
	make_file "$T/src/theirs" 5000 theirs
	s3d_start
	put_elsewhere "$PREFIX/images/a.bin" "$T/src/theirs"
	mount_start
	cp "$T/src/ours" "$M/$PREFIX/images/a.bin"
	exits 3 "$CPGFS" wait --timeout 60 "$M"
	mount_end
	rm "$T/cache/index/data.mdb"
	repairs 3
	says "1 needed a person before"
}

witness_names() { # FILE…
	local file
	for file in "$@"; do
		grep -qaF "$(basename "$file")" "$T/cache/witness" || return 1
	done
}

test_journal_is_emptied() {
	prepare
	cp "$T/src"/*f02* "$M/$PLATE/" # not digested, perhaps not committed
	# what only the journal knows goes with it
	wait_for 10 witness_names "$T/src"/*f02*
	mount_crash
	dd if=/dev/zero of="$T/cache/journal" bs=1M count=64 conv=notrunc status=none
	refuses
	"$CPGFS" repair --cache-dir "$T/cache" >"$T/last" || [ $? = 3 ]
	mount_start
	# what nothing vouches for is shown, and is not sent
	"$CPGFS" resume "$M"
	"$CPGFS" wait --timeout 60 "$M" || [ $? = 3 ]
	"$CPGFS" accept "$M"
	all_verified
	same_tree "$T/src" "$M/$PLATE"
	same_in_bucket "$T/src" "$PLATE"
}

test_bytes_that_do_not_match() {
	local file ino
	prepare
	file=$(ls "$T/src" | grep -m1 f02)
	ino=$(stat -c %i "$M/$PLATE/$file")
	mount_end
	rm "$T/cache/index/data.mdb"
	printf damaged | dd of="$(printf '%s/data/%02x/%016x' "$T/cache" $((ino & 255)) "$ino")" \
		bs=1 seek=100 conv=notrunc status=none
	repairs 0
	expect_log 'its bytes in the cache directory are not those that were written'
	mount_start
	"$CPGFS" resume "$M"
	exits 3 "$CPGFS" wait --timeout 60 "$M"
	same "state" "$(state "$M/$PLATE/$file")" torn
	! [ -e "$(bucket_file "$PLATE/$file")" ]
}

contents() { # DIR: digests, whatever the names
	sha256sum "$1"/* | cut -d' ' -f1 | sort
}

test_orphans_come_back_by_copying() {
	prepare
	mount_end
	rm -r "$T/cache/index" "$T/cache/journal" "$T/cache/witness"
	refuses
	fails_with "as for the mount" "$CPGFS" repair --cache-dir "$T/cache"
	exits 3 "$CPGFS" repair --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX"
	says "data files"
	says "LIST.tsv"
	orphans=$(echo "$T"/cache/orphans/*)
	same "orphans" "$(find "$orphans" -type f ! -name LIST.tsv | wc -l)" "$(ls "$T/src" | wc -l)"
	same "lines" "$(wc -l <"$orphans/LIST.tsv")" $(($(ls "$T/src" | wc -l) + 1))
	mount_start
	mkdir -p "$M/$PLATE/found"
	cp "$orphans"/unnamed/* "$M/$PLATE/found/"
	all_verified
	same "contents" "$(contents "$M/$PLATE/found")" "$(contents "$T/src")"
}

test_another_mount_s_cache() {
	s3d_start
	mount_start
	mkdir -p "$M/$PREFIX/a"
	echo one >"$M/$PREFIX/a/file"
	all_verified
	exits 1 "$CPGFS" repair --cache-dir "$T/cache"
	says "in use by another cpgfs"
	mount_end
	exits 1 "$CPGFS" repair --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/elsewhere"
	says "belongs to another bucket, prefix or endpoint ($ENDPOINT $BUCKET $PREFIX)"
	exits 1 "$CPGFS" repair --cache-dir "$T/src"
	says "is no cache of cpgfs"
	exits 1 "$CPGFS" repair
	exits 0 "$CPGFS" repair --help
	# the words of the mount do, too
	exits 0 "$CPGFS" repair --endpoint "$ENDPOINT" --cache-dir "$T/cache" --settle 1s \
		"s3://$BUCKET/$PREFIX" "$M"
}

run_tests "$@"
