#!/usr/bin/env bash
# Sizes around every limit, one large file, and very many small ones.
# long
. "$(dirname "$0")/lib.sh"

test_sizes_around_parts_and_threshold() {
	s3d_start
	mount_start --part-size 5M --multipart-threshold 10M
	local n size m=1048576
	mkdir -p "$P/images" "$T/src/$PREFIX/images"
	n=0
	for size in 0 1 4095 4096 $((5 * m - 1)) $((5 * m)) $((5 * m + 1)) $((10 * m - 1)) $((10 * m)) $((10 * m + 1)) \
		$((15 * m)) $((15 * m + 1)) $((20 * m - 1)); do
		make_file "$T/src/$PREFIX/images/$size.bin" $size
		[ $size -le $((10 * m)) ] || n=$((n + 1))
	done
	cp "$T/src/$PREFIX/images/"* "$P/images/"
	exits 0 all_verified
	same_in_bucket "$T/src/$PREFIX" "$PREFIX"
	same "multipart uploads" "$(requests CreateMultipartUpload)" $n
	same "uploads completed" "$(requests CompleteMultipartUpload)" $n
	same "PutObject requests" "$(puts)" $((13 - n))
	same "parts" "$(requests UploadPart)" $((3 + 3 + 4 + 4))
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

deadline_test_one_gigabyte=300
test_one_gigabyte() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	make_file "$T/src/big.bin" 1073741824
	cp "$T/src/big.bin" "$P/images/big.bin"
	exits 0 all_verified 200
	cmp "$T/src/big.bin" "$(bucket_file "$PREFIX/images/big.bin")"
	same "parts" "$(requests UploadPart)" 128
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
	mount_end
	CACHE=$T/other mount_start
	cmp "$T/src/big.bin" "$P/images/big.bin"
}

deadline_test_ten_thousand_small_files=300
test_ten_thousand_small_files() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	"$PYTHON" -c '
import os, random, sys
source = random.Random(3)
for folder in range(20):
    path = "%s/%02d" % (sys.argv[1], folder)
    os.makedirs(path)
    for n in range(500):
        with open("%s/%04d.bin" % (path, n), "wb") as out:
            out.write(source.randbytes(4096))
' "$T/src/$PREFIX/images/many"
	cp -r "$T/src/$PREFIX/images/many" "$P/images/"
	exits 0 all_verified 240
	same "verified files" "$(status_json files.verified)" 10000
	same_in_bucket "$T/src/$PREFIX" "$PREFIX"
	same "PutObject requests" "$(puts)" 10000
	same_tree "$T/src/$PREFIX" "$P"
}

test_a_growing_file_is_sent_once_and_whole() {
	s3d_start
	mount_start --part-size 5M --multipart-threshold 5M
	mkdir -p "$P/images"
	make_file "$T/src/grow.bin" 30000000
	local at
	exec 7>"$P/images/grow.bin"
	for ((at = 0; at < 30; at++)); do
		dd if="$T/src/grow.bin" bs=1000000 skip=$at count=1 status=none >&7
		same "object before the close" "$(ls "$(bucket_file "$PREFIX/images/")" 2>/dev/null | grep -c grow.bin || true)" 0
	done
	exec 7>&-
	exits 0 all_verified
	cmp "$T/src/grow.bin" "$(bucket_file "$PREFIX/images/grow.bin")"
	same "uploads completed" "$(requests CompleteMultipartUpload)" 1
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

run_tests "$@"
