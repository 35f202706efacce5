#!/usr/bin/env bash
# Folder names the gallery refuses: held, cleaned, refused or taken as they are.
. "$(dirname "$0")/lib.sh"

BATCH=images/2021_04_26_Batch1/images
SPACED="BR1__2021-Measurement 1"

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start "$@"
	make_file "$T/src/a.xml" 5000
	mkdir -p "$P/$BATCH"
}

put_spaced() {
	mkdir "$P/$BATCH/$SPACED" "$P/$BATCH/$SPACED/Images"
	cp "$T/src/a.xml" "$P/$BATCH/$SPACED/Images/a.xml"
	cp "$T/src/a.xml" "$P/$BATCH/$SPACED/Images/b.xml"
}

test_held_until_renamed() {
	begin
	put_spaced
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "held files" "$(status_json files.held)" 2
	same "state" "$(state "$P/$BATCH/$SPACED/Images/a.xml")" held
	grep -q "$SPACED" "$M/.cpgfs/rejected.tsv" || fail "rejected.tsv does not name it"
	no_files_below "$T/s3/$BUCKET"
	mv "$P/$BATCH/$SPACED" "$P/$BATCH/BR1__2021-Measurement1"
	exits 0 all_verified
	same "held files" "$(status_json files.held)" 0
	same_in_bucket "$P" "$PREFIX"
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 2
}

test_held_survives_a_remount() {
	begin
	put_spaced
	wait_for 20 status_is files.held 2
	mount_end
	mount_start
	same "held files" "$(status_json files.held)" 2
	cmp "$T/src/a.xml" "$P/$BATCH/$SPACED/Images/a.xml"
	mv "$P/$BATCH/$SPACED" "$P/$BATCH/BR1__2021-Measurement1"
	exits 0 all_verified
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 2
}

test_rename_clean() {
	begin
	put_spaced
	wait_for 20 status_is files.held 2
	exits 0 "$CPGFS" rename-clean "$M"
	test -d "$P/$BATCH/BR1__2021-Measurement1"
	not test -e "$P/$BATCH/$SPACED"
	exits 0 all_verified
	cmp "$T/src/a.xml" "$(bucket_file "$PREFIX/$BATCH/BR1__2021-Measurement1/Images/a.xml")"
}

test_clean_drops_characters_on_the_way_to_the_key() {
	begin --naming clean
	put_spaced
	exits 0 all_verified
	same "names shown" "$(ls "$P/$BATCH")" "$SPACED"
	cmp "$T/src/a.xml" "$(bucket_file "$PREFIX/$BATCH/BR1__2021-Measurement1/Images/a.xml")"
	same "key" "$(xattr key "$P/$BATCH/$SPACED/Images/a.xml")" "$PREFIX/$BATCH/BR1__2021-Measurement1/Images/a.xml"
	refresh
	same "names shown" "$(ls "$P/$BATCH")" "$SPACED"
	mount_end
	mount_start --naming clean
	same "names shown" "$(ls "$P/$BATCH")" "$SPACED"
	cmp "$T/src/a.xml" "$P/$BATCH/$SPACED/Images/a.xml"
}

# The commands take the name that the mount shows, and that of the key.
test_commands_where_names_are_cleaned() {
	local clean=$PREFIX/$BATCH/BR1__2021-Measurement1 platemaps="workspace/metadata/platemaps/Batch 1"
	begin --naming clean
	put_spaced
	mkdir -p "$P/$platemaps"
	echo Assay_Plate_Barcode,Plate_Map_Name >"$P/$platemaps/barcode_platemap.csv"
	exits 0 all_verified
	for path in "$P/$BATCH/$SPACED" "$M/$clean"; do
		exits 0 "$CPGFS" report --sha256 -o "$T/report" "$path"
		same "files of $path" "$(cut -f1 "$T/report/manifest.tsv" | sed 1d | tr '\n' ' ')" \
			"$clean/Images/a.xml $clean/Images/b.xml "
		exits 0 "$CPGFS" verify "$path"
		says "2 files"
		exits 0 "$CPGFS" ls -R "$path"
		says "$clean/Images/a.xml"
	done
	exits 0 "$CPGFS" report -o "$T/report" "$P/workspace" # its table can be read
	exits 0 "$CPGFS" verify "$P/$BATCH/$SPACED/Images/a.xml"
	mkdir "$T/src/plate"
	cp "$T/src/a.xml" "$T/src/plate/a.xml"
	cp "$T/src/a.xml" "$T/src/plate/b.xml"
	exits 0 "$CPGFS" verify "$T/src/plate" "$P/$BATCH/$SPACED/Images"
	# what is still to come is said under both
	"$CPGFS" pause "$M"
	cp "$T/src/a.xml" "$P/$BATCH/$SPACED/Images/c.xml"
	for path in "$P/$BATCH/$SPACED" "$M/$clean"; do
		exits 2 "$CPGFS" report -o "$T/report" "$path"
		exits 2 "$CPGFS" verify "$path"
		says "not in the bucket yet: 1 files"
	done
	# a paused mount counts what is there for its plate
	exits 2 "$CPGFS" status "$M"
	says "  $PREFIX/2021_04_26_Batch1/BR1__2021-Measurement1  3 files"
}

test_clean_replaces_characters() {
	begin --naming clean --clean-with _
	put_spaced
	exits 0 all_verified
	cmp "$T/src/a.xml" "$(bucket_file "$PREFIX/$BATCH/BR1__2021-Measurement_1/Images/a.xml")"
}

test_two_names_with_one_clean_key() {
	begin --naming clean
	put_spaced
	exits 0 all_verified
	mkdir -p "$P/$BATCH/BR1__2021-Measurement1/Images"
	make_file "$T/src/other.xml" 6000
	cp "$T/src/other.xml" "$P/$BATCH/BR1__2021-Measurement1/Images/a.xml"
	exits 3 "$CPGFS" wait --timeout 30 "$M"
	same "state" "$(state "$P/$BATCH/BR1__2021-Measurement1/Images/a.xml")" held
	cmp "$T/src/a.xml" "$(bucket_file "$PREFIX/$BATCH/BR1__2021-Measurement1/Images/a.xml")"
	cmp "$T/src/other.xml" "$P/$BATCH/BR1__2021-Measurement1/Images/a.xml"
}

test_refuse() {
	begin --naming refuse
	fails_with 'Invalid argument' mkdir "$P/$BATCH/$SPACED"
	mkdir "$P/$BATCH/plate"
	# mv has words of its own for this errno
	fails_with 'Invalid argument' "$PYTHON" -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' \
		"$P/$BATCH/plate" "$P/$BATCH/plate 1"
	test -d "$P/$BATCH/plate"
	grep -q "$SPACED" "$M/.cpgfs/rejected.tsv" || fail "rejected.tsv does not name it"
}

test_off() {
	begin --naming off
	put_spaced
	exits 0 all_verified
	cmp "$T/src/a.xml" "$(bucket_file "$PREFIX/$BATCH/$SPACED/Images/a.xml")"
}

test_below_the_plate_names_are_free() {
	begin
	local name
	mkdir -p "$P/$BATCH/plate/with space/Seg.zarr" "$T/src/all/with space/Seg.zarr"
	for name in 'A - 01(fld 1 wv 390 - Blue).tif.xml' 'with space/+%~=&,;:@!$ .xml' 'with space/Größe-µm-日本.xml' \
		'Seg.zarr/.zgroup' 'with space/back\slash.xml' "with space/quote'\".xml" 'with space/?#[].xml' '-n' '#x'; do
		make_file "$T/src/all/$name" 700 "$name"
	done
	cp -r "$T/src/all/." "$P/$BATCH/plate/"
	exits 0 all_verified
	same_in_bucket "$T/src/all" "$PREFIX/$BATCH/plate"
	same "verified files" "$(status_json files.verified)" 9
	mount_end
	CACHE=$T/other mount_start
	same_tree "$T/src/all" "$P/$BATCH/plate"
}

run_tests "$@"
