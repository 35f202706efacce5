#!/usr/bin/env bash
# cpgfs check: each line, well and failing, with its remedy; and it leaves nothing behind.
# rights: user
. "$(dirname "$0")/lib.sh"

readonly COMMON=(--cache-dir "${T:-}/cache" --min-free 100M)
QUICK=--quick

run_check() { # OPTION…
	env PATH="${CHECK_PATH:-$PATH}" "$CPGFS" check $QUICK --endpoint "$ENDPOINT" "${COMMON[@]}" "$@"
}

# STATUS LINE-REGEX… -- OPTION…: check ends so, and each of these stands at the start of a line.
checked() {
	local want=$1 lines=()
	shift
	while [ "$1" != -- ]; do
		lines+=("$1")
		shift
	done
	shift
	exits "$want" run_check "$@"
	local line
	for line in "${lines[@]}"; do
		grep -qE "^$line" "$T/last" || fail "no line '$line':
$(cat "$T/last")"
	done
	no_fail_beside "${lines[@]}"
}

# Every FAIL is one that was named, and none is without a remedy.
no_fail_beside() {
	local odd
	odd=$(grep '^FAIL' "$T/last" | grep -vE "$(printf '^%s|' "$@" | sed 's/|$//')" || true)
	[ -z "$odd" ] || fail "fails, too: $odd"
	same "failures without a remedy" "$(awk '/^FAIL/ { name = $2; next } name && !/^ +->/ { print name } { name = "" } END { if (name) print name }' "$T/last" | grep -c . || true)" 0
}

of() {
	echo "s3://$BUCKET/$PREFIX"
}

bucket_is_empty() {
	same "objects left" "$(find "$T/s3/$BUCKET" -type f 2>/dev/null | wc -l)" 0
	same "parts left" "$(find "$T/s3/.s3d" -type f -path '*upload*' 2>/dev/null | wc -l)" 0
}

test_all_is_well() {
	s3d_start
	QUICK=
	checked 0 'ok +fuse' 'ok +cache-space' 'ok +cache-inodes|warn +cache-inodes' 'ok +credentials +environment' 'ok +server' \
		'ok +clock' 'ok +region +us-east-1' 'ok +list' 'ok +put .*bucket-owner-full-control' 'ok +acl' 'ok +checksum .*CRC64NVME' \
		'ok +head +size, checksum and ETag' 'ok +conditions' 'ok +multipart' 'ok +rate' 'ok +delete' -- "$(of)"
	bucket_is_empty
	same "PutObject outside the prefix" "$(requests PutObject | cat; awk -F'\t' '$3 == "PutObject"' "$T/requests.log" | grep -vc "$PREFIX/.cpgfs-check-" || true)" "$(requests PutObject)
0"
	# nothing of a cache was made
	[ ! -e "$T/cache" ] || fail "the cache directory was made"
	exits 0 run_check --json "$(of)"
	"$PYTHON" - "$T/last" <<-'PY'
	import json, sys
	report = json.load(open(sys.argv[1]))
	checks = {c["check"]: c for c in report["checks"]}
	assert report["result"] in ("ok", "warn"), report["result"]
	assert all(c["result"] in ("ok", "warn") for c in report["checks"]), checks
	assert all("remedy" in c for c in report["checks"] if c["result"] == "warn"), checks
	assert checks["cache-speed"]["bytes_per_s"] > 0
	assert checks["cache-space"]["plates"] > 0
	assert checks["list"]["round_trip_ms"] >= 0
	assert checks["rate"]["bytes_per_s"] > 0
	PY
}

test_no_write_writes_nothing() {
	s3d_start
	checked 0 'ok +list' 'skip +put' -- --no-write "$(of)"
	checked 0 'ok +list' 'skip +put' -- --read-only "$(of)"
	checked 0 'ok +credentials +none' 'skip +put' -- --no-sign-request --endpoint "$(s3d_of_anybody)" "$(of)"
	same "writes" "$(awk -F'\t' '$3 ~ /^(Put|Create|Upload|Delete)/' "$T/requests.log" | wc -l)" 0
}

# A second server, that lets everybody in.
s3d_of_anybody() {
	"$S3D" --listen 127.0.0.1:0 --port-file "$T/port2" --root "$T/s3-2" --bucket "$BUCKET" >/dev/null 2>&1 </dev/null &
	wait_for 10 test -s "$T/port2"
	echo "http://127.0.0.1:$(cat "$T/port2")"
}

test_usage() {
	exits 1 "$CPGFS" check
	exits 0 "$CPGFS" check --help
	says no-write
	exits 1 "$CPGFS" check --nonsense s3://bucket/p
	exits 1 "$CPGFS" check --no-write
	says "s3://BUCKET/PREFIX"
	exits 1 "$CPGFS" check "s3://bucket/cpg0123/*"
	exits 1 "$CPGFS" check --gallery nobody --prefix a
}

# ---- the server ------------------------------------------------------------------------------------

test_server_and_bucket() {
	s3d_start
	local dead=$ENDPOINT
	checked 3 'FAIL +list .*no-such-bucket' -- s3://no-such-bucket/p
	s3d_stop
	ENDPOINT=$dead checked 3 'FAIL +server .*ConnectFailed' -- "$(of)"
	says "server running"
	checked 3 'FAIL +server .*NameNotResolved' -- --endpoint "http://$(printf %070d 0).invalid" "$(of)"
	checked 3 'FAIL +server' -- --endpoint "https://${dead#http://}" "$(of)"
}

test_clock() {
	s3d_start
	faults <<<'* always skew-date=3600'
	checked 3 "FAIL +clock .*(59 min|1 h).* behind" 'ok +put' 'ok +delete' -- "$(of)"
	says timedatectl
	faults <<<'* always skew-date=-300'
	checked 0 'warn +clock .* ahead of' -- "$(of)"
	bucket_is_empty
}

test_region() {
	s3d_start --region eu-west-1
	checked 3 'FAIL +region +us-east-1' -- "$(of)"
	says "region"
	checked 0 'ok +region +eu-west-1' -- --region eu-west-1 "$(of)"
	AWS_REGION=eu-west-1 checked 0 'ok +region +eu-west-1' -- "$(of)"
	faults <<<'ListObjectsV2 always redirect=https://b.s3.eu-west-2.amazonaws.com/ status=301'
	checked 3 'FAIL +region' -- --region eu-west-1 "$(of)"
}

test_credentials() {
	s3d_start --key "AKIDELSEWHERE:s@$BUCKET/cpg9999-other"
	AWS_ACCESS_KEY_ID='' AWS_SECRET_ACCESS_KEY='' checked 3 'FAIL +credentials +no credentials' -- "$(of)"
	says export
	AWS_ACCESS_KEY_ID='' checked 3 'FAIL +credentials' -- "$(of)"
	AWS_ACCESS_KEY_ID=YOUR_ACCESS_KEY checked 3 'FAIL +credentials .*placeholder' -- "$(of)"
	AWS_ACCESS_KEY_ID=ASIAIOSFODNN7EXAMPLE checked 3 'FAIL +credentials .*AWS_SESSION_TOKEN' -- "$(of)"
	checked 3 'FAIL +credentials .*nobody' -- --profile nobody "$(of)"
	AWS_ACCESS_KEY_ID=AKIDNOBODY checked 3 'FAIL +list .*InvalidAccessKeyId' -- "$(of)"
	AWS_SECRET_ACCESS_KEY=wrong checked 3 'FAIL +list .*SignatureDoesNotMatch' -- "$(of)"
	says "AWS_SESSION_TOKEN"
	AWS_ACCESS_KEY_ID=AKIDELSEWHERE AWS_SECRET_ACCESS_KEY=s checked 3 'FAIL +list .*denied' -- "$(of)"
	says "prefix"
	faults <<<'* always expire-token'
	checked 3 'FAIL +list .*expired' -- "$(of)"
	same "secrets in what was said" "$(grep -cF "$SECRET" "$T/last" || true)" 0
}

# As staging has it: keys that may only ask for a grant.
test_grant() {
	printf '%s\n' 'account 309624411020' "grant s3://$BUCKET/$PREFIX/*" \
		"grant s3://$BUCKET/cpg0999-read/broad/* READ" >"$T/services"
	s3d_start --key "BASE:base/secret@nowhere/" --services "$T/services"
	export AWS_ACCESS_KEY_ID=BASE AWS_SECRET_ACCESS_KEY=base/secret
	export AWS_ENDPOINT_URL_S3_CONTROL=$ENDPOINT AWS_ENDPOINT_URL_STS=$ENDPOINT
	local grant=(--access-grant --account-id 309624411020)
	checked 0 "ok +grant +s3://$BUCKET/$PREFIX/\*" 'ok +expiry .*renewed' 'ok +put' 'ok +delete' -- "${grant[@]}" "$(of)"
	bucket_is_empty
	checked 3 'FAIL +grant' -- "${grant[@]}" "s3://$BUCKET/cpg0555-mistyped/broad"
	says "exactly"
	checked 3 'FAIL +grant .*reading only' 'skip +put' -- "${grant[@]}" "s3://$BUCKET/cpg0999-read/broad"
	checked 0 'ok +grant .*to read' 'skip +put' -- "${grant[@]}" --read-only "s3://$BUCKET/cpg0999-read/broad"
	# the exchange was forgotten
	checked 3 'FAIL +list' -- "$(of)"
	says "--gallery"
}

# ---- writing ------------------------------------------------------------------------------------------

test_each_right_that_may_lack() {
	s3d_start
	faults <<<'PutObject always status=403 code=AccessDenied'
	checked 3 'FAIL +put .*AccessDenied' -- "$(of)"
	faults <<<'GetObjectAcl always status=403 code=AccessDenied'
	checked 0 'ok +acl .*may not be read back' -- "$(of)"
	faults <<<'HeadObject always status=403 code=AccessDenied'
	checked 0 'warn +head' -- "$(of)"
	faults <<<'CreateMultipartUpload always status=403 code=AccessDenied'
	checked 3 'FAIL +multipart' -- "$(of)"
	says "multipart-threshold"
	faults <<<'UploadPart always status=403 code=AccessDenied'
	checked 3 'FAIL +multipart +a part' -- "$(of)"
	bucket_is_empty
	faults <<<'AbortMultipartUpload n=1 status=403 code=AccessDenied'
	checked 3 'FAIL +multipart +to give' -- "$(of)"
	bucket_is_empty
	faults <<<'DeleteObject always status=403 code=AccessDenied'
	checked 3 'FAIL +delete' -- "$(of)"
	says "$(find "$T/s3/$BUCKET" -type f -printf '%P\n')"
}

test_the_acl() {
	s3d_start
	checked 3 'FAIL +acl .*without an ACL' -- --acl none "$(of)"
	says "leave --acl none away"
	checked 3 'FAIL +put' -- --acl private "$(of)"
	s3d_stop
	REQUIRE_ACL= s3d_start
	checked 0 'ok +put .*without an ACL' -- --acl none "$(of)"
	faults <<<'PutObject n=1 status=400 code=AccessControlListNotSupported message="The bucket does not allow ACLs"'
	checked 3 'FAIL +acl .*AccessControlListNotSupported' 'ok +delete' -- "$(of)"
	says "--acl none"
	bucket_is_empty
}

test_what_is_stored_is_what_was_sent() {
	s3d_start
	faults <<<'HeadObject always wrong-etag'
	checked 3 'FAIL +head .*another ETag' -- "$(of)"
	faults <<<'HeadObject always wrong-checksum'
	checked 3 'FAIL +head .*another checksum' -- "$(of)"
	faults <<<''
	s3d_stop
	s3d_start --crc64nvme off --conditions off
	checked 0 'ok +checksum .*SHA-256' 'warn +conditions' 'ok +delete' -- "$(of)"
	bucket_is_empty
}

# What fails for a moment is tried again.
test_a_moment_of_trouble_is_none() {
	s3d_start
	faults <<-'RULES'
	ListObjectsV2 n=1 status=503 code=SlowDown
	PutObject n=1 reset-before
	UploadPart n=1 status=500 code=InternalError
	DeleteObject n=1 status=503 code=SlowDown
	RULES
	checked 0 'ok +put' 'ok +multipart' 'ok +delete' -- "$(of)"
	bucket_is_empty
}

# Stopped at each of its requests, by Ctrl-C or by what ends a session.
deadline_test_stopped_it_leaves_nothing=120
test_stopped_it_leaves_nothing() {
	s3d_start
	stopped_at 'PutObject n=1 hold=GO at=after-apply' INT
	stopped_at 'PutObject n=1 hold=GO at=after-apply' TERM
	stopped_at 'PutObject n=1 hold=GO at=after-apply' HUP
	stopped_at 'PutObject n=1 hold=GO at=mid-body' INT
	stopped_at 'HeadObject n=1 hold=GO' INT
	stopped_at 'CreateMultipartUpload n=1 hold=GO at=after-apply' INT
	stopped_at 'UploadPart n=1 hold=GO at=after-apply' INT
	stopped_at 'ListParts n=1 hold=GO' INT
	stopped_at 'DeleteObject n=1 hold=GO' INT
}

stopped_at() { # RULE SIGNAL
	local pid
	rm -f "$T/go" "$T/go.held"
	s3d_stop # rules count from the server's start
	faults <<<"${1//GO/$T/go}"
	s3d_start
	"$CPGFS" check --quick --endpoint "$ENDPOINT" "${COMMON[@]}" "$(of)" >"$T/last" 2>&1 &
	pid=$!
	wait_for 20 test -e "$T/go.held"
	kill "-$2" $pid
	wait_for 10 grep -q stopping "$T/last"
	touch "$T/go"
	! wait $pid || fail "stopped by $2 at '$1', it ended well"
	says "stopped before the end"
	bucket_is_empty
}

# A request that has not left yet, or only reads, is not waited for.
test_stopped_while_the_server_hangs() {
	s3d_start
	faults <<<'ListObjectsV2 always stall=forever'
	"$CPGFS" check --quick --endpoint "$ENDPOINT" "${COMMON[@]}" "$(of)" >"$T/last" 2>&1 &
	local pid=$!
	wait_for 20 requests_stall
	kill -INT $pid
	wait_for 10 ended $pid
	bucket_is_empty
}

requests_stall() {
	grep -q '^ok    credentials' "$T/last" && [ "$(grep -c . "$T/requests.log")" -ge 1 ]
}

# ---- the machine -----------------------------------------------------------------------------------

test_the_cache_disk() {
	s3d_start
	QUICK=
	checked 3 'FAIL +cache-space +room for 0' -- --no-write --min-free 1000T "$(of)"
	checked 0 'warn +cache-space +room for (1|1.00) GiB' -- --no-write --cache-size 1G "$(of)"
	mkdir "$T/locked"
	chmod 500 "$T/locked"
	checked 3 'FAIL +cache-space +nothing can be written' -- --no-write --cache-dir "$T/locked/cache" "$(of)"
	says "cache-dir"
	same "left in the cache's place" "$(find "$T" -maxdepth 1 -name '.cpgfs-check*' | wc -l)" 0
}

test_fusermount_is_missing() {
	s3d_start
	mkdir "$T/bin"
	CHECK_PATH=$T/bin checked 3 'FAIL +fuse +fusermount3' -- --no-write "$(of)"
	says "apt install fuse3"
	# one that is there but not setuid
	cp "$(command -v fusermount3)" "$T/bin/fusermount3"
	CHECK_PATH=$T/bin checked 3 'FAIL +fuse .*not setuid' -- --no-write "$(of)"
}

# ---- before a mount -----------------------------------------------------------------------------------

test_a_mount_that_looks_first() {
	s3d_start
	mount_start --check 2>"$T/report"
	grep -qE '^ok +put' "$T/report" || fail "no report: $(cat "$T/report")"
	mount_end
	bucket_is_empty
	faults <<<'PutObject always status=403 code=AccessDenied'
	exits 3 "$CPGFS" mount --check --endpoint "$ENDPOINT" --cache-dir "$T/cache2" --min-free 100M "$(of)" "$M"
	says "FAIL  put"
	says "not mounted"
	not mountpoint -q "$M"
	[ ! -e "$T/cache2" ] || fail "a cache was made"
}

run_tests "$@"
