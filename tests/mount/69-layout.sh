#!/usr/bin/env bash
# The gallery's layout in a mount: what is listed, what --layout=enforce refuses, plates as pictures.
. "$(dirname "$0")/lib.sh"

PLATE=images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1
PLATES=.cpgfs/plates/cpg0123-example/broad/2021_04_26_Batch1/BR00117035__2021-05-02T16_02_51-Measurement1

layout_says() { # PATH CLASS RULE TEXT
	awk -F '\t' -v path="$PREFIX/$1" -v class="$2" -v rule="$3" -v text="$4" \
		'$1 == path && $2 == class && $3 == rule && index($4, text) { found = 1 } END { exit !found }' \
		"$M/.cpgfs/layout.tsv" || fail "no $2 $3 for $1 in
$(cat "$M/.cpgfs/layout.tsv")"
}

test_what_is_misplaced_is_listed() {
	make_plate
	s3d_start
	mount_start
	copy_plate
	same "lines of a clean plate" "$(wc -l <"$M/.cpgfs/layout.tsv")" 1
	mkdir -p "$P/images/Batch9/EC1__x/Images" "$P/workspace/scratch"
	echo x >"$P/images/Batch9/EC1__x/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"
	echo x >"$P/workspace/scratch/x"
	layout_says images/Batch9/EC1__x/Images/r01c01f01p01-ch1sk1fk1fl1.tiff wrong images.inner \
		"the inner images/ is missing"
	layout_says workspace/scratch/x warn workspace.unknown scratch
	same lines "$(wc -l <"$M/.cpgfs/layout.tsv")" 3
	rm "$P/workspace/scratch/x"
	same lines "$(wc -l <"$M/.cpgfs/layout.tsv")" 2
}

test_enforced() {
	need rsync
	make_plate
	s3d_start
	mount_start --layout=enforce
	cp -r "$SRC/." "$P"
	fails_with "Operation not permitted" mkdir "$P/pictures"
	fails_with "Operation not permitted" mkdir "$P/images/B/images_unprojected/x" -p
	mkdir -p "$P/images/Batch9" "$P/workspace/scratch/deep"
	echo x >"$P/workspace/scratch/deep/x"
	fails_with "Operation not permitted" cp -r "$SRC/$PLATE" "$P/images/Batch9"
	fails_with "Operation not permitted" cp "$SRC/$PLATE/Images/Index.idx.xml" "$P/workspace/profiles/README.md"
	fails_with "Operation not permitted" mv "$P/$PLATE/Images/Index.idx.xml" "$P/workspace/profiles/"
	# its temporary name passes, the real one does not
	fails_with "Operation not permitted" rsync "$SRC/$PLATE/Images/Index.idx.xml" "$P/workspace/profiles/README.md"
	grep -q "profiles/README.md	refused	" "$M/.cpgfs/rejected.tsv"
	grep -q "pictures	refused	.*there the gallery wants" "$M/.cpgfs/rejected.tsv"
	exits 0 all_verified
}

test_standard_folders() {
	need rsync
	make_plate
	s3d_start
	mount_start
	same "top" "$(ls "$P" | xargs)" "images workspace"
	same "below" "$(find "$P" -mindepth 2 | sort | sed "s|$P/||" | xargs)" \
		"workspace/load_data_csv workspace/metadata workspace/metadata/platemaps"
	# nobody made them: not here, not there
	same "in the pure view" "$(ls "$M/.cpgfs/remote/$PREFIX")" ""
	same "listed" "$("$CPGFS" ls -R "$M" || true)" ""
	mkdir -p "$P/images" "$P/workspace/metadata"
	fails_with "File exists" mkdir "$P/workspace"
	rmdir "$P/workspace/metadata" "$P/workspace/load_data_csv" "$P/workspace" "$P/images"
	same "top" "$(ls -A "$P")" ""
	mount_end
	mount_start
	# a batch to where it belongs; everything else with what synchronises
	cp -r "$SRC/images/2021_04_26_Batch1" "$P/images/"
	same_tree "$SRC/images" "$P/images"
	cp -r "$SRC/workspace/metadata/platemaps/2021_04_26_Batch1" "$P/workspace/metadata/platemaps/"
	rsync -a --delete "$SRC/" "$P/"
	same "left to do" "$(rsync -ain --delete "$SRC/" "$P/" | grep -v '^\.d' || true)" ""
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	same "markers" "$(find "$T/s3/$BUCKET" -type d -empty | wc -l)" 0
	same "puts" "$(puts)" "$(find "$SRC" -type f | wc -l)"
	cp -r "$P/." "$T/copy"
	same_tree "$SRC" "$T/copy"
	rm -r "$P/workspace"
	same "top" "$(ls "$P")" images
	# what is not shown by anybody is deleted by rsync, too
	mount_end
	mount_start
	rm -r "$SRC/workspace"
	rsync -a --delete "$SRC/" "$P/"
	same "top" "$(ls "$P")" images
}

test_off() {
	s3d_start
	mount_start --layout=off
	mkdir -p "$P/pictures"
	echo x >"$P/pictures/x"
	same lines "$(wc -l <"$M/.cpgfs/layout.tsv")" 1
	same plates "$(ls "$M/.cpgfs/plates" | wc -l)" 0
	same folders "$(ls "$P")" pictures
	fails_with "does not fit" "$CPGFS" mount --layout=strict "s3://$BUCKET" "$T/other"
}

test_plates_as_pictures() {
	make_plate
	s3d_start
	mount_start --paused
	copy_plate
	rm "$P/$PLATE/Images/r01c02f01p01-ch1sk1fk1fl1.tiff"
	find "$M/.cpgfs/plates" -type f | sort >"$T/pictures"
	printf '%s\n' "$M/$PLATES.svg" "$M/$PLATES.txt" | cmp - "$T/pictures"
	grep -q '^ A c - c' "$M/$PLATES.txt" || fail "$(cat "$M/$PLATES.txt")"
	"$CPGFS" resume "$M"
	exits 0 all_verified
	grep -q '^ A V - V' "$M/$PLATES.txt" || fail "$(cat "$M/$PLATES.txt")"
	"$PYTHON" - "$M/$PLATES.svg" <<-'PY'
	import sys, xml.dom.minidom
	titles = [t.firstChild.data for t in xml.dom.minidom.parse(sys.argv[1]).getElementsByTagName("title")]
	wells = {t.split(":")[0]: t for t in titles}
	assert "A01" in wells and "verified" in wells["A01"], wells
	full = wells["A01"].split()[1]
	assert wells["A02"].split()[1] == str(int(full) - 1), wells
	PY
	"$CPGFS" status --plates "$M" >"$T/shown"
	grep -q '^ A V - V' "$T/shown" || fail "$(cat "$T/shown")"
	not grep -q $'\e' "$T/shown"
	fails_with "No such file" cat "$M/.cpgfs/plates/cpg0123-example/broad/2021_04_26_Batch1/none.svg"
	fails_with "No such file" ls "$M/.cpgfs/plates/cpg0123-example/no"
}

test_a_live_screen() {
	needs_terminals
	make_plate
	s3d_start
	mount_start --paused
	copy_plate
	exits 1 "$CPGFS" status --watch "$M"
	says "--watch needs a terminal"
	"$PYTHON" - "$CPGFS" "$M" <<-'PY'
	import fcntl, os, pty, select, signal, struct, subprocess, sys, termios, time
	cpgfs, mount = sys.argv[1:]
	pid, terminal = pty.fork()
	if pid == 0:
	    os.execv(cpgfs, [cpgfs, "status", "--watch", mount])
	fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
	seen = b""
	def until(what):
	    global seen
	    end = time.monotonic() + 30
	    while what not in seen:
	        assert time.monotonic() < end, (what, seen)
	        if select.select([terminal], [], [], 0.2)[0]:
	            try:
	                seen += os.read(terminal, 65536)
	            except OSError:
	                break
	    assert what in seen, (what, seen)
	until(b"by hand")
	until(b"] 0/")
	subprocess.run([cpgfs, "resume", mount], check=True)
	subprocess.run([cpgfs, "wait", "--timeout", "30", mount], check=True)
	seen = b""
	until(b"100%")
	os.write(terminal, b"q")
	until(b"\x1b[?1049l")
	status = os.waitpid(pid, 0)[1]
	assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status
	PY
}

run_tests "$@"
