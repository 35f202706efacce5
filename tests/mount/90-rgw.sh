#!/usr/bin/env bash
# End to end against Ceph RADOS Gateway, with an uploader who does not own the bucket and a policy that
# refuses objects without the ACL.
# long
. "$(dirname "$0")/lib.sh"

# Every object below PREFIX grants the bucket's owner full control.
owner_controls_all() { # PREFIX
	"$TOOLS/s3" owners "$BUCKET" "$1/" "$CPGFS_RGW_OWNER" >"$T/last" || fail "the owner lacks FULL_CONTROL of:
$(head -n 5 "$T/last")"
}

by_aws() { # PREFIX: "size key", sorted
	aws_cli s3 ls --recursive "s3://$BUCKET/$1/" | sed 's/^[^ ]* [^ ]* *//' | sort -k 2
}

by_ls() { # PREFIX: "date time size key" from `ls -lR` of the pure view
	(cd "$M/.cpgfs/remote" &&
		ls -lR --quoting-style=literal --time-style='+%Y-%m-%d %H:%M:%S' "$1") | awk '
		/^-/ {
			split($0, part, / +/)
			sub(/^-[^ ]+ +[0-9]+ +[^ ]+ +[^ ]+ +[0-9]+ +[-0-9]+ +[:0-9]+ /, "")
			print part[6], part[7], part[5], folder "/" $0
		}
		/^[^-d].*:$/ { folder = substr($0, 1, length($0) - 1) }' | sort -k 4
}

newest_object() {
	aws_cli s3api list-objects-v2 --bucket "$BUCKET" --prefix "$PREFIX/" --output text \
		--query 'sort_by(Contents, &LastModified)[-1].LastModified'
}

deadline_test_a_plate=300
test_a_plate() {
	need "$AWS"
	rgw_use
	"$TOOLS/make-plate" --wells 10 --sites 4 --channels 5 --bytes 2.5M "$T/src" >/dev/null
	SRC=$T/src/$PREFIX
	local odd="$IMAGES/odd/A - 01(fld 1 wv 390 - Blue)+%~=&,;:@!\$'\"?#[]{}|^\`<>\\ * Größe 日本 🔬.xml"
	mkdir -p "$SRC/$IMAGES/odd"
	: >"$SRC/$IMAGES/odd/empty.bin"
	make_file "$SRC/$odd" 12345
	mount_start
	mkdir -p "$P"

	cp -r "$SRC/." "$P/"
	exits 0 all_verified 120
	local files
	files=$(find "$SRC" -type f | wc -l)
	same "files" "$files" 217
	same "verified files" "$(status_json files.verified)" "$files"
	# cp -r gave new times: rsync brings those of the source (as on any disk), and nothing is sent for it
	rsync -a "$SRC/" "$P/"
	same "changes found by rsync" "$(rsync -ain "$SRC/" "$P/")" ""
	exits 0 all_verified
	same "objects sent" "$(uploaded_by_this_mount)" "$files"
	same "files that rsync would send by size" \
		"$(rsync -rn --size-only --out-format=%n "$SRC/" "$M/.cpgfs/remote/$PREFIX/" | grep -v '/$')" ""

	diff <(cd "$SRC" && find . -type f -printf "%s $PREFIX/%P\n" | sort -k 2) <(by_aws "$PREFIX") ||
		fail "aws s3 ls shows other names or sizes"
	diff <("$CPGFS" ls -R "$M/$PREFIX") <(aws_cli s3 ls --recursive "s3://$BUCKET/$PREFIX/") ||
		fail "cpgfs ls -R and aws s3 ls --recursive differ"
	diff <(by_ls "$PREFIX") <(aws_cli s3 ls --recursive "s3://$BUCKET/$PREFIX/" |
		sed -E 's/^([^ ]+ [^ ]+) +/\1 /' | sort -k 4) ||
		fail "ls -lR .cpgfs/remote and aws s3 ls differ"
	same "objects" "$(by_ls "$PREFIX" | wc -l)" "$files"
	mkdir "$T/back"
	aws_cli s3 cp --recursive --only-show-errors "s3://$BUCKET/$PREFIX/" "$T/back/"
	same_tree "$SRC" "$T/back"
	owner_controls_all "$PREFIX"
	same "files with one link" "$(find "$P" -type f -links 1 | wc -l)" 0
	mount_end

	# the cache is lost, and the same plate is copied again
	local newest
	newest=$(newest_object)
	CACHE=$T/other mount_start
	# (cp -a would first delete what has more than one link, and these objects are not ours to delete)
	cp -rp "$SRC/." "$P/"
	same "changes found by rsync after cp -rp" "$(rsync -ain "$SRC/" "$P/")" ""
	exits 0 all_verified 120
	same "verified files in the second cache" "$(status_json files.verified)" "$files"
	same "files uploaded by the second mount" "$(uploaded_by_this_mount)" 0
	same "newest object" "$(newest_object)" "$newest"
}

metric() { # NAME
	sed -n "s/^cpgfs_$1 //p" "$M/.cpgfs/metrics" | grep .
}

uploaded_by_this_mount() {
	metric sent_objects_total
}

test_a_large_file_in_parts() {
	need "$AWS"
	rgw_use
	SOURCE=s3://$BUCKET/$PREFIX_MP mount_start
	mkdir -p "$M/$PREFIX_MP/images"
	make_file "$T/src/big.bin" $((80 << 20))
	cp "$T/src/big.bin" "$M/$PREFIX_MP/images/big.bin"
	exits 0 all_verified
	aws_cli s3 cp --only-show-errors "s3://$BUCKET/$PREFIX_MP/images/big.bin" "$T/back.bin"
	cmp "$T/src/big.bin" "$T/back.bin"
	owner_controls_all "$PREFIX_MP"
	"$TOOLS/s3" head "$BUCKET" "$PREFIX_MP/images/big.bin" >"$T/last"
	grep -q 'etag: ".*-10"' "$T/last" || fail "not in ten parts: $(grep etag "$T/last")"
}

test_without_the_acl_nothing_goes_up_and_nothing_is_lost() {
	expect_log 'AccessDenied|denied'
	rgw_use
	make_plate --batch 2021_05_01_NoAcl --wells 20 --images-only
	local batch=images/2021_05_01_NoAcl files
	files=$(find "$SRC" -type f | wc -l)
	at_least "files" "$files" 80
	mount_start --acl none
	copy_plate
	wait_for 60 refused_by_the_server
	exits 3 "$CPGFS" status "$M"
	says AccessDenied
	says "--acl, now none"
	says "PAUSED: denied"
	# the 20th refusal in a row pauses: that file and the rest stay queued
	at_least "refused files" "$(status_json files.failed)" 19
	at_most "refused files" "$(status_json files.failed)" 60
	at_least "queued files" "$(status_json files.queued)" 1
	same "files" $(($(status_json files.failed) + $(status_json files.queued))) "$files"
	exits 3 "$CPGFS" wait --timeout 2 "$M"
	same "objects" "$("$TOOLS/s3" list "$BUCKET" "$PREFIX/$batch/" | wc -l)" 0
	same_tree "$SRC/$batch" "$P/$batch"
	same "pending bytes" "$(status_json cache.pending_bytes)" "$(bytes_below "$SRC")"
	mount_end

	mount_start
	exits 0 "$CPGFS" retry "$M"
	exits 0 all_verified
	same "verified files" "$(status_json files.verified)" "$files"
	same "files sent" "$(uploaded_by_this_mount)" "$files"
	same_by_get "$SRC/$batch" "$PREFIX/$batch"
	owner_controls_all "$PREFIX/$batch"
}

refused_by_the_server() {
	[ "$(status_json paused_reason)" != null ] &&
		[ "$(status_json files.sending)" = 0 ] && [ "$(status_json files.closed)" = 0 ] &&
		[ "$(status_json files.settled)" = 0 ]
}

bytes_below() { # DIR
	find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }'
}

test_rename_and_delete_follow() {
	rgw_use
	mount_start --delete-delay 0
	local here=$P/images/2021_05_02_Moves there=$PREFIX/images/2021_05_02_Moves
	mkdir -p "$here/one"
	make_file "$T/src/a" 300000
	make_file "$T/src/b" 200000
	cp "$T/src/a" "$here/one/a.bin"
	cp "$T/src/b" "$here/one/b.bin"
	exits 0 all_verified
	mv "$here/one/a.bin" "$here/one/c.bin"
	mv "$here/one" "$here/two"
	rm "$here/two/b.bin"
	exits 0 all_verified
	wait_for 30 keys_are "$there/" "$there/two/c.bin"
	"$TOOLS/s3" get "$BUCKET" "$there/two/c.bin" | cmp - "$T/src/a"
	owner_controls_all "$there"
}

test_our_own_objects_are_replaced() {
	rgw_use
	mount_start
	local here=$P/images/2021_05_07_Again there=$PREFIX/images/2021_05_07_Again
	mkdir -p "$here"
	make_file "$T/src/one.bin" 300000
	make_file "$T/src/two.bin" 400000
	cp "$T/src/one.bin" "$here/one.bin"
	cp "$T/src/two.bin" "$here/two.bin"
	exits 0 all_verified
	make_file "$T/src/one.bin" 250000 again
	cp "$T/src/one.bin" "$here/one.bin"
	echo more | tee -a "$T/src/two.bin" >>"$here/two.bin"
	exits 0 all_verified 30
	same_by_get "$T/src" "$there"
	same "objects sent" "$(uploaded_by_this_mount)" 4
	owner_controls_all "$there"
}

keys_are() { # PREFIX KEY…
	[ "$("$TOOLS/s3" list "$BUCKET" "$1" | cut -f 2)" = "$(printf '%s\n' "${@:2}")" ]
}

deadline_test_the_gateway_stops_for_a_while=120
test_the_gateway_stops_for_a_while() {
	expect_log 'unreachable|not reach|refused|connect|endpoint|network|reset|retry|answer'
	rgw_use
	[ -w "$RGW_DIR" ] || skip "the gateway is another user's"
	make_plate --batch 2021_05_03_Outage --wells 10 --bytes 500K
	mount_start
	mkdir -p "$P"
	cp -r "$SRC/images" "$P/"
	rgw_pause
	cp -r "$SRC/workspace" "$P/"
	same_tree "$SRC/images/2021_05_03_Outage" "$P/images/2021_05_03_Outage"
	rgw_resume
	exits 0 all_verified 100
	same_by_get "$SRC/images/2021_05_03_Outage" "$PREFIX/images/2021_05_03_Outage"
}

deadline_test_killed_while_uploading=180
test_killed_while_uploading() {
	rgw_use
	make_plate --batch 2021_05_05_Kill --wells 20 --sites 4 --bytes 400K --images-only
	local batch=images/2021_05_05_Kill files round
	files=$(find "$SRC" -type f | wc -l)
	at_least "files" "$files" 160
	mount_start
	copy_plate
	for round in 1 2 3; do
		wait_for 60 objects_at_least $((round * 30)) "$PREFIX/$batch/"
		mount_crash
		mount_start
	done
	exits 0 all_verified
	same "verified files" "$(status_json files.verified)" "$files"
	same_by_get "$SRC/$batch" "$PREFIX/$batch"
	owner_controls_all "$PREFIX/$batch"
	same "files with one link" "$(find "$P/$batch" -type f -links 1 | wc -l)" 0
}

objects_at_least() { # NUMBER PREFIX
	[ "$("$TOOLS/s3" list "$BUCKET" "$2" | wc -l)" -ge "$1" ]
}

test_killed_between_parts() {
	rgw_use
	SOURCE=s3://$BUCKET/$PREFIX_MP mount_start
	mkdir -p "$M/$PREFIX_MP/images"
	make_file "$T/src/big.bin" $((160 << 20))
	cp "$T/src/big.bin" "$M/$PREFIX_MP/images/killed.bin"
	wait_for 60 sent_bytes_at_least $((16 << 20))
	mount_crash
	SOURCE=s3://$BUCKET/$PREFIX_MP mount_start
	exits 0 all_verified
	# the parts that were there are not sent again
	at_most "bytes sent after the crash" "$(metric sent_bytes_total)" $((144 << 20))
	"$TOOLS/s3" get "$BUCKET" "$PREFIX_MP/images/killed.bin" | cmp - "$T/src/big.bin"
	owner_controls_all "$PREFIX_MP"
	same "uploads left open" "$(open_uploads)" ""
}

sent_bytes_at_least() { # NUMBER
	[ "$(metric sent_bytes_total)" -ge "$1" ]
}

# For judge_uploads, too. Only the owner may list them.
open_uploads() {
	AWS_ACCESS_KEY_ID=$CPGFS_RGW_OWNER_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CPGFS_RGW_OWNER_SECRET_KEY \
		"$TOOLS/s3" uploads "$BUCKET"
}

test_the_gateway_is_down_when_mounting() {
	expect_log 'unreachable|not reach|refused|connect|endpoint|network|reset|retry|answer'
	rgw_use
	[ -w "$RGW_DIR" ] || skip "the gateway is another user's"
	make_plate --batch 2021_05_06_Down --images-only
	rgw_pause
	mount_start
	copy_plate
	same_tree "$SRC" "$P"
	rgw_resume
	exits 0 all_verified
	same_by_get "$SRC/images/2021_05_06_Down" "$PREFIX/images/2021_05_06_Down"
}

test_another_tools_upload_is_adopted() {
	need "$AWS"
	rgw_use
	make_plate --batch 2021_05_04_Adopt --images-only
	aws_cli s3 cp --recursive --only-show-errors --acl bucket-owner-full-control "$SRC" "s3://$BUCKET/$PREFIX"
	mount_start
	copy_plate
	exits 0 all_verified
	same "files uploaded" "$(uploaded_by_this_mount)" 0
	make_file "$T/src/other" 7777
	cp "$T/src/other" "$P/images/2021_05_04_Adopt/images/x.bin"
	exits 0 all_verified
	same "files uploaded" "$(uploaded_by_this_mount)" 1
}

test_outside_the_grant_is_said_when_mounting() {
	expect_log 'denied|AccessDenied'
	rgw_use
	SOURCE=s3://$BUCKET/cpg0999-other/broad exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/c2" \
		"s3://no-such-bucket-here/$PREFIX" "$M"
	AWS_SECRET_ACCESS_KEY=wrong exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/c3" "s3://$BUCKET/$PREFIX" "$M"
	not mountpoint -q "$M"
}

# What the bucket's policy demands, and this gateway's ways, are found out before a mount.
test_check_finds_out() {
	rgw_use
	exits 0 "$CPGFS" check --quick --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX_MP"
	says "ok    put"
	says "signing their SHA-256"
	says "ok    multipart"
	says "ok    delete"
	# here the policy wants the ACL of every request, also of those that have none
	exits 3 "$CPGFS" check --quick --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX"
	says "ok    put"
	says "FAIL  multipart"
	exits 3 "$CPGFS" check --quick --acl none --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX"
	says "FAIL  acl           objects without an ACL"
	exits 3 "$CPGFS" check --quick --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/cpg0999-another/broad"
	says "FAIL  list"
	exits 0 "$CPGFS" check --quick --no-write --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX"
	same "probes left" "$("$TOOLS/s3" list "$BUCKET" "$PREFIX/" | grep -c cpgfs-check || true)" 0
	same "probes left" "$("$TOOLS/s3" list "$BUCKET" "$PREFIX_MP/" | grep -c cpgfs-check || true)" 0
}

# Long-lived keys that may do nothing but assume a role, as a gallery's contributor has them. The role is
# assumed again in the middle of an upload in parts (a pause holds it there): the same upload goes on.
deadline_test_a_role_is_assumed=180
test_a_role_is_assumed() {
	rgw_use_sts
	local log=$RGW_DIR/log/sts.log from parts writer
	contributor_profile "$CPGFS_RGW_ROLE"
	fails_with "403 AccessDenied" put_as_contributor "$PREFIX_MP/by-keys-alone"
	make_plate --batch 2021_05_08_Role
	mount_start --profile up
	copy_plate
	exits 0 all_verified
	same_by_get_as_uploader "$SRC/images/2021_05_08_Role" "$PREFIX/images/2021_05_08_Role"
	mount_end

	CACHE=$T/cache2
	from=$(wc -l <"$log")
	SOURCE=s3://$BUCKET/$PREFIX_MP mount_start --profile up
	mkdir -p "$M/$PREFIX_MP/images"
	make_file "$T/src/big.bin" $((80 << 20))
	# what is there of it is sent while it is written: it must not be closed, as a shell does after each command
	"$PYTHON" -c '
import os, sys, time
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as out:
    out.write(source.read(40 << 20))
    out.flush()
    deadline = time.monotonic() + 150
    while not os.path.exists(sys.argv[3]) and time.monotonic() < deadline:
        time.sleep(0.05)
    out.write(source.read())' "$T/src/big.bin" "$M/$PREFIX_MP/images/role.bin" "$T/go" &
	writer=$!
	wait_for 60 sent_bytes_at_least $((16 << 20))
	"$CPGFS" retry "$M" >/dev/null # renews, too
	wait_for 60 roles_assumed 2 "$log" "$from"
	: >"$T/go"
	wait $writer
	exits 0 all_verified
	exits 0 "$CPGFS" verify --deep "$M"
	roles_assumed 2 "$log" "$from" || fail "the role was assumed more than twice"
	tail -n "+$((from + 1))" "$log" >"$T/gateway.log"
	same "uploads begun" "$(grep -c '"POST /[^ ]*/role.bin?uploads' "$T/gateway.log")" 1
	parts=$(grep -o '"PUT /[^ ]*/role.bin?[^ ]*' "$T/gateway.log" | grep -o 'partNumber=[0-9]*' | sort -u | wc -l)
	same "parts" "$parts" 10
	as_uploader "$TOOLS/s3" get "$BUCKET" "$PREFIX_MP/images/role.bin" | cmp - "$T/src/big.bin"
	as_uploader owner_controls_all "$PREFIX_MP"
}

roles_assumed() { # NUMBER LOG LINES-BEFORE
	[ "$(tail -n "+$(($3 + 1))" "$2" | grep -c '"POST / HTTP')" = "$1" ]
}

# A role that is not there, and one whose trust is not ours, are said when mounting.
test_a_role_that_is_refused() {
	rgw_use_sts
	contributor_profile "$CPGFS_RGW_ROLE-not"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --profile up --cache-dir "$T/c1" "s3://$BUCKET/$PREFIX" "$M"
	says "STS refuses $CPGFS_RGW_ROLE-not"
	not mountpoint -q "$M"
	contributor_profile "$CPGFS_RGW_ROLE" "$CPGFS_RGW_UPLOADER_ACCESS_KEY" "$CPGFS_RGW_UPLOADER_SECRET_KEY"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --profile up --cache-dir "$T/c2" "s3://$BUCKET/$PREFIX" "$M"
	says "STS refuses $CPGFS_RGW_ROLE: AccessDenied"
	says "see whether these keys may assume that role"
	not mountpoint -q "$M"
}

# Another gateway of the same objects: keys of a role are good there.
rgw_use_sts() {
	rgw_use
	[ -w "$RGW_DIR" ] || skip "the gateway is another user's"
	CPGFS_TEST_CASE="$FILE_T" "$TESTS/rgw/rgw" sts "$RGW_DIR"
	. "$RGW_DIR/env"
	ENDPOINT=$CPGFS_RGW_STS_ENDPOINT
	export AWS_ENDPOINT_URL=$ENDPOINT
}

# Profile "up" assumes ROLE with these keys (the contributor's); the environment has none.
contributor_profile() { # ROLE [KEY SECRET]
	mkdir -p "$HOME/.aws"
	printf '[profile up]\nrole_arn = %s\nsource_profile = keys\n[keys]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
		"$1" "${2:-$CPGFS_RGW_CONTRIBUTOR_ACCESS_KEY}" "${3:-$CPGFS_RGW_CONTRIBUTOR_SECRET_KEY}" >"$HOME/.aws/config"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
}

put_as_contributor() { # KEY
	echo x >"$T/x"
	AWS_ACCESS_KEY_ID=$CPGFS_RGW_CONTRIBUTOR_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CPGFS_RGW_CONTRIBUTOR_SECRET_KEY \
		put_elsewhere "$1" "$T/x"
}

as_uploader() { # COMMAND…
	(
		export AWS_ACCESS_KEY_ID=$CPGFS_RGW_UPLOADER_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CPGFS_RGW_UPLOADER_SECRET_KEY
		"$@"
	)
}

same_by_get_as_uploader() {
	as_uploader same_by_get "$@"
}

run_tests "$@"
