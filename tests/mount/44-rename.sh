#!/usr/bin/env bash
# Renaming before, while and after the upload: the bucket follows, nothing is lost or left behind.
# long
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start --delete-delay 0 "$@"
	mkdir -p "$P/images"
	I=$P/images
	make_file "$T/src/a" 300000
}

bucket_holds() { # NAME…: exactly these below images/
	[ "$(cd "$(bucket_file "$PREFIX/images")" && find . -type f -printf '%P\n' | sort)" = \
		"$(printf '%s\n' "$@" | sort)" ]
}

test_a_file_before_its_upload() {
	begin --paused
	cp "$T/src/a" "$I/a.bin"
	mv "$I/a.bin" "$I/b.bin"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	bucket_holds b.bin
	same "PutObject requests" "$(requests PutObject)" 1
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/b.bin")"
}

test_a_file_while_it_is_sent() {
	begin
	faults <<<"PutObject n=1 hold=$T/go"
	cp "$T/src/a" "$I/a.bin"
	wait_for 20 is_state sending "$I/a.bin"
	mv "$I/a.bin" "$I/b.bin"
	same "names" "$(ls "$I")" b.bin
	touch "$T/go"
	exits 0 all_verified
	wait_for 20 bucket_holds b.bin
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/b.bin")"
	refresh
	same "names" "$(ls "$I")" b.bin
}

test_a_file_after_its_upload() {
	begin
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	mv "$I/a.bin" "$I/b.bin"
	same "names" "$(ls "$I")" b.bin
	cmp "$T/src/a" "$I/b.bin"
	exits 0 all_verified
	wait_for 20 bucket_holds b.bin
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/b.bin")"
	"$TOOLS/s3" head "$BUCKET" "$PREFIX/images/b.bin" >"$T/last"
	says x-amz-meta-mtime
	refresh
	same "names" "$(ls "$I")" b.bin
}

test_a_large_file_after_its_upload() {
	begin --part-size 5M --multipart-threshold 5M
	make_file "$T/src/big" 17000000
	cp "$T/src/big" "$I/big.bin"
	exits 0 all_verified
	mv "$I/big.bin" "$I/large.bin"
	exits 0 all_verified
	wait_for 20 bucket_holds large.bin
	cmp "$T/src/big" "$(bucket_file "$PREFIX/images/large.bin")"
	same "open uploads" "$("$TOOLS/s3" uploads "$BUCKET")" ""
}

test_over_an_uploaded_file() {
	begin
	make_file "$T/src/b" 200000
	cp "$T/src/a" "$I/a.bin"
	cp "$T/src/b" "$I/b.bin"
	exits 0 all_verified
	mv "$I/b.bin" "$I/a.bin"
	exits 0 all_verified
	wait_for 20 bucket_holds a.bin
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/a.bin")"
	cmp "$T/src/b" "$I/a.bin"
}

test_two_files_swap_their_names() {
	begin
	make_file "$T/src/b" 200000
	cp "$T/src/a" "$I/a.bin"
	cp "$T/src/b" "$I/b.bin"
	exits 0 all_verified
	mv "$I/a.bin" "$I/c.bin"
	mv "$I/b.bin" "$I/a.bin"
	mv "$I/c.bin" "$I/b.bin"
	exits 0 all_verified
	wait_for 20 bucket_holds a.bin b.bin
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/a.bin")"
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/b.bin")"
}

test_there_and_back_again() {
	begin
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	local n
	for n in 1 2 3 4 5; do
		mv "$I/a.bin" "$I/b.bin"
		mv "$I/b.bin" "$I/a.bin"
	done
	exits 0 all_verified
	wait_for 20 bucket_holds a.bin
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/a.bin")"
}

test_changed_and_renamed_and_changed() {
	begin
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	echo one >>"$I/a.bin"
	mv "$I/a.bin" "$I/b.bin"
	echo two >>"$I/b.bin"
	(cat "$T/src/a" && echo one && echo two) >"$T/src/want"
	exits 0 all_verified
	wait_for 20 bucket_holds b.bin
	cmp "$T/src/want" "$(bucket_file "$PREFIX/images/b.bin")"
}

fill_folder() { # NAME COUNT
	local n
	mkdir "$I/$1" "$I/$1/sub" "$T/src/tree" "$T/src/tree/sub"
	for ((n = 0; n < $2; n++)); do
		make_file "$T/src/tree/$n.bin" 5000
		make_file "$T/src/tree/sub/$n.bin" 6000
	done
	cp -r "$T/src/tree/." "$I/$1/"
}

test_a_folder_before_its_upload() {
	begin --paused
	fill_folder one 10
	mv "$I/one" "$I/two"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	same_in_bucket "$T/src/tree" "$PREFIX/images/two"
	not test -e "$(bucket_file "$PREFIX/images/one")"
	same "PutObject requests" "$(puts)" 20
}

test_a_folder_while_it_is_sent() {
	begin --max-transfers 4
	faults <<<"PutObject n=5+ hold=$T/go"
	fill_folder one 10
	wait_for 20 objects_below one 4
	mv "$I/one" "$I/two"
	same_tree "$T/src/tree" "$I/two"
	not test -e "$I/one"
	touch "$T/go"
	exits 0 all_verified
	wait_for 20 no_files_below "$(bucket_file "$PREFIX/images/one")"
	same_in_bucket "$T/src/tree" "$PREFIX/images/two"
	refresh
	same "names" "$(ls "$I")" two
}

objects_below() { # FOLDER AT-LEAST
	[ "$(find "$(bucket_file "$PREFIX/images/$1")" -type f | wc -l)" -ge "$2" ]
}

test_a_folder_after_its_upload() {
	begin
	fill_folder one 10
	exits 0 all_verified
	mv "$I/one" "$I/two"
	same_tree "$T/src/tree" "$I/two"
	exits 0 all_verified
	wait_for 20 no_files_below "$(bucket_file "$PREFIX/images/one")"
	same_in_bucket "$T/src/tree" "$PREFIX/images/two"
	refresh
	same "names" "$(ls "$I")" two
	same_tree "$T/src/tree" "$I/two"
}

test_a_folder_twice_and_a_crash_between() {
	begin
	fill_folder one 20
	exits 0 all_verified
	mv "$I/one" "$I/two"
	mv "$I/two/sub" "$I/two/deep"
	mount_crash
	mount_start --delete-delay 0
	mv "$I/two" "$I/three"
	mv "$T/src/tree/sub" "$T/src/tree/deep"
	exits 0 all_verified
	wait_for 30 no_files_below "$(bucket_file "$PREFIX/images/one")"
	wait_for 30 no_files_below "$(bucket_file "$PREFIX/images/two")"
	same_in_bucket "$T/src/tree" "$PREFIX/images/three"
	same_tree "$T/src/tree" "$I/three"
}

# Its object stays under the old key until the new version is there: no folder shows of that.
test_written_again_and_moved_then_mounted_anew() {
	begin
	mkdir "$I/one" "$I/two"
	cp "$T/src/a" "$I/one/a.bin"
	exits 0 all_verified
	"$CPGFS" pause "$M"
	echo new >"$I/one/a.bin"
	mv "$I/one/a.bin" "$I/two/a.bin"
	rmdir "$I/one"
	mount_end
	mount_start --delete-delay 0 --paused
	same "shown" "$(ls "$I")" two
	ls "$M/.cpgfs/remote/$PREFIX/images/one" >"$T/remote"
	same "in the bucket" "$(cat "$T/remote")" a.bin
	same "shown after that" "$(ls "$I")" two
	"$CPGFS" resume "$M"
	exits 0 all_verified
	wait_for 30 no_files_below "$(bucket_file "$PREFIX/images/one")"
	same "content" "$(cat "$(bucket_file "$PREFIX/images/two/a.bin")")" new
}

test_a_new_file_under_the_old_name() {
	begin
	cp "$T/src/a" "$I/a.bin"
	exits 0 all_verified
	make_file "$T/src/b" 100000
	mv "$I/a.bin" "$I/old.bin"
	cp "$T/src/b" "$I/a.bin"
	exits 0 all_verified
	wait_for 20 bucket_holds a.bin old.bin
	cmp "$T/src/b" "$(bucket_file "$PREFIX/images/a.bin")"
	cmp "$T/src/a" "$(bucket_file "$PREFIX/images/old.bin")"
}

test_flags_of_renameat2() {
	begin
	cp "$T/src/a" "$I/a.bin"
	echo b >"$I/b.bin"
	"$PYTHON" - "$I" <<-'PY'
	import ctypes, errno, os, sys
	libc = ctypes.CDLL(None, use_errno=True)
	def rename(old, new, flags):
	    old, new = (os.path.join(sys.argv[1], n).encode() for n in (old, new))
	    return ctypes.get_errno() if libc.renameat2(-100, old, -100, new, flags) else 0
	assert rename("a.bin", "b.bin", 1) == errno.EEXIST, "RENAME_NOREPLACE"
	assert rename("a.bin", "c.bin", 1) == 0, "RENAME_NOREPLACE to a free name"
	assert rename("c.bin", "b.bin", 2) in (0, errno.EINVAL), "RENAME_EXCHANGE"
	PY
	fails_with 'subdirectory of itself' mv "$I" "$I/x"
	exits 0 all_verified
}

test_out_of_the_prefix_is_refused() {
	begin
	cp "$T/src/a" "$I/a.bin"
	fails_with 'Permission denied' "$PYTHON" -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' "$I/a.bin" "$M/a.bin"
	fails_with 'Permission denied' "$PYTHON" -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' "$I/a.bin" "$M/cpg0123-example/a.bin"
	cmp "$T/src/a" "$I/a.bin"
}

run_tests "$@"
