#!/usr/bin/env bash
# cpgfs report: the manifest is complete and right, findings are found, the page opens from disk.
. "$(dirname "$0")/lib.sh"

uploaded() {
	make_plate "$@"
	"$TOOLS/make-plate" --wells 3 --sites 2 --channels 2 --bytes 20K --plate BR00117036 "$T/src" >/dev/null
	s3d_start
	mount_start
	copy_plate
	exits 0 all_verified
}

test_a_complete_upload() {
	uploaded
	exits 0 "$CPGFS" report --sha256 -o "$T/report" "$M"
	"$PYTHON" - "$T/report" "$SRC" "$PREFIX" <<-'PY'
	import csv, datetime, hashlib, json, os, sys
	report, source, prefix = sys.argv[1:]
	rows = list(csv.DictReader(open(report + "/manifest.tsv"), delimiter="\t", quoting=csv.QUOTE_NONE))
	files = sorted(os.path.relpath(os.path.join(d, f), source) for d, _, fs in os.walk(source) for f in fs)
	assert [r["key"] for r in rows] == sorted(prefix + "/" + f for f in files)
	for row in rows:
	    path = os.path.join(source, os.path.relpath(row["key"], prefix))
	    data = open(path, "rb").read()
	    assert int(row["size_bytes"]) == len(data), row
	    assert row["sha256"] == hashlib.sha256(data).hexdigest(), row
	    assert row["etag"] == hashlib.md5(data).hexdigest(), row
	    assert len(row["crc64nvme"]) == 12 and row["state"] == "verified", row
	    for when in "mtime", "uploaded_at", "verified_at":
	        datetime.datetime.strptime(row[when], "%Y-%m-%dT%H:%M:%SZ")
	whole = json.load(open(report + "/manifest.json"))
	assert [w["key"] for w in whole] == [r["key"] for r in rows]
	assert all(str(w["size_bytes"]) == r["size_bytes"] and w["sha256"] == r["sha256"] and w["crc64nvme"] == r["crc64nvme"]
	           for w, r in zip(whole, rows))
	plates = list(csv.DictReader(open(report + "/plates.tsv"), delimiter="\t"))
	assert len(plates) == 2 and all(p["images"] == p["expected"] == "12" and p["missing"] == "0" for p in plates), plates
	for plate in plates:
	    first, last = plate["first_uploaded_at"], plate["last_uploaded_at"]
	    assert "2" < first <= last, plate
	def total(field):
	    return str(sum(int(p[field]) for p in plates))
	batches = list(csv.DictReader(open(report + "/batches.tsv"), delimiter="\t"))
	assert batches == [{"batch": prefix + "/2021_04_26_Batch1", "plates": "2", "files": total("files"),
	                    "size_bytes": total("size_bytes"), "images": "24", "expected": "24", "missing": "0",
	                    "first_uploaded_at": min(p["first_uploaded_at"] for p in plates),
	                    "last_uploaded_at": max(p["last_uploaded_at"] for p in plates)}], (batches, plates)
	batch, = json.load(open(report + "/batches.json"))
	assert {k: str(v) for k, v in batch.items()} == batches[0], batch
	assert [type(batch[k]) for k in ("plates", "size_bytes", "missing")] == [int] * 3, batch
	page = open(report + "/report.html").read()
	assert "Nothing was found" in page
	assert page.count("<svg") == 2 and "BR00117036__" in page
	for word in "<script", "src=", "href=", "@import", "url(":
	    assert word not in page, word
	assert page.count("http") == page.count('xmlns="http://www.w3.org/2000/svg"')
	PY
	# a manifest that verifies
	exits 0 "$CPGFS" verify --endpoint "$ENDPOINT" "$T/report/manifest.tsv" "s3://$BUCKET/$PREFIX"
	exits 0 "$CPGFS" report -o "$T/part" "$M/$PREFIX/workspace"
	same rows "$(($(wc -l <"$T/part/manifest.tsv") - 1))" "$(find "$SRC/workspace" -type f | wc -l)"
}

found_in_table() { # KIND KEY-END: findings.tsv has it
	grep -q "^$1	.*$2	" "$T/report/findings.tsv" || fail "no $1 … $2 in
$(cat "$T/report/findings.tsv")"
}

found() { # TEXT…: the page says it
	local text
	for text in "$@"; do
		grep -qF -- "$text" "$T/report/report.html" || fail "the page lacks: $text"
	done
}

test_findings() {
	local tables
	uploaded
	tables=$P/workspace/metadata/platemaps/2021_04_26_Batch1
	echo "BR00999999,NOMAP" >>"$tables/barcode_platemap.csv"
	echo "s3://cellpainting-gallery/no/such.tiff" >"$T/line"
	{
		head -1 "$SRC/workspace/load_data_csv/2021_04_26_Batch1/BR00117035/load_data.csv" | sed 's/,.*//'
		echo "s3://cellpainting-gallery/$PREFIX/no/such.tiff"
		echo "s3://cellpainting-gallery/$PREFIX/$IMAGES/such.tiff"
		echo "s3://staging-gallery/$PREFIX/x.tiff"
		echo "C:\\images\\x.tiff"
	} >"$P/workspace/load_data_csv/2021_04_26_Batch1/BR00117035/load_data.csv"
	printf '%s\n' Metadata_Well,URL_OrigDNA "A01,s3://cellpainting-gallery/$PREFIX/$IMAGES/packed.tiff" |
		gzip >"$P/workspace/load_data_csv/2021_04_26_Batch1/BR00117036/load_data.csv.gz"
	rm "$P/$IMAGES/r01c01f02p01-ch1sk1fk1fl1.tiff"
	mkdir -p "$P/images/Batch9/EC1__x/Images"
	cp "$SRC/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff" "$P/images/Batch9/EC1__x/Images/"
	: >"$P/workspace/empty.csv"
	exits 0 all_verified
	exits 3 "$CPGFS" report -o "$T/report" "$M"
	found "no images of the plate BR00999999" "no plate map NOMAP" \
		"no such folder: s3://cellpainting-gallery/$PREFIX/no/" "no column Metadata_Well" \
		"no such image: s3://cellpainting-gallery/$PREFIX/$IMAGES/such.tiff" \
		"an address in another bucket than the public one: s3://staging-gallery/" \
		"no s3:// address: C:\\images\\x.tiff" \
		"11 of 12 images" "the inner images/ is missing" "empty files"
	found_in_table empty workspace/empty.csv
	found_in_table layout EC1__x/Images/r01c01f01p01-ch1sk1fk1fl1.tiff
	found_in_table links BR00117035/load_data.csv
	found_in_table links BR00117036/load_data.csv.gz
	same "compressed links" "$(grep -c 'load_data.csv.gz	no such image: .*/packed.tiff$' "$T/report/findings.tsv")" 1
}

test_what_is_not_there_yet() {
	make_plate
	s3d_start
	mount_start --paused
	exits 1 "$CPGFS" report -o "$T/report" "$M"
	says "nothing of it has been uploaded yet"
	copy_plate
	exits 1 "$CPGFS" report -o "$T/report" "$M/$PREFIX"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	"$CPGFS" pause "$M"
	make_file "$P/images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1/more.txt" 10
	exits 2 "$CPGFS" report -o "$T/report" "$M"
	found "1 more is not in the bucket yet"
	mkdir -p "$P/images/b/images/x y"
	echo a >"$P/images/b/images/x y/a"
	wait_for 20 status_is held.name 1
	exits 3 "$CPGFS" report -o "$T/report" "$M"
	found "1 more is not in the bucket yet" "1 needs somebody first"
	exits 1 "$CPGFS" report "$M/no/such"
	says "no such file or folder"
	faults <<<"ListObjectsV2 always status=400 code=InvalidRequest"
	exits 1 "$CPGFS" report "$P/no/such" # that it is not there, nobody said
	not grep -q "no such file" "$T/last"
	faults </dev/null
	exits 1 "$CPGFS" report -o /proc/no "$M"
	exits 1 "$CPGFS" report
	exits 0 "$CPGFS" report --help
}

# Who mounts with --layout=off wants no gallery's places.
test_places_that_are_not_looked_at() {
	s3d_start
	mount_start --layout off
	make_file "$P/a.txt" 10
	exits 0 all_verified
	exits 0 "$CPGFS" report -o "$T/report" "$M"
	found "places and plates were not looked at"
	exits 0 "$CPGFS" plan "$P/a.txt" "$P/other"
	: >"$P/empty"
	exits 0 all_verified
	exits 3 "$CPGFS" report -o "$T/report" "$M"
	same "findings" "$(sed 1d "$T/report/findings.tsv" | cut -f1,2)" "empty	$PREFIX/empty"
}

# A digest of bytes that are not those that were uploaded would vouch for the wrong ones.
test_sha256_of_other_bytes() {
	local file ino
	uploaded
	file=$P/$IMAGES/r01c01f01p01-ch1sk1fk1fl1.tiff
	ino=$(stat -c %i "$file")
	printf x | dd of="$(printf '%s/data/%02x/%016x' "$T/cache" $((ino & 255)) "$ino")" \
		bs=1 seek=1000 conv=notrunc status=none
	exits 1 "$CPGFS" report --sha256 -o "$T/report" "$M"
	says "is not what was uploaded"
	not test -e "$T/report/manifest.tsv"
}

# What the maintainers moved on, and has left the cache, can't be read any more.
test_sha256_of_what_is_nowhere() {
	s3d_start
	mount_start --cache-size 12M --part-size 5M
	make_file "$P/images/a" 5000000
	exits 0 all_verified
	"$TOOLS/s3" delete "$BUCKET" "$PREFIX/images/a"
	refresh
	ls "$P/images" >/dev/null
	wait_for 40 is_state gone "$P/images/a"
	make_file "$P/images/b" 9000000 # there is room for one of them
	exits 0 all_verified
	wait_for 20 not cat "$P/images/a"
	"$CPGFS" report --sha256 -o "$T/report" "$M" >"$T/last" 2>&1 || true
	says "images/a: moved on, and no longer here"
	same "digests" "$(sed 1d "$T/report/manifest.tsv" | cut -f1,4,9 | grep -cE '/a.-.gone$|/b.[0-9a-f]{64}.verified$')" 2
	expect_log 'images/a: its bytes cannot be fetched'
}

# As a maintainer looks at it: a browser without a network draws the page and every well.
long_test_in_a_browser() {
	need chromium
	uploaded
	exits 0 "$CPGFS" report -o "$T/report" "$M"
	export TMPDIR=/tmp # the path of a socket in it must be short
	chromium --headless --no-sandbox --disable-gpu --user-data-dir="$T/chromium" --host-resolver-rules='MAP * ~NOTFOUND' \
		--dump-dom "file://$T/report/report.html" >"$T/dom" 2>"$T/chromium.log"
	same wells "$(grep -o '<title>[A-P][0-9]*:' "$T/dom" | wc -l)" 12
	chromium --headless --no-sandbox --disable-gpu --user-data-dir="$T/chromium" --window-size=1200,1600 \
		--screenshot="$T/page.png" "file://$T/report/report.html" >>"$T/chromium.log" 2>&1
	at_least "bytes of the picture" "$(stat -c %s "$T/page.png")" 20000
	cp "$T/page.png" "${CPGFS_TEST_LOGS:-$T}/" 2>/dev/null || true
}

run_tests "$@"
