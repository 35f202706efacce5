#!/usr/bin/env bash
# Junk and temporary names stay here, on every component of the path.
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start "$@"
	make_file "$T/src/a" 5000
	mkdir -p "$P/images"
	I=$P/images
}

test_junk_does_not_count() {
	begin
	local name
	mkdir "$I/\$RECYCLE.BIN" "$I/System Volume Information"
	for name in .DS_Store Thumbs.db desktop.ini ._a.tiff '$RECYCLE.BIN/x' 'System Volume Information/y'; do
		cp "$T/src/a" "$I/$name"
	done
	cp "$T/src/a" "$I/real.bin"
	exits 0 all_verified
	same "held files" "$(status_json files.held)" 6
	same "objects" "$(find "$T/s3/$BUCKET" -type f -printf '%P\n')" "$PREFIX/images/real.bin"
	same "state" "$(state "$I/.DS_Store")" held
}

test_temporary_names_are_pending() {
	begin
	local name
	mkdir "$I/.~tmp~" "$I/.rsync-partial" "$I/x.partial"
	for name in .a.tiff.Ab12Cd a.part a.partial a.tmp .fuse_hidden0001 .nfs0002 .~tmp~/x .rsync-partial/y x.partial/z; do
		cp "$T/src/a" "$I/$name"
	done
	wait_for 20 status_is files.held 9
	exits 2 "$CPGFS" wait --timeout 2 "$M"
	no_files_below "$T/s3/$BUCKET"
	mv "$I/a.part" "$I/a.bin"
	mv "$I/.~tmp~/x" "$I/x.bin"
	mv "$I/x.partial" "$I/x"
	rm -r "$I/.a.tiff.Ab12Cd" "$I/a.partial" "$I/a.tmp" "$I/.fuse_hidden0001" "$I/.nfs0002" "$I/.~tmp~" "$I/.rsync-partial"
	exits 0 all_verified
	same "objects" "$(cd "$T/s3/$BUCKET/$PREFIX/images" && find . -type f -printf '%P ' | tr ' ' '\n' | sort | tr '\n' ' ')" \
		"a.bin x.bin x/z "
}

test_a_real_name_renamed_to_a_temporary_one() {
	begin --delete-delay 0
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	mv "$I/a.bin" "$I/a.bin.tmp"
	exits 2 "$CPGFS" wait --timeout 1 "$M"
	cmp "$T/src/a" "$I/a.bin.tmp"
	refresh
	same "names" "$(ls "$I")" a.bin.tmp
	# the object goes when it has found another place: until then it is the copy that is safe
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
	same "DeleteObject requests" "$(requests DeleteObject)" 0
	mv "$I/a.bin.tmp" "$I/a.bin"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
	same "PutObject requests" "$(requests PutObject)" 1
	mv "$I/a.bin" "$I/a.bin.tmp"
	echo new >"$I/a.bin"
	mv "$I/a.bin.tmp" "$I/b.bin"
	exits 0 all_verified
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/b.bin")"
	same "content" "$(cat "$(bucket_file "$PREFIX/images/a.bin")")" new
	mv "$I/b.bin" "$I/b.bin.tmp"
	rm "$I/b.bin.tmp"
	exits 0 all_verified
	wait_for 20 not test -e "$(bucket_file "$PREFIX/images/b.bin")"
}

run_tests "$@"
