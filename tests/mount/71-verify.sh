#!/usr/bin/env bash
# cpgfs verify: it names exactly what was flipped, cut, swapped, replaced, lost or added.
. "$(dirname "$0")/lib.sh"

verify() { # STATUS ARGS…: differences in $T/tsv
	local status=$1
	shift
	exits "$status" "$CPGFS" verify --tsv "$@"
	cp "$T/last" "$T/tsv"
}

differences() { # LINE…: exactly these, "kind key-below-the-prefix"
	printf '%s\n' "$@" | sed "s: :\t$PREFIX/:" | sort >"$T/wanted"
	sort "$T/tsv" | cmp -s - "$T/wanted" || fail "found:
$(cat "$T/tsv")
wanted:
$(cat "$T/wanted")"
}

s3_verify() { # STATUS SRC|MANIFEST [OPTION…]
	local status=$1 source=$2
	shift 2
	verify "$status" --endpoint "$ENDPOINT" "$@" "$source" "s3://$BUCKET/$PREFIX"
}

uploaded() { # a plate and a file in parts, verified
	make_plate
	make_file "$SRC/workspace/big.parquet" 12000000
	s3d_start "$@"
	mount_start --part-size 5M --multipart-threshold 5M --allow-overwrite
	copy_plate
	exits 0 all_verified
}

A=$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff
B=$IMAGES/r01c01f01p01-ch2sk1fk1fl1.tiff
C=$IMAGES/r01c01f02p01-ch1sk1fk1fl1.tiff
D=$IMAGES/r01c01f02p01-ch2sk1fk1fl1.tiff
E=$IMAGES/Index.idx.xml

damage() { # one of each kind
	local dir=$T/damage
	mkdir "$dir"
	cp "$SRC/$A" "$dir/flipped"
	printf '\x5a' | dd of="$dir/flipped" bs=1 seek=70000 conv=notrunc status=none
	put_elsewhere "$PREFIX/$A" "$dir/flipped"
	head -c 99999 "$SRC/$B" >"$dir/cut"
	put_elsewhere "$PREFIX/$B" "$dir/cut"
	put_elsewhere "$PREFIX/$C" "$SRC/$D"
	put_elsewhere "$PREFIX/$D" "$SRC/$C"
	"$TOOLS/s3" delete "$BUCKET" "$PREFIX/$E"
	head -c 12000000 /dev/urandom >"$dir/other"
	put_elsewhere "$PREFIX/workspace/big.parquet" "$dir/other"
	put_elsewhere "$PREFIX/images/extra" "$dir/cut"
}

DAMAGED=("content $A" "size $B" "content $C" "content $D" "missing $E" "content workspace/big.parquet")

deadline_test_a_mount=120
test_a_mount() {
	uploaded
	verify 0 "$M"
	same differences "$(cat "$T/tsv")" ""
	exits 0 "$CPGFS" verify --deep "$M"
	says "$(find "$SRC" -type f | wc -l) files"
	says "0 by tag"
	exits 0 "$CPGFS" verify "$M/$PREFIX/workspace/big.parquet"
	says "1 files"
	cp "$M/.cpgfs/uploaded.tsv" "$T/manifest.tsv"
	damage
	verify 3 "$M"
	differences "${DAMAGED[@]}"
	verify 3 "$M/$PREFIX/workspace"
	differences "content workspace/big.parquet"
	# from the manifest, with neither the files nor the mount
	mount_end
	s3_verify 3 "$T/manifest.tsv"
	differences "${DAMAGED[@]}" "extra images/extra"
	s3_verify 3 "$T/manifest.tsv" --no-extra --deep
	differences "${DAMAGED[@]}"
}

# A server without CRC64NVME: the tag is the proof, and that no checksum is kept is no difference.
test_deep_where_no_checksum_is_kept() {
	s3d_start --crc64nvme off
	make_plate --wells 1
	mount_start --part-size 5M --multipart-threshold 5M
	copy_plate
	head -c 12000000 /dev/urandom >"$T/src/big"
	cp "$T/src/big" "$P/workspace/big"
	exits 0 all_verified
	exits 0 "$CPGFS" verify --deep "$M"
	says "0 by checksum, 0 by size only"
	put_elsewhere "$PREFIX/$A" "$SRC/$B"
	verify 3 --deep "$M"
	differences "content $A"
}

test_a_folder() {
	uploaded
	s3_verify 0 "$SRC"
	same differences "$(cat "$T/tsv")" ""
	verify 0 "$SRC" "$M/$PREFIX"
	damage
	s3_verify 3 "$SRC"
	differences "${DAMAGED[@]}" "extra images/extra"
	s3_verify 3 "$SRC" --size-only
	differences "size $B" "missing $E" "extra images/extra"
	verify 3 "$SRC/workspace" "$M/$PREFIX/workspace"
	differences "content workspace/big.parquet"
	# the source changed after it was copied
	printf x >>"$SRC/workspace/load_data_csv/2021_04_26_Batch1/BR00117035/load_data.csv"
	verify 3 --endpoint "$ENDPOINT" "$SRC/workspace/load_data_csv" "s3://$BUCKET/$PREFIX/workspace/load_data_csv"
	differences "size workspace/load_data_csv/2021_04_26_Batch1/BR00117035/load_data.csv"
	exits 3 "$CPGFS" verify --json --endpoint "$ENDPOINT" "$SRC" "s3://$BUCKET/$PREFIX"
	"$PYTHON" - "$T/last" <<-'PY'
	import json, sys
	found = json.load(open(sys.argv[1]))
	assert len(found["differences"]) == 8, found
	assert found["files"] == found["equal"] + 7, found
	PY
}

# Objects that another tool uploaded, in its own parts, are proved all the same.
test_parts_of_others() {
	need "$AWS"
	mkdir "$T/src/d"
	head -c 20000000 /dev/urandom >"$T/src/d/in parts"
	make_file "$T/src/d/small" 1000
	s3d_start --crc64nvme off
	aws_cli s3 cp --quiet --recursive --acl bucket-owner-full-control "$T/src/d" "s3://$BUCKET/$PREFIX/d"
	"$TOOLS/s3" head "$BUCKET" "$PREFIX/d/in parts" >"$T/head"
	grep -q "etag: .*-3" "$T/head"
	exits 0 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/src/d" "s3://$BUCKET/$PREFIX/d"
	says "2 files"
	says "(2 by tag, 0 by checksum"
	printf x | dd of="$T/src/d/in parts" bs=1 seek=19999999 conv=notrunc status=none
	verify 3 --endpoint "$ENDPOINT" "$T/src/d" "s3://$BUCKET/$PREFIX/d"
	differences "content d/in parts"
}

test_what_is_not_uploaded_yet() {
	make_plate
	s3d_start
	mount_start --paused
	copy_plate
	exits 2 "$CPGFS" verify "$M"
	says "not in the bucket yet: $(find "$SRC" -type f | wc -l) files"
	exits 3 "$CPGFS" verify "$SRC" "$M/$PREFIX"
	says "missing: $(find "$SRC" -type f | wc -l)"
}

# Its files say that they are verified until it was looked through: under their old names.
test_what_was_renamed_a_moment_ago() {
	local round from=images to=pictures
	uploaded
	for round in 1 2 3; do
		"$CPGFS" pause "$M"
		mv "$M/$PREFIX/$from" "$M/$PREFIX/$to"
		exits 2 "$CPGFS" verify "$M"
		"$CPGFS" resume "$M"
		exits 0 all_verified
		read -r from to <<<"$to $from"
	done
	exits 0 "$CPGFS" verify "$M"
	says "$(find "$SRC" -type f | wc -l) files"
}

# A name that keeps a file out of the bucket keeps it out of "all there".
test_what_is_held_for_its_name() {
	make_file "$T/src/a" 100
	mkdir -p "$T/src/b/images/x y"
	make_file "$T/src/b/images/x y/c" 100
	s3d_start
	mount_start
	mkdir -p "$P/images"
	cp "$T/src/a" "$P/images/a"
	exits 0 all_verified
	exits 0 "$CPGFS" verify "$M"
	echo a >"$P/images/.DS_Store" # junk does not count
	wait_for 10 status_is held.junk 1
	exits 0 "$CPGFS" verify "$M"
	echo a >"$P/images/b.tmp"
	exits 2 "$CPGFS" verify "$M"
	says "not in the bucket yet: 1 files"
	rm "$P/images/b.tmp"
	cp -r "$T/src/b" "$P/images/b"
	exits 2 "$CPGFS" verify "$M"
	says "not in the bucket yet: 1 files"
	rm -r "$P/images/b"
	# the source alone
	exits 2 "$CPGFS" verify --no-extra --endpoint "$ENDPOINT" "$T/src" "s3://$BUCKET/$PREFIX/images"
	says "1 there and the same"
	says "for its name or because it is no file: 1"
	exits 2 "$CPGFS" verify --tsv --no-extra --endpoint "$ENDPOINT" "$T/src" "s3://$BUCKET/$PREFIX/images"
	rm -r "$T/src/b"
	ln -s a "$T/src/link"
	exits 2 "$CPGFS" verify --no-extra --endpoint "$ENDPOINT" "$T/src" "s3://$BUCKET/$PREFIX/images"
	rm "$T/src/link"
	echo a >"$T/src/.DS_Store"
	exits 0 "$CPGFS" verify --no-extra --endpoint "$ENDPOINT" "$T/src" "s3://$BUCKET/$PREFIX/images"
}

test_acls() {
	make_file "$T/src/a" 100
	make_file "$T/src/b" 100
	make_file "$T/src/c" 100
	s3d_start
	put_elsewhere "$PREFIX/a" "$T/src/a"
	put_elsewhere "$PREFIX/b" "$T/src/b"
	s3d_stop
	s3d_start --require-acl private
	"$TOOLS/s3" put "$BUCKET" "$PREFIX/c" "$T/src/c" "x-amz-acl: private"
	s3_verify 0 "$T/src"
	s3_verify 3 "$T/src" --acl-check
	differences "acl c"
	rm "$T/src"/[ab]
	exits 0 "$CPGFS" verify --no-extra --acl-check --endpoint "$ENDPOINT" "$T/src" "s3://$BUCKET/$PREFIX"
	says "every object is controlled by its owner alone"
	s3_verify 3 "$T/src" --no-extra --acl-check --bucket-owner somebody
	differences "acl c"
}

test_anonymous() {
	uploaded
	cp "$M/.cpgfs/uploaded.tsv" "$T/manifest.tsv"
	mount_end
	s3d_stop
	"$S3D" --listen 127.0.0.1:0 --port-file "$T/open" --root "$T/s3" >/dev/null 2>&1 &
	wait_for 10 test -s "$T/open"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
	verify 0 --no-sign-request --endpoint "http://127.0.0.1:$(cat "$T/open")" "$T/manifest.tsv" "s3://$BUCKET"
	fails_with "no credentials" "$CPGFS" verify --endpoint "http://127.0.0.1:$(cat "$T/open")" \
		"$T/manifest.tsv" "s3://$BUCKET"
}

test_going_on() {
	uploaded
	damage
	s3_verify 3 "$SRC" --after "$PREFIX/$B"
	differences "content $C" "content $D" "content workspace/big.parquet" "extra images/extra"
}

# Ctrl-C: what was found so far, and how to go on; both parts together name everything.
test_stopped_and_gone_on_with() {
	local pid before after name
	make_plate --wells 24 --sites 5 --channels 5 --bytes 2K
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
	cp "$M/.cpgfs/uploaded.tsv" "$T/manifest.tsv"
	mount_end
	for name in r01c01f01p01-ch1sk1fk1fl1.tiff r01c12f01p01-ch1sk1fk1fl1.tiff r01c24f05p01-ch5sk1fk1fl1.tiff; do
		cp "$SRC/$IMAGES/$name" "$T/flipped"
		printf Z | dd of="$T/flipped" bs=1 seek=1000 conv=notrunc status=none
		put_elsewhere "$PREFIX/$IMAGES/$name" "$T/flipped"
	done
	echo "HeadObject always delay=300" | faults
	before=$(requests HeadObject)
	s3_verify 3 "$T/manifest.tsv" --deep
	sort "$T/tsv" >"$T/whole"
	same "differences" "$(grep -c ^content "$T/whole")" 3
	same "questions" "$(($(requests HeadObject) - before))" "$(find "$SRC" -type f | wc -l)"
	before=$(requests HeadObject)
	"$CPGFS" verify --tsv --deep --endpoint "$ENDPOINT" "$T/manifest.tsv" "s3://$BUCKET/$PREFIX" >"$T/first" 2>"$T/said" &
	pid=$!
	wait_for 20 requests_at_least $((before + 10)) HeadObject
	kill -INT $pid
	! wait $pid || fail "stopped, and no error"
	after=$(sed -n 's/.*go on with --after //p' "$T/said")
	[ -n "$after" ] || fail "$(cat "$T/said")"
	s3_verify 3 "$T/manifest.tsv" --deep --after "$after"
	sort -u "$T/first" "$T/tsv" | cmp - "$T/whole"
}

deadline_test_nothing_is_never_fine=150
test_nothing_is_never_fine() {
	make_file "$T/src/a" 100
	mkdir "$T/empty"
	s3d_start
	mount_start
	exits 1 "$CPGFS" verify "$M"
	says "nothing to compare"
	exits 1 "$CPGFS" verify "$M/$PREFIX/no/such"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/empty" "s3://$BUCKET/$PREFIX"
	says "nothing to compare"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/none" "s3://$BUCKET/$PREFIX"
	says "No such file"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/src" "s3://no-such-bucket/x"
	says "NoSuchBucket"
	echo "a	b" >"$T/bad.tsv"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/bad.tsv" "s3://$BUCKET"
	says 'no columns "key" and "size_bytes"'
	printf 'key\tsize_bytes\nx\n' >"$T/bad.tsv"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/bad.tsv" "s3://$BUCKET"
	says "line 2 is no row"
	printf 'key\tsize_bytes\nx\t1\nx\t1\n' >"$T/bad.tsv"
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/bad.tsv" "s3://$BUCKET"
	says "x stands for two files"
	printf 'key\tsize_bytes\nx\t1\n\0\0\0\0' >"$T/bad.tsv" # as a power cut leaves it
	exits 1 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/bad.tsv" "s3://$BUCKET"
	says "holds zero bytes"
	exits 1 "$CPGFS" verify
	exits 0 "$CPGFS" verify --help
	s3d_stop
	exits 1 timeout 100 "$CPGFS" verify "$T/src" "$M/$PREFIX"
	expect_log 'warn'
}

run_tests "$@"
