#!/usr/bin/env bash
# What listings show: local and bucket together, the bucket alone, odd keys, nothing outside the prefix.
# long
. "$(dirname "$0")/lib.sh"

# "size name" of every object below the prefix: by ls in the pure view, and by aws.
by_mount() {
	(cd "$M/.cpgfs/remote" && find "$PREFIX" -type f -printf '%s %p\n') | sort -k 2
}

by_aws() {
	aws_cli s3 ls --recursive "s3://$BUCKET/$PREFIX/" | sed 's/^[^ ]* [^ ]* *//' | sort -k 2
}

test_the_pure_view_equals_aws_s3_ls() {
	need "$AWS"
	make_plate
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	echo pending >"$P/images/notes.tmp"
	refresh
	diff <(by_mount) <(by_aws) || fail "the views differ"
	same "objects" "$(by_mount | wc -l)" "$(find "$SRC" -type f | wc -l)"
	diff <("$CPGFS" ls -R "$M/$PREFIX") <(aws_cli s3 ls --recursive "s3://$BUCKET/$PREFIX/") ||
		fail "cpgfs ls -R and aws s3 ls --recursive differ"
	diff <("$CPGFS" ls "$M/$PREFIX") <(aws_cli s3 ls "s3://$BUCKET/$PREFIX/") ||
		fail "cpgfs ls and aws s3 ls differ"
	diff <("$CPGFS" ls -R --summarize "$M/$PREFIX" | tail -2) \
		<(aws_cli s3 ls --recursive --summarize "s3://$BUCKET/$PREFIX/" | tail -2) || fail "the sums differ"
	"$TOOLS/s3" delete "$BUCKET" "$PREFIX/$IMAGES/Index.idx.xml"
	refresh
	diff <(by_mount) <(by_aws) || fail "the views differ after a delete by others"
}

test_objects_from_elsewhere_appear() {
	s3d_start
	make_file "$T/src/a" 40000
	mkdir -p "$(bucket_file "$PREFIX/images/batch/deep")"
	for n in a b deep/c; do
		cp "$T/src/a" "$(bucket_file "$PREFIX/images/batch/$n")"
	done
	s3d_rescan
	mount_start
	same "names" "$(cd "$P" && find . -type f | sort | tr '\n' ' ')" "./images/batch/a ./images/batch/b ./images/batch/deep/c "
	cmp "$T/src/a" "$P/images/batch/deep/c"
	same "links" "$(links "$P/images/batch/a")" 2
	same "size" "$(stat -c %s "$P/images/batch/a")" 40000
	# appears without a refresh after the listing's time to live
	mount_end
	mount_start --list-ttl 1s
	ls "$P/images/batch" >/dev/null
	put_elsewhere "$PREFIX/images/batch/new" "$T/src/a"
	wait_for 20 test -e "$P/images/batch/new"
	refresh
	"$TOOLS/s3" delete "$BUCKET" "$PREFIX/images/batch/new"
	wait_for 20 not test -e "$P/images/batch/new"
}

test_many_pages() {
	s3d_start
	local n
	mkdir -p "$(bucket_file "$PREFIX/images/many")"
	"$PYTHON" -c '
import sys
for n in range(3500):
    with open("%s/%05d.bin" % (sys.argv[1], n), "wb") as out:
        out.write(b"%d" % n)' "$(bucket_file "$PREFIX/images/many")"
	s3d_rescan
	mount_start
	same "names" "$(ls "$P/images/many" | wc -l)" 3500
	same "long listing" "$(ls -l "$P/images/many" | tail -n +2 | awk '{n += $5} END {print n}')" \
		"$(find "$T/s3/$BUCKET" -type f -printf '%s\n' | awk '{n += $1} END {print n}')"
	same "HEAD requests" "$(requests HeadObject)" 0
	at_most "listing requests" "$(requests ListObjectsV2)" 20
	same "content" "$(cat "$P/images/many/03456.bin")" 3456
	same "recursively" "$(find "$M/.cpgfs/remote/$PREFIX" -type f | wc -l)" 3500
}

test_a_deep_tree_is_listed_at_once() {
	s3d_start
	"$PYTHON" - "$(bucket_file "$PREFIX/images")" <<-'PY'
	import os, sys
	for n in range(400):
	    for part in ("", "raw", "raw/deep", "raw.old"):
	        folder = os.path.join(sys.argv[1], "plate%03d" % (n // 20), "well%02d" % (n % 20), part)
	        os.makedirs(folder, exist_ok=True)
	        with open(os.path.join(folder, "image.bin"), "wb") as out:
	            out.write(b"%d" % n)
	PY
	s3d_rescan
	mount_start
	diff <(cd "$P/images" && find . -type f -printf '%s %p\n' | sort) \
		<(cd "$(bucket_file "$PREFIX/images")" && find . -type f -printf '%s %p\n' | sort) ||
		fail "find shows something else"
	same "HEAD requests" "$(requests HeadObject)" 0
	at_most "listing requests" "$(requests ListObjectsV2)" 400 # for 1,600 folders and more
	echo "more" >"$P/images/plate007/well07/raw/ours"
	put_elsewhere "$PREFIX/images/plate007/well08/raw/theirs" <(echo theirs)
	refresh
	same "files" "$(find "$P/images" -type f | wc -l)" 1602
	exits 0 all_verified
	refresh
	same "files afterwards" "$(find "$P/images" -type f | wc -l)" 1602
}

test_local_changes_are_seen_at_once() {
	s3d_start
	put_elsewhere "$PREFIX/images/a" <(echo a)
	mount_start
	mkdir -p "$P/images"
	same "names" "$(ls "$P/images")" a
	echo b >"$P/images/b"
	mkdir "$P/images/c"
	same "names" "$(ls "$P/images" | tr '\n' ' ')" "a b c "
	mv "$P/images/b" "$P/images/d"
	rmdir "$P/images/c"
	same "names" "$(ls "$P/images" | tr '\n' ' ')" "a d "
	rm "$P/images/d"
	same "names" "$(ls "$P/images")" a
	exits 0 all_verified
}

test_every_listing_shows_every_file_while_they_upload() {
	make_plate --wells 10
	s3d_start --delay-ms 5
	mount_start
	copy_plate
	local count n
	count=$(find "$SRC/$IMAGES" -type f | wc -l)
	for ((n = 0; n < 60; n++)); do
		same "names in listing $n" "$(ls -l "$P/$IMAGES" | tail -n +2 | wc -l)" "$count"
		[ $((n % 10)) != 0 ] || refresh
	done
	exits 0 all_verified
	same "names afterwards" "$(ls "$P/$IMAGES" | wc -l)" "$count"
}

# Open, stat and list directly after the close, while readers loop and uploads end.
test_a_closed_file_is_there_for_everybody() {
	s3d_start --delay-ms 3
	mount_start --list-ttl 300ms
	mkdir -p "$P/images"
	"$PYTHON" - "$P/images" <<-'PY'
	import os, random, sys, threading, time
	top, stop, wrong, closed = sys.argv[1], threading.Event(), [], []
	def content(n):
	    return random.Random(n).randbytes(3000 + n)
	def attempt(work, *args):
	    try:
	        work(*args)
	    except Exception as error:
	        wrong.append(repr(error))
	def reader():
	    while not stop.is_set():
	        count = len(closed)
	        names = set(os.listdir(top))
	        lacking = [n for n in closed[:count] if "f%d" % n not in names]
	        if lacking:
	            wrong.append("a listing lacks %s" % lacking[:5])
	        for n in closed[:count][-40:]:
	            if os.stat("%s/f%d" % (top, n)).st_size != 3000 + n:
	                wrong.append("f%d has another size" % n)
	def writer(first):
	    for n in range(first, 400, 4):
	        path = "%s/f%d" % (top, n)
	        with open(path, "wb") as out:
	            out.write(content(n))
	        with open(path, "rb") as data:
	            if data.read() != content(n):
	                wrong.append("f%d has other bytes" % n)
	        closed.append(n)
	readers = [threading.Thread(target=attempt, args=(reader,)) for _ in range(4)]
	writers = [threading.Thread(target=attempt, args=(writer, n)) for n in range(4)]
	for thread in readers + writers:
	    thread.start()
	for thread in writers:
	    thread.join()
	# on until the last are in the bucket
	links = lambda: sum(os.stat("%s/f%d" % (top, n)).st_nlink for n in range(400))
	while not wrong and links() < 800:
	    time.sleep(0.05)  # the readers ask enough
	stop.set()
	for thread in readers:
	    thread.join()
	if wrong:
	    sys.exit("\n".join(wrong[:10]))
	PY
	exits 0 all_verified
	same_tree "$P/images" "$(bucket_file "$PREFIX/images")"
}

test_the_control_folder_is_hidden() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 0 all_verified
	same "top of the mount" "$(ls -A "$M")" "cpg0123-example"
	same "found" "$(cd "$M" && find . -name '*cpgfs*' | wc -l)" 0
	test -d "$M/.cpgfs"
	grep -q "s3://$BUCKET" "$M/.cpgfs/status"
	test -d "$M/.cpgfs/remote"
	fails_with '' touch "$M/.cpgfs/x"
	fails_with '' mkdir "$M/.cpgfs/x"
	fails_with '' rm "$M/.cpgfs/status"
	fails_with '' touch "$M/.cpgfs/remote/$PREFIX/images/x"
	fails_with '' rm "$M/.cpgfs/remote/$PREFIX/images/a"
	test -e "$M/.cpgfs/remote/$PREFIX/images/a"
}

test_nothing_outside_the_prefix() {
	s3d_start
	put_elsewhere "cpg0999-secret/broad/x" <(echo secret)
	put_elsewhere "cpg0123-example/other/y" <(echo secret)
	put_elsewhere "cpg0123-example/broadly/z" <(echo secret)
	: >"$T/requests.log"
	mount_start
	same "top" "$(ls "$M")" cpg0123-example
	same "project" "$(ls "$M/cpg0123-example")" broad
	fails_with 'Permission denied' mkdir "$M/cpg0999-secret"
	fails_with 'Permission denied' mkdir "$M/cpg0123-example/other"
	fails_with 'Permission denied' touch "$M/x"
	fails_with 'Permission denied' touch "$M/cpg0123-example/broadly"
	fails_with '' cat "$M/cpg0999-secret/broad/x"
	fails_with '' cat "$M/cpg0123-example/other/y"
	fails_with '' cat "$M/cpg0123-example/broadly/z"
	fails_with '' ls "$M/.cpgfs/remote/cpg0999-secret"
	fails_with '' ls "$M/.cpgfs/remote/cpg0123-example/other"
	fails_with 'Permission denied' rmdir "$M/cpg0123-example"
	fails_with '' cat "$P/../other/y"
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 0 all_verified
	# every request named a key or a listing prefix below the mounted one
	same "requests elsewhere" "$(awk -F'\t' 'substr($1, 1, 1) != "#" {
		key = $5; prefix = $6
		if (!sub(/.*[?&]?prefix=/, "", prefix)) prefix = ""
		sub(/&.*/, "", prefix); gsub(/%2F/, "/", prefix)
		if (key == "-") key = prefix
		if (index(key, "cpg0123-example/broad/") != 1) print
	}' "$T/requests.log")" ""
}

test_odd_keys_do_no_harm() {
	s3d_start
	local key
	echo odd >"$T/src/odd"
	for key in 'a//b' '../../escape' 'x/../y' './dot' 'folder/' 'both' 'both/inside' '/leading' 'trailing//' '..' '.' \
		$'new\nline' $'bell\a' 'a+b c%25' '.cpgfs' "long-$(printf 'n%.0s' {1..300})" 'fine' '<&">'; do
		put_elsewhere "$PREFIX/images/$key" "$T/src/odd"
	done
	mount_start
	ls -lR "$P" >"$T/listing"
	ls -lR "$M/.cpgfs/remote" >>"$T/listing"
	test -f "$P/images/fine"
	same "content" "$(cat "$P/images/fine")" odd
	same "content" "$(cat "$P/images/a+b c%25")" odd
	same "content" "$(cat "$P/images/both/inside" 2>/dev/null || cat "$P/images/both")" odd
	test -d "$P/images/folder"
	find "$P" -type f -exec cat {} + >/dev/null
	same "escaped names" "$(find "$M" -name escape | wc -l)" 0
	status_json files >/dev/null
	echo new >"$P/images/new"
	exits 0 all_verified
	is_state verified "$P/images/new"
}

test_the_uploaded_view() {
	make_plate --wells 1
	s3d_start
	mount_start --view uploaded --paused
	copy_plate
	same "files listed before" "$(find "$P" -type f | wc -l)" 0
	"$CPGFS" resume "$M"
	exits 0 all_verified
	refresh
	same "files listed after" "$(find "$P" -type f | wc -l)" "$(find "$SRC" -type f | wc -l)"
}

test_a_listing_that_is_denied_says_so() {
	expect_log 'denied|Denied'
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	faults <<<"ListObjectsV2 always status=403 code=AccessDenied"
	refresh
	fails_with '' ls "$M/.cpgfs/remote/$PREFIX/images"
	exits 1 "$CPGFS" ls -R --summarize "$M"
	! grep Total "$T/last" || fail "a sum of what could not be listed"
	faults </dev/null
	exits 0 all_verified
	refresh
	same "names" "$(ls "$M/.cpgfs/remote/$PREFIX/images")" a
}

run_tests "$@"
