# lib.sh - what every test through the mount uses. Sourced; a test file then looks like
#
#	. "$(dirname "$0")/lib.sh"
#	deadline_test_big_file=300	# seconds, if 60 are not enough on a machine with little else to do
#	test_big_file() { … }		# any failing command fails the case
#	long_test_bigger() { … }	# only with --long
#	run_tests "$@"
#
# Each case runs in a process of its own with its own directory $T, and has
#
#	$T/mnt  M      the mount point          $T/src       where it puts what it copies in
#	$T/s3          the objects of s3d, as plain files (see bucket_file)
#	$T/cpgfs.log   the daemon's log, $T/requests.log the requests that s3d saw
#
# Whatever happens, the case's processes are ended and its mounts taken away: they are known by
# CPGFS_TEST_CASE in their environment and by $T. A case fails on every line of level warn or error
# in the daemon's log that it did not name with expect_log, on every multipart upload that it leaves
# open on the server (may_stay_open says which may be), and on every sanitizer report.
#
# Settings from outside: CPGFS, S3D (binaries), CPGFS_TEST_TMP (scratch, default /var/tmp),
# CPGFS_TEST_LOGS (where logs of failed cases go), CPGFS_TEST_SLOW (multiplies deadlines).

set -uo pipefail
export LC_ALL=C.UTF-8

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TESTS=$(dirname "$HERE")
TOOLS=$TESTS/tools
TOP=$(dirname "$TESTS")
NAME=$(basename "$0" .sh)
export CPGFS=${CPGFS:-$TOP/build/cpgfs}
export S3D=${S3D:-$TOP/build/tests/s3d/s3d}
SLOW=${CPGFS_TEST_SLOW:-1}
BUSY=5 # so much longer may a case take where much else runs: its deadline is there for what hangs

BUCKET=staging-gallery
PREFIX=cpg0123-example/broad
REQUIRE_ACL=bucket-owner-full-control # of s3d; empty: none
KEY=AKIDTESTUPLOADER SECRET=test/secret+key
PYTHON=/usr/bin/python3
AWS=/usr/bin/aws

# ---- the outer half: one process per case, and what is left of it cleared away --------------------

run_tests() {
	local name status=0
	if [ "${1:-}" = --case ]; then
		case_main "$2"
		return
	fi
	FILE_T=$(mktemp -d "${CPGFS_TEST_TMP:-/var/tmp}/cpgfs-$NAME.XXXXXX") || exit 2
	trap 'outer_end' EXIT
	trap 'exit 130' INT TERM HUP
	[ $# -gt 0 ] || set -- $(sed -n "s/^\\(${CPGFS_TEST_LONG:+\\(long_\\)\\?}test_[A-Za-z0-9_]*\\)().*/\\1/p" "$0")
	for name in "$@"; do
		declare -F "$name" >/dev/null || { echo "no such case: $name" >&2; exit 2; }
		run_case "$name" || status=1
	done
	exit $status
}

outer_end() {
	[ -z "${T:-}" ] || clear_case
	T=$FILE_T
	clear_case
	rm -rf --one-file-system "$FILE_T"
}

run_case() { # NAME
	local name=$1 title seconds status began=$SECONDS
	title="$NAME: $(sed 's/^test_//; s/_/ /g' <<<"$name")"
	seconds=deadline_$name
	seconds=$((${!seconds:-60} * SLOW * BUSY))
	T=$FILE_T/$name
	mkdir -p "$T"
	env CPGFS_TEST_CASE="$T" FILE_T="$FILE_T" T="$T" timeout -k 10 "$seconds" "$0" --case "$name" \
		>"$T/out" 2>&1 </dev/null
	status=$?
	[ $status != 124 ] && [ $status != 137 ] || hung "$seconds" >>"$T/out"
	clear_case
	case $status in
	0)
		echo "ok - $title ($((SECONDS - began)) s)"
		;;
	77)
		echo "skip - $title: $(sed -n 's/^skip: //p' "$T/out" | tail -1)"
		status=0
		;;
	*)
		echo "not ok - $title ($((SECONDS - began)) s)"
		show_failure "$name"
		;;
	esac
	rm -rf --one-file-system "$T"
	T=
	[ $status = 0 ]
}

# Those that inherited CPGFS_TEST_CASE, and the daemon: it hides its environment, but names its mount
# point in its arguments.
case_processes() {
	local pid
	grep -lxzF "CPGFS_TEST_CASE=$T" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
	for pid in $(processes_with "$CPGFS"); do
		! cmdline_has "$pid" "$T/" || echo "$pid"
	done
}

# WORD0: processes whose first argument it is.
processes_with() {
	local file word
	for file in /proc/[0-9]*/cmdline; do
		{ IFS= read -r -d '' word <"$file"; } 2>/dev/null || continue
		[ "$word" = "$1" ] || continue
		file=${file#/proc/}
		echo "${file%/cmdline}"
	done
}

cmdline_has() { # PID TEXT
	{ tr '\0' '\n' <"/proc/$1/cmdline"; } 2>/dev/null | grep -qF -- "$2"
}

clear_case() {
	local pid at tries
	# else it would end and unmount all that this user has
	[ -n "$T" ] || { echo "lib.sh: no case to clear away" >&2; return 1; }
	for ((tries = 0; tries < 20; tries++)); do
		[ -n "$(case_processes)" ] || break
		# the daemon first: what hangs in the mount comes free then
		for pid in $(case_processes); do
			kill -KILL "$pid" 2>/dev/null
		done
		sleep 0.05
	done
	for at in $(cut -d' ' -f2 /proc/self/mounts | grep -F "$T/" | sort -r); do
		fusermount3 -uz "$at" 2>/dev/null || umount -l "$at" 2>/dev/null
	done
}

hung() { # SECONDS: where did it stand?
	local pid task
	for pid in $(case_processes); do
		echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-120)"
		for task in /proc/"$pid"/task/*; do
			echo "  $(cat "$task/comm"): $(cat "$task/wchan")"
		done
	done 2>/dev/null
	echo "took longer than $1 s" # last, for of many lines only the last are shown
}

show_failure() { # NAME
	local kept=${CPGFS_TEST_LOGS:-${CPGFS_TEST_TMP:-/var/tmp}/cpgfs-test-logs.$(id -u)}/$NAME.$1
	rm -rf "$kept"
	mkdir -p "$kept"
	find "$T" -xdev -maxdepth 1 -type f -size -20M -exec cp {} "$kept/" \;
	tail -n 25 "$T/out" | cut -c1-400 | sed 's/^/#   /'
	if [ -s "$T/cpgfs.log" ]; then
		echo "#   the daemon's last warnings and lines:"
		{
			head -n -8 "$T/cpgfs.log" | grep -E '^[^ ]+Z (warn|error) ' | tail -n 6
			tail -n 8 "$T/cpgfs.log"
		} | cut -c1-300 | sed 's/^/#     /'
	fi
	echo "#   logs: $kept"
	echo "#   again: tests/mount/run ${CPGFS_TEST_HOW:-}$NAME $1"
}

# ---- the inner half ------------------------------------------------------------------------------

case_main() { # NAME
	set -eE
	exec 3>&2 # fail speaks also where output is being caught
	trap 'echo "failed at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&3' ERR
	M=$T/mnt
	mkdir -p "$M" "$T/src" "$T/home"
	echo 'the cache directory .* is in memory' >"$T/expected" # wherever a case puts its cache
	# nothing of the caller's credentials or settings
	export HOME=$T/home XDG_CACHE_HOME=$T/home/.cache XDG_STATE_HOME=$T/home/.local/state TMPDIR=$T AWS_EC2_METADATA_DISABLED=true
	unset AWS_PROFILE AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 \
		AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_CA_BUNDLE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
	export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET
	# looking for leaks needs ptrace, which the daemon forbids to all but root
	export ASAN_OPTIONS=log_path=$T/sanitizer:detect_leaks=$(($(id -u) == 0))
	export UBSAN_OPTIONS=log_path=$T/sanitizer:print_stacktrace=1
	export TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$T/sanitizer
	umask 022
	cd "$T"
	"$1"
	cd "$T"
	if mountpoint -q "$M"; then
		mount_end
	fi
	judge_uploads
	judge_logs
}

fail() {
	echo "$*" >&3
	exit 1
}

skip() {
	echo "skip: $*" >&3
	exit 77
}

needs_terminals() {
	"$PYTHON" -c 'import pty; pty.openpty()' 2>/dev/null || skip "no pseudo terminals here (/dev/pts)"
}

# REGEX: lines of level warn or error that match it are what this case is about.
expect_log() {
	echo "$1" >>"$T/expected"
}

# KEY-REGEX: multipart uploads of such keys may be left open on the server; say why where it is called.
may_stay_open() {
	echo "$1" >>"$T/may-stay-open"
}

# The keys of the multipart uploads that s3d still holds, read from its disk (90-rgw has its own).
open_uploads() {
	local file
	for file in "$T"/s3/.s3d/*/uploads/*/upload.tsv; do
		[ ! -e "$file" ] || cut -f1 "$file"
	done
}

# Somebody pays for what is never completed and never aborted.
judge_uploads() {
	local open odd
	open=$(open_uploads) || fail "which uploads are open cannot be told"
	odd=$(grep -vEf <(cat "$T/may-stay-open" 2>/dev/null) <<<"$open" || true)
	[ -z "$odd" ] || fail "uploads left open on the server:
$(head -n 10 <<<"$odd")"
}

judge_logs() {
	local odd
	if compgen -G "$T/sanitizer*" >/dev/null; then
		head -n 40 "$T"/sanitizer*
		fail "the sanitizer reported"
	fi
	[ -e "$T/cpgfs.log" ] || return 0
	odd=$(grep -E '^[^ ]+Z (warn|error) ' "$T/cpgfs.log" | grep -vEf <(sed '/^$/d' "$T/expected") || true)
	[ -z "$odd" ] || fail "unexpected in the daemon's log:
$(head -n 10 <<<"$odd")"
}

# DEADLINE_S COMMAND…: until the command succeeds. The only way a test waits.
wait_for() {
	local end=$((SECONDS + $1 * SLOW))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "waited in vain for: $*"
		sleep 0.05
	done
}

not() {
	! "$@"
}

no_files_below() { # DIR, which need not exist
	[ -z "$(find "$1" -type f 2>/dev/null | head -1)" ]
}

same() { # WHAT GOT WANTED
	[ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}

at_least() { # WHAT GOT LEAST
	[ "$2" -ge "$3" ] || fail "$1 is $2, less than $3"
}

at_most() { # WHAT GOT MOST
	[ "$2" -le "$3" ] || fail "$1 is $2, more than $3"
}

# ERRNO-TEXT COMMAND…: the command fails and says this text.
fails_with() {
	local text=$1 out
	shift
	if out=$("$@" 2>&1); then
		fail "succeeded, should fail with '$text': $*"
	fi
	grep -qF -- "$text" <<<"$out" || fail "should fail with '$text': $*
said: $out"
}

# STATUS COMMAND…: the command ends with this exit status. Its output goes to $T/last.
exits() {
	local want=$1 got=0
	shift
	"$@" >"$T/last" 2>&1 || got=$?
	[ "$got" = "$want" ] || fail "ended with $got, not $want: $*
$(head -n 20 "$T/last")"
}

says() { # TEXT: the command before (exits) printed this
	grep -qF -- "$1" "$T/last" || fail "should have said '$1':
$(head -n 20 "$T/last")"
}

need() { # TOOL…
	local tool
	for tool in "$@"; do
		[ -x "$(command -v "$tool" || true)" ] || skip "$tool is not there"
	done
}

# PID: when it started, in clock ticks; nothing if it ended.
started_at() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	stat=${stat##*) }
	set -- $stat
	[ "$1" = Z ] || echo "${20}"
}

ended() { # PID
	[ -z "$(started_at "$1")" ]
}

# ---- s3d -----------------------------------------------------------------------------------------

# [OPTION…]: start it, or start it again at the same port with the same objects.
s3d_start() {
	local listen=127.0.0.1:0
	[ ! -s "$T/port" ] || listen=127.0.0.1:$(cat "$T/port")
	rm -f "$T/port.new"
	[ -e "$T/faults" ] || : >"$T/faults"
	"$S3D" --listen "$listen" --port-file "$T/port.new" --root "$T/s3" --key "$KEY:$SECRET" \
		--bucket "$BUCKET" --fault-script "$T/faults" --request-log "$T/requests.log" \
		${REQUIRE_ACL:+--require-acl "$REQUIRE_ACL"} "$@" >>"$T/s3d.log" 2>&1 &
	S3D_PID=$!
	wait_for 60 s3d_answers
	cp "$T/port.new" "$T/port"
	ENDPOINT=http://127.0.0.1:$(cat "$T/port")
	export AWS_ENDPOINT_URL=$ENDPOINT
}

s3d_answers() {
	! ended $S3D_PID || fail "s3d ended: $(tail -n 3 "$T/s3d.log")"
	[ -s "$T/port.new" ] && (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$T/port.new")")
}

s3d_stop() {
	kill -KILL $S3D_PID
	wait $S3D_PID 2>/dev/null || true
}

# Objects were put into $T/s3 behind its back.
s3d_rescan() {
	s3d_ask POST rescan >/dev/null
}

s3d_ask() { # METHOD NAME: the body of /_s3d/NAME
	"$PYTHON" - "$ENDPOINT/_s3d/$2" "$1" <<-'PY'
	import sys, urllib.request
	request = urllib.request.Request(sys.argv[1], method=sys.argv[2])
	sys.stdout.write(urllib.request.urlopen(request, timeout=20).read().decode())
	PY
}

# OPERATION [KEY-REGEX]: how many such requests s3d saw, whatever became of them.
requests() {
	awk -F'\t' -v operation="$1" -v key="${2:-.}" '$3 == operation && $5 ~ key' "$T/requests.log" | wc -l
}

# PutObject requests, but for the one that finds out whether the server refuses to overwrite: the first
# that is refused of a key that was written before.
puts() {
	awk -F'\t' '$3 != "PutObject" { next }
		$7 == 412 && written[$5] && !found_out++ { next }
		{ n++; written[$5] = $7 == 200 }
		END { print n + 0 }' "$T/requests.log"
}

requests_at_least() { # NUMBER OPERATION [KEY-REGEX]
	[ "$(requests "$2" "${3:-.}")" -ge "$1" ]
}

# The fault script (see s3d_fault.h) on standard input; s3d reads it at its next request.
faults() {
	cat >"$T/faults.new"
	mv "$T/faults.new" "$T/faults"
}

bucket_file() { # KEY: where s3d keeps it (keys that can be a path)
	echo "$T/s3/$BUCKET/$1"
}

# An object from elsewhere: KEY FILE.
put_elsewhere() {
	"$TOOLS/s3" put "$BUCKET" "$1" "$2" "x-amz-acl: bucket-owner-full-control"
}

aws_cli() { # ARGS…: the real one, against this case's server (after: need "$AWS")
	AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required \
		"$AWS" --endpoint-url "$ENDPOINT" --region us-east-1 --no-cli-pager "$@"
}

# ---- Ceph RADOS Gateway ---------------------------------------------------------------------------

# Use the one that runs already ($CPGFS_RGW_DIR), else start one for this test file.
rgw_use() {
	local dir=${CPGFS_RGW_DIR:-$FILE_T/rgw}
	if [ ! -s "$dir/env" ]; then
		need ceph-mon ceph-osd radosgw
		CPGFS_TEST_CASE="$FILE_T" "$TESTS/rgw/rgw" start "$dir" >/dev/null
	fi
	. "$dir/env"
	RGW_DIR=$dir
	ENDPOINT=$CPGFS_RGW_ENDPOINT BUCKET=$CPGFS_RGW_BUCKET
	PREFIX=${CPGFS_RGW_PREFIX%/} PREFIX_MP=${CPGFS_RGW_PREFIX_MP%/}
	export AWS_ENDPOINT_URL=$ENDPOINT AWS_ACCESS_KEY_ID=$CPGFS_RGW_UPLOADER_ACCESS_KEY
	export AWS_SECRET_ACCESS_KEY=$CPGFS_RGW_UPLOADER_SECRET_KEY
}

# The gateway's process stops, and comes back: an outage. Other cases of the file still need it.
rgw_pause() {
	"$TESTS/rgw/rgw" pause "$RGW_DIR"
}

rgw_resume() {
	CPGFS_TEST_CASE="$FILE_T" "$TESTS/rgw/rgw" resume "$RGW_DIR"
}

# ---- the mount -----------------------------------------------------------------------------------

# [OPTION…]: as a daemon, of s3://$BUCKET/$PREFIX at $M with quick settle. SOURCE, CACHE override.
mount_start() {
	"$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "${CACHE:-$T/cache}" --log-file "$T/cpgfs.log" \
		--settle 100ms --min-free 100M "$@" "${SOURCE:-s3://$BUCKET/$PREFIX}" "$M" </dev/null
	mountpoint -q "$M" || fail "the mount command ended well, but nothing is mounted"
	P=$M/$PREFIX
}

# The daemon that serves MOUNTPOINT (default $M).
daemon_pid() {
	local pid
	for pid in $(processes_with "$CPGFS"); do
		if { tr '\0' '\n' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qxF -- "${1:-$M}" &&
			[ "$(word_of "$pid" 2)" = mount ]; then
			echo "$pid"
			return
		fi
	done
	fail "no daemon serves ${1:-$M}"
}

word_of() { # PID N: the n-th word of its command line
	tr '\0' '\n' <"/proc/$1/cmdline" | sed -n "$2p"
}

# An orderly end; afterwards the daemon is gone, too.
mount_end() {
	local pid
	pid=$(daemon_pid)
	"$CPGFS" umount "$M"
	not mountpoint -q "$M" || fail "still mounted after cpgfs umount"
	ended "$pid" || fail "the daemon still runs after cpgfs umount"
}

# kill -9, and the dead mount taken away.
mount_crash() {
	local pid
	pid=$(daemon_pid)
	kill -KILL "$pid"
	wait_for 60 ended "$pid"
	fusermount3 -uz "$M"
}

# [SECONDS] [PATH…]: until all is verified.
all_verified() {
	"$CPGFS" wait --timeout $((${1:-60} * SLOW)) "$M" "${@:2}"
}

state() { # PATH
	getfattr --absolute-names --only-values -n user.cpgfs.state "$1"
}

xattr() { # NAME PATH
	getfattr --absolute-names --only-values -n "user.cpgfs.$1" "$2"
}

is_state() { # STATE PATH…
	local want=$1 path
	shift
	for path in "$@"; do
		[ "$(state "$path")" = "$want" ] || return 1
	done
}

links() { # PATH
	stat -c %h "$1"
}

has_links() { # NUMBER PATH
	[ "$(links "$2")" = "$1" ]
}

# EXPRESSION: of status.json, as in files.queued or cache.used_bytes.
status_json() {
	"$PYTHON" -c '
import json, sys
value = json.load(open(sys.argv[1]))
for part in sys.argv[2].split("."):
    value = value[part]
print(json.dumps(value) if isinstance(value, (dict, list)) or value is None else value)
' "$M/.cpgfs/status.json" "$1"
}

status_is() { # EXPRESSION VALUE
	[ "$(status_json "$1")" = "$2" ]
}

pending() { # how many files are not yet verified and not waiting for a person
	"$PYTHON" -c '
import json, sys
files = json.load(open(sys.argv[1]))["files"]
print(sum(files[s] for s in ("open", "closed", "settled", "queued", "sending", "uploaded", "unknown", "moving")))
' "$M/.cpgfs/status.json"
}

refresh() {
	echo refresh >"$M/.cpgfs/control"
}

# ---- contents ---------------------------------------------------------------------------------------

# DIR: "sha256  ./path" of every file below, sorted. The ledger of what was closed.
ledger() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}

# A B: the same files with the same bytes, by two independent ways of reading.
same_tree() {
	ledger "$1" >"$T/ledger.a"
	ledger "$2" >"$T/ledger.b"
	cmp_ledgers "$T/ledger.a" "$T/ledger.b" "$1" "$2"
}

cmp_ledgers() {
	diff "$1" "$2" >"$T/ledger.diff" || fail "$3 and $4 differ:
$(head -n 10 "$T/ledger.diff")"
}

# DIR KEYPREFIX: the bucket holds exactly these files below the prefix, with these bytes. Reads
# s3d's plain files, so that no client has a say.
same_in_bucket() {
	[ -d "$(bucket_file "$2")" ] || fail "the bucket holds nothing below $2"
	same_tree "$1" "$(bucket_file "$2")"
}

# DIR KEYPREFIX: the same by GET, for any server.
same_by_get() {
	"$TOOLS/s3" tree "$BUCKET" "${2%/}/" |
		PREFIX_LENGTH=$((${#2} + 1)) "$PYTHON" -c '
import os, sys
cut = int(os.environ["PREFIX_LENGTH"])
rows = [line.rstrip("\n").split("\t") for line in sys.stdin]
for digest, size, key in sorted(rows, key=lambda row: row[2].encode()):
    print("%s  ./%s" % (digest, key[cut:]))' | sort -k 2 >"$T/ledger.b"
	ledger "$1" | sort -k 2 >"$T/ledger.a"
	cmp_ledgers "$T/ledger.a" "$T/ledger.b" "$1" "s3://$BUCKET/$2"
}

# FILE BYTES [SEED]: incompressible, and the same again for the same seed.
make_file() {
	mkdir -p "$(dirname "$1")"
	"$PYTHON" -c '
import random, sys
left, source = int(sys.argv[2]), random.Random(sys.argv[3])
with open(sys.argv[1], "wb") as out:
    while left:
        out.write(source.randbytes(min(left, 1 << 20)))
        left -= min(left, 1 << 20)
' "$1" "$2" "${3:-$1}"
}

# [ARGUMENTS]: a small plate below $T/src.
make_plate() {
	"$TOOLS/make-plate" --wells 3 --sites 2 --channels 2 --bytes 100K "$@" "$T/src" >/dev/null
	SRC=$T/src/$PREFIX
}
IMAGES=images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51-Measurement1/Images

copy_plate() {
	mkdir -p "$P"
	cp -r "$SRC/." "$P/"
}
