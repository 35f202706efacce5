#!/usr/bin/env bash
# cpgfs plan: the dry run, against what `aws s3 sync --dryrun` says and what people got wrong.
. "$(dirname "$0")/lib.sh"

PROJECT=cpg0123-example DEST=s3://$BUCKET/$PREFIX

# Two plates with all folders of the layout, below $T/src/$PREFIX.
make_project() {
	local plate
	for plate in BR00117035 BR00117036; do
		"$TOOLS/make-plate" "$T/src" --plate $plate --format 384 --wells 24 --sites 2 --channels 2 \
			--bytes 2K "$@"
	done
}

plan() { # STATUS [OPTION…]: of the project, without lines
	local status=$1
	shift
	exits "$status" "$CPGFS" plan --summary --problems "$T/problems" "$@" "$T/src/$PREFIX" "$DEST"
}

found() { # KIND PATH-END [WHAT]: the problem stands in the TSV
	awk -F '\t' -v kind="$1" -v end="$2" -v what="${3:-}" '
		$1 == kind && substr($2, length($2) - length(end) + 1) == end && index($3, what) { n++ }
		END { exit !n }' "$T/problems" || fail "no $1 for …$2 ($3) in:
$(cat "$T/problems")"
}

kinds() { # which kinds of problem there are
	sed 1d "$T/problems" | cut -f1 | sort -u | tr '\n' ' '
}

a_tiff() { # FILE [BYTES]: like those of the project
	"$PYTHON" - "$1" "${2:-2048}" <<-'PY'
	import struct, sys
	head = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 256, 4, 1, 64, 0)
	open(sys.argv[1], "wb").write(head + b"p" * (int(sys.argv[2]) - len(head)))
	PY
}

test_a_complete_project_is_clean() {
	make_project
	plan 0
	same kinds "$(kinds)" ""
	says "Total: $(find "$T/src" -type f | wc -l) files"
	says "2 plates"
	says "24 wells × 2 sites × 2 channels: complete"
}

test_lines_as_aws_prints_them() {
	need "$AWS"
	make_project
	mkdir "$T/src/$PREFIX/images.d" "$T/src/$PREFIX/images0"
	echo x >"$T/src/$PREFIX/images.d/1"
	echo x >"$T/src/$PREFIX/images0/1"
	s3d_start
	cd "$T/src"
	same_lines "$PREFIX" "$DEST"
	same_lines "$T/src/$PREFIX/images/" "$DEST/images"
	cd "$T/src/$PREFIX"
	same_lines . "$DEST/"
	cd images/*/images
	same_lines .. "$DEST/images"
	cd "$T/home"
	same_lines ../src "s3://$BUCKET"
}

same_lines() { # SRC DEST
	aws_cli s3 sync --dryrun "$1" "$2" >"$T/aws" 2>/dev/null
	[ -s "$T/aws" ] || fail "aws printed nothing"
	"$CPGFS" plan "$1" "$2" >"$T/ours" || true
	sed -n '/^(dryrun)/p' "$T/ours" | cmp - "$T/aws" || fail "$(diff "$T/ours" "$T/aws" | head)"
}

test_names_are_judged() {
	local images=$T/src/$PREFIX/images/2021_04_26_Batch1/images
	local plate=$images/BR00117035__2021-05-02T16_02_51-Measurement1/Images
	make_project
	mv "$images/BR00117036"* "$images/BR00117036__2021-05-02T16_02_51-Measurement 1"
	touch "$plate"/{Thumbs.db,.r01c01.tiff.Xy12z3}
	echo x >"$plate/""notes of (me).txt"
	echo x >"$plate/"Plate.xml
	echo x >"$plate/"plate.XML
	echo x >"$T/src/$PREFIX/workspace/"$'pipelines-u\xcc\x88.txt'
	echo x >"$T/src/$PREFIX/workspace/"$'pipelines-\xc3\xbc.txt'
	plan 3
	found name Images/r01c01f01p01-ch1sk1fk1fl1.tiff 'makes it "BR00117036__2021-05-02T16_02_51-Measurement1"'
	found junk Thumbs.db
	found temporary .r01c01.tiff.Xy12z3
	found file-name "notes of (me).txt"
	found twin Measurement1/Images '"Plate.xml" and "plate.XML"'
	found twin /workspace
	says "Not uploaded for their names"
	# judged under the name it will get
	says "BR00117036__2021-05-02T16_02_51-Measurement1  "
	plan 3 --naming=clean
	same "names" "$(grep -c '^name' "$T/problems" || true)" 0
	mkdir "$images/BR00117036__2021-05-02T16_02_51-Measurement1"
	plan 3 --naming=clean
	found duplicate images 'both become BR00117036__2021-05-02T16_02_51-Measurement1'
}

test_damaged_images_are_named() {
	local images
	make_project
	images=$(echo "$T/src/$PREFIX"/images/*/images/BR00117035*/Images)
	truncate -s 0 "$images/r01c01f01p01-ch1sk1fk1fl1.tiff"
	head -c 2048 /dev/zero >"$images/r01c02f01p01-ch1sk1fk1fl1.tiff"
	head -c 2048 /dev/urandom | tr II xx >"$images/r01c03f01p01-ch1sk1fk1fl1.tiff"
	a_tiff "$images/r01c04f01p01-ch1sk1fk1fl1.tiff" 1000
	head -c 7 "$images/r01c05f01p01-ch1sk1fk1fl1.tiff" >"$T/cut"
	cat "$T/cut" >"$images/r01c05f01p01-ch1sk1fk1fl1.tiff"
	: >"$T/src/$PREFIX/workspace/load_data_csv/2021_04_26_Batch1/BR00117035/load_data.csv"
	plan 3
	found empty r01c01f01p01-ch1sk1fk1fl1.tiff
	found empty load_data.csv
	found zeros r01c02f01p01-ch1sk1fk1fl1.tiff
	found no-tiff r01c03f01p01-ch1sk1fk1fl1.tiff
	found size r01c04f01p01-ch1sk1fk1fl1.tiff '1000 bytes'
	found no-tiff r01c05f01p01-ch1sk1fk1fl1.tiff
	same problems "$(sed 1d "$T/problems" | wc -l)" 6
}

test_what_cannot_be_read() {
	make_project
	ln -s README "$T/src/$PREFIX/images/link"
	mkfifo "$T/src/$PREFIX/images/pipe"
	mkdir "$T/src/$PREFIX/images/closed"
	if [ "$(id -u)" != 0 ]; then
		chmod 0 "$T/src/$PREFIX/images/closed" "$T/src/$PREFIX"/workspace/metadata/platemaps/*/*.csv
	fi
	plan 3
	found special images/link "symbolic link"
	found special images/pipe pipe
	if [ "$(id -u)" != 0 ]; then
		found unreadable images/closed "Permission denied"
		found unreadable barcode_platemap.csv "Permission denied"
		chmod 700 "$T/src/$PREFIX/images/closed"
	fi
}

test_places_are_judged() {
	local at=$T/src/$PREFIX
	make_project
	mkdir -p "$at/images/Batch9/EC1__x/Images" "$at/workspace/scratch" "$at/2022_Batch2/images/P1"
	a_tiff "$at/images/Batch9/EC1__x/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"
	a_tiff "$at/2022_Batch2/images/P1/x.tif"
	echo x >"$at/workspace/scratch/x"
	echo x >"$at/workspace/profiles/README.md"
	cp "$at"/images/*/illum/BR00117035/BR00117035_IllumDNA.npy "$at"/images/2021_04_26_Batch1/illum/BR00117036/
	plan 3
	found layout r01c01f01p01-ch1sk1fk1fl1.tiff "[images.inner] the inner images/ is missing: images/Batch9/images/EC1__x/"
	found layout P1/x.tif "images/2022_Batch2/images/PLATE/"
	found layout BR00117036/BR00117035_IllumDNA.npy "\"BR00117035\" is another plate's name"
	found layout profiles/README.md "[unknown] "
	found layout-note scratch/x '"scratch"'
	plan 0 --layout off
	fails_with "line 1: \"nonsense\" is none of" "$CPGFS" plan --layout-file <(echo nonsense) "$T/src" "$DEST"
	# the plate's folder lost on the way: `sync PLATE/` instead of `sync .`
	exits 3 "$CPGFS" plan --summary --problems "$T/problems" "$at"/images/*/images/BR00117035*/ \
		"$DEST/images/2021_04_26_Batch1/images"
	found layout r01c01f01p01-ch1sk1fk1fl1.tiff "the plate's folder is missing"
	# no cpgNNNN, as in the oldest instructions: taken
	exits 0 "$CPGFS" plan --summary --problems "$T/problems" "$at/images/2021_04_26_Batch1/images" \
		"s3://$BUCKET/jump/source_4/images/2021_04_26_Batch1/images"
	found layout-note r01c01f01p01-ch1sk1fk1fl1.tiff "projects of the gallery are called cpgNNNN"
}

test_plates_are_complete_or_named() {
	local images
	make_project
	images=$(echo "$T/src/$PREFIX"/images/*/images/BR00117036*/Images)
	rm "$images/r01c07f02p01-ch2sk1fk1fl1.tiff" "$T/src/$PREFIX"/workspace/metadata/platemaps/*/barcode_platemap.csv
	rm -r "$T/src/$PREFIX"/workspace/*/*/BR00117035
	plan 3
	found links BR00117036/load_data.csv "no such image: s3://cellpainting-gallery/$PREFIX/${images#"$T/src/$PREFIX/"}/r01c07f02p01-ch2sk1fk1fl1.tiff"
	rm "$T/src/$PREFIX"/workspace/load_data_csv/*/*/*.csv
	echo Metadata_Well | gzip >"$(echo "$T/src/$PREFIX"/workspace/load_data_csv/*/BR00117036)/load_data.csv.gz"
	plan 0
	found missing 2021_04_26_Batch1/BR00117036__2021-05-02T16_02_51-Measurement1 "95 of 96 images (24 wells × 2 sites × 2 channels); missing: A07 site 2 channel 2"
	found counterpart BR00117035 "nothing in workspace/"
	found required BR00117035 "no workspace.load_data"
	found required 2021_04_26_Batch1 "no metadata.barcodes"
	plan 3 --expect ,2,2
	found expected Measurement1 "missing: A07 site 2 channel 2"
	plan 3 --expect 384,2,2
	found expected Measurement1 "96 of 1536 images"
	rm -r "$T/src/$PREFIX"/images/*/images/BR00117036*
	plan 0
	found counterpart BR00117036 "no images"
}

# A plate that comes in two halves is one plate, whatever lies between them.
test_a_plate_of_several_sources() {
	local images plate
	make_project
	images=$(echo "$T/src/$PREFIX"/images/*/images)
	plate=$(basename "$images"/BR00117035*)
	mkdir -p "$T/rest/$plate/Images"
	mv "$images/$plate/Images"/r01c01* "$T/rest/$plate/Images"
	rm "$images/$plate/Images/r01c07f02p01-ch2sk1fk1fl1.tiff"
	plan_images() { # STATUS SRC…
		local status=$1
		shift
		exits "$status" "$CPGFS" plan --summary --problems "$T/problems" "$@" "$DEST/images/2021_04_26_Batch1/images"
	}
	plan_images 0 "$images" "$T/rest"
	found missing "$plate" "95 of 96 images (24 wells × 2 sites × 2 channels); missing: A07 site 2 channel 2"
	same "plates with gaps" "$(grep -c '^missing' "$T/problems")" 1
	plan_images 3 --expect 24,2,2 "$images" "$T/rest"
	same "plates with gaps" "$(grep -c '^expected' "$T/problems")" 1
}

# What people found out after the upload, from the tables that name other files.
test_tables_that_name_what_is_not_there() {
	local batch=2021_04_26_Batch1 at=$T/src/$PREFIX
	make_project
	printf '%s\n' BR00999999,NOMAP BR00117035,NOMAP >>"$at/workspace/metadata/platemaps/$batch/barcode_platemap.csv"
	rm -r "$at/workspace/profiles/$batch/BR00117036"
	# renamed, and the table has the old name; the other half of its name drifted
	mv "$at/images/$batch/images/BR00117035"* "$at/images/$batch/images/BR00117035real__2021-05-02T16_02_51-Measurement1"
	sed -i 's/Metadata_Well/Well/' "$at/workspace/load_data_csv/$batch/BR00117036/load_data.csv"
	plan 3
	found links barcode_platemap.csv "no images of the plate BR00999999"
	found links barcode_platemap.csv "no plate map NOMAP"
	found links barcode_platemap.csv "nothing in workspace/profiles of the plate BR00117036"
	found links barcode_platemap.csv "no images of the plate BR00117035"
	found links BR00117035/load_data.csv "no such folder: s3://cellpainting-gallery/$PREFIX/images/$batch/images/BR00117035__"
	says "192 times, first: "
	found links BR00117036/load_data.csv "no column Metadata_Well"
	found counterpart BR00117035real "nothing in workspace/"
	found counterpart BR00117035 "no images"
	same "named images of the plate that is there" "$(grep -c 'no such .*BR00117036' "$T/problems" || true)" 0
	# without images/ nothing is known of them
	exits 3 "$CPGFS" plan --summary --problems "$T/problems" "$at/workspace" "$DEST/workspace"
	not grep -q "no such " "$T/problems"
}

test_compressed_tables() {
	local tables=$T/src/$PREFIX/workspace/load_data_csv/2021_04_26_Batch1
	make_project
	gzip "$tables"/*/*.csv
	plan 0
	same kinds "$(kinds)" ""
	rm "$T/src/$PREFIX/images"/*/images/BR00117036*/Images/r01c07f02p01-ch2sk1fk1fl1.tiff
	plan 3
	found links BR00117036/load_data.csv.gz "/Images/r01c07f02p01-ch2sk1fk1fl1.tiff"
	found links BR00117036/load_data_with_illum.csv.gz "/Images/r01c07f02p01-ch2sk1fk1fl1.tiff"
	same "links" "$(grep -c '^links' "$T/problems")" 2
	truncate -s -9 "$tables/BR00117036/load_data.csv.gz"
	: >"$tables/BR00117035/other.csv"
	gzip "$tables/BR00117035/other.csv"
	echo Metadata_Well >"$tables/BR00117035/plain.csv.gz"
	plan 3
	found links BR00117036/load_data.csv.gz "cut off, or not compressed by gzip"
	found links BR00117036/load_data.csv.gz "/Images/r01c07f02p01-ch2sk1fk1fl1.tiff"
	found links BR00117035/other.csv.gz "it is empty"
	found links BR00117035/plain.csv.gz "not compressed by gzip"
	same "links" "$(grep -c '^links' "$T/problems")" 5
}

test_tables_that_are_not_looked_into_are_named() {
	local tables=$T/src/$PREFIX/workspace/load_data_csv/2021_04_26_Batch1
	make_project
	echo PAR1 >"$tables/BR00117036/load_data_with_illum.parquet"
	plan 0
	found unread BR00117036/load_data_with_illum.parquet ".parquet is not looked into"
	says "tables whose names of images were not looked up"
	rm "$tables/BR00117036/load_data_with_illum.parquet"
	plan 0 --naming clean
	found unread barcode_platemap.csv "--naming=clean"
	same "tables" "$(grep -c '^unread' "$T/problems")" 5 # two of each plate
}

test_a_mount_as_destination() {
	make_project
	s3d_start
	mount_start --naming=clean
	mkdir -p "$M/$PREFIX/images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1"
	exits 3 "$CPGFS" plan --problems "$T/problems" "$T/src/$PREFIX/images" "$M/$PREFIX"
	found exists Measurement1
	same plates "$(grep -c '^exists' "$T/problems")" 1
	says "to s3://$BUCKET/$PREFIX/images/2021_04_26_Batch1/illum/BR00117035/BR00117035_IllumDNA.npy"
	# "SRC/.." is copied as "SRC/." is
	exits 3 "$CPGFS" plan "$T/src/$PREFIX/images/.." "$M/$PREFIX"
	says "to s3://$BUCKET/$PREFIX/images/2021_04_26_Batch1/illum/BR00117035/BR00117035_IllumDNA.npy"
	not grep -qF "/../" "$T/last"
	exits 3 "$CPGFS" plan "$T/src/$PREFIX/images" "$M/$PREFIX"
	# what the mount does with the same command is what was said
	sed -n 's/^(dryrun) upload: .* to s3:\/\/[^/]*\///p' "$T/last" | sort >"$T/planned"
	cp -r "$T/src/$PREFIX/images" "$M/$PREFIX"
	exits 0 all_verified
	"$CPGFS" ls -R "$M" | awk '{ print $4 }' | sort | cmp - "$T/planned"
}

nothing_settles() {
	status_is files.open 0 && status_is files.closed 0 && status_is files.settled 0
}

# What `cpgfs plan` says of the folder, status says of the paused mount that it was copied to.
test_a_paused_mount_shows_the_plan() {
	local images=images/2021_04_26_Batch1/images
	make_project
	s3d_start
	mount_start --paused
	exits 0 "$CPGFS" status "$M"
	says "The plan: what \`cpgfs resume\` uploads"
	says "Total: 0 files"
	mv "$T/src/$PREFIX/$images/BR00117036"* "$T/src/$PREFIX/$images/BR00117036__Measurement 1"
	head -c 2048 /dev/zero >"$T/src/$PREFIX/$images/BR00117035__2021-05-02T16_02_51-Measurement1/Images/r01c02f01p01-ch1sk1fk1fl1.tiff"
	rm "$T/src/$PREFIX/$images/BR00117035__2021-05-02T16_02_51-Measurement1/Images/r01c07f02p01-ch2sk1fk1fl1.tiff"
	rm -r "$T/src/$PREFIX/workspace/metadata"
	mkdir -p "$T/src/$PREFIX/images/Batch9/EC1__x/Images"
	a_tiff "$T/src/$PREFIX/images/Batch9/EC1__x/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"
	: >"$T/src/$PREFIX/workspace/empty.csv"
	touch "$T/src/$PREFIX/Thumbs.db"
	cp -r "$T/src/$PREFIX" "$M/${PREFIX%/*}"
	wait_for 20 nothing_settles
	cd "$M"
	exits 3 "$CPGFS" plan --summary "$T/src/$PREFIX" "$DEST"
	sed -n "/^Plates/,/^Total/p" "$T/last" | sed "/^Total/d; s|[^ ]*/src/||" >"$T/planned"
	exits 3 "$CPGFS" status "$M"
	sed -n "/^Plates/,/^Total/p" "$T/last" | sed "/^Total/d; s|\./||" >"$T/shown"
	cmp "$T/planned" "$T/shown" || fail "$(diff "$T/planned" "$T/shown")"
	cd "$T"
	says "BR00117035__2021-05-02T16_02_51-Measurement1  "
	says "makes it \"BR00117036__Measurement1\""
	says "images that hold only zeros: 1"
	says "the inner images/ is missing"
	says "missing: A07 site 2 channel 2"
	says "Not looked up here: what barcode_platemap and load_data name"
	same "requests" "$(requests GetObject) $(requests PutObject)" "0 0"
	"$CPGFS" resume "$M"
	exits 0 "$CPGFS" rename-clean "$M/$PREFIX"
	exits 0 "$CPGFS" accept "$P/$images/BR00117035__2021-05-02T16_02_51-Measurement1"
	exits 0 all_verified
	exits 0 "$CPGFS" status "$M"
	not grep -q "The plan" "$T/last"
	# what is in the bucket is not planned again, but its plate is whole
	"$CPGFS" pause "$M"
	echo x >"$P/$images/BR00117036__Measurement1/notes.txt"
	wait_for 20 status_is files.queued 1
	exits 2 "$CPGFS" status "$M"
	says "Total: 1 files, 2 B"
	says "BR00117036__Measurement1  98 files"
	says "96 images"
}

test_what_is_there_already() {
	local plate
	make_project
	s3d_start
	plate=$(echo "$T/src/$PREFIX"/images/*/images/BR00117035*)
	put_elsewhere "${plate#"$T/src/"}/Images/r01c01f01p01-ch1sk1fk1fl1.tiff" "$plate/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"
	put_elsewhere "${plate#"$T/src/"}/Images/r01c02f01p01-ch1sk1fk1fl1.tiff" "$plate/Images/Index.idx.xml"
	plan 3 --remote --endpoint "$ENDPOINT"
	found exists BR00117035__2021-05-02T16_02_51-Measurement1 "1 of its 97 files"
	found other-size r01c02f01p01-ch1sk1fk1fl1.tiff "2048 here"
	same problems "$(kinds)" "exists other-size "
	says "In the bucket already, with the same size: 1 files"
	says "Total: $(($(find "$T/src" -type f | wc -l) - 1)) files"
	same "listings" "$(requests ListObjectsV2)" 1
	# what was copied in is not planned again
	mount_start
	cp -r "$T/src/$PREFIX/workspace" "$P/"
	exits 0 all_verified
	exits 3 "$CPGFS" plan --remote --endpoint "$ENDPOINT" "$T/src/$PREFIX" "$DEST"
	not grep -q 'upload: .*/workspace/' "$T/last"
}

test_usage() {
	s3d_start
	make_file "$T/src/a" 10
	exits 1 "$CPGFS" plan
	exits 1 "$CPGFS" plan "$T/src"
	exits 0 "$CPGFS" plan --help
	says "Usage: cpgfs plan"
	exits 1 "$CPGFS" plan --expect x "$T/src" "$DEST"
	says "--expect=x does not fit"
	exits 1 "$CPGFS" plan "$T/nothing" "$DEST"
	says "$T/nothing: No such file or directory"
	exits 1 "$CPGFS" plan "$T/src" "$T"
	says "neither s3://BUCKET/PREFIX nor in a mount"
	exits 1 "$CPGFS" plan "$T/src" s3:///x
	says "is not a bucket name"
	mkdir "$T/empty"
	exits 1 "$CPGFS" plan "$T/empty" "$DEST"
	says "nothing to upload"
	exits 1 "$CPGFS" plan --problems "$T/no/such" "$T/src" "$DEST"
	says "$T/no/such: No such file"
	exits 1 "$CPGFS" plan --remote --endpoint "$ENDPOINT" "$T/src" "s3://no-such-bucket/x"
	says NoSuchBucket
	exits 1 "$CPGFS" plan --problems /dev/full "$T/src" "$DEST"
	# one file, and the same key twice
	mkdir "$T/other"
	make_file "$T/other/a" 10
	exits 0 "$CPGFS" plan --layout off "$T/src/a" "$DEST"
	says "a to s3://$BUCKET/$PREFIX/a"
	exits 3 "$CPGFS" plan --layout off --problems "$T/problems" "$T/src/a" "$T/other" "$DEST"
	found duplicate other/a "also in $T/src"
	ln -s "$T/other/a" "$T/other/link.tif"
	a_tiff "$T/other/a"
	exits 0 "$CPGFS" plan --layout off "$T/other/link.tif" "$DEST" # as cp, what it leads to
	# several files of one folder, and a table that comes alone
	make_file "$T/src/b" 10
	exits 0 "$CPGFS" plan --layout off --problems "$T/problems" "$T/src/a" "$T/src/b" "$DEST"
	same problems "$(kinds)" ""
	printf '%s\n' Assay_Plate_Barcode,Plate_Map_Name BR1,MAP1 >"$T/src/barcode_platemap.csv"
	exits 0 "$CPGFS" plan --problems "$T/problems" "$T/src/barcode_platemap.csv" "$DEST/workspace/metadata/platemaps/B1"
	same problems "$(kinds)" "required "
}

run_tests "$@"
