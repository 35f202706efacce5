#!/usr/bin/env bash
# Files that change at every step of a request that is on its way.
# long
. "$(dirname "$0")/lib.sh"

MOUNTED_WITH=(--delete-delay 0 --part-size 5M --multipart-threshold 5M)

# [OPTION…] CELL-REGEX…: cells of tests/tools/races, whose head says what each must show.
races() {
	s3d_start --keep-versions
	mount_start "${MOUNTED_WITH[@]}"
	mkdir -p "$P"
	"$TOOLS/races" --mount "$M" --s3 "$T/s3" --bucket "$BUCKET" --prefix "$PREFIX" --work "$T/go" \
		--faults "$T/faults" "$@"
	judge_uploads
	exits 0 all_verified
	local state
	for state in failed conflict incomplete torn lost unknown deleting moving; do
		same "$state" "$(status_json files.$state)" 0
	done
}

deadline_test_one_request_held=150
test_one_request_held() {
	races ^put ^replace ^copy ^moved ^delete
}

deadline_test_an_upload_in_parts_held=150
test_an_upload_in_parts_held() {
	races ^create ^part ^complete
}

deadline_test_the_daemon_is_killed_meanwhile=900
test_the_daemon_is_killed_meanwhile() {
	local cells=('[.](rename|rewrite|unlink-and-make-anew|make-anew)$')
	[ -z "${CPGFS_TEST_LONG:-}" ] || cells=(.)
	# read when it is run: only then the endpoint is known
	cat >"$T/crash" <<-E
		. "$HERE/lib.sh"
		M=$M ENDPOINT=http://127.0.0.1:\$(cat $T/port)
		case \$1 in
		kill) mount_crash ;;
		mount) mount_start ${MOUNTED_WITH[*]} ;;
		esac
	E
	# Create was carried out, but its answer, the id, was never seen: nothing can be done but to say so
	expect_log 'create-.*an upload may have been left open on the server: its id was lost'
	may_stay_open /create-
	races --jobs 8 --crash "bash $T/crash" "${cells[@]}"
}

# Programs that do everything at once to the same few names: nothing hangs, nothing but the errors that a
# local disk gives, too, and in the end the bucket holds what the mount shows.
deadline_test_many_hands_on_few_names=150
[ -z "${CPGFS_TEST_LONG:-}" ] || deadline_test_many_hands_on_few_names=900
test_many_hands_on_few_names() {
	local seconds=60
	[ -z "${CPGFS_TEST_LONG:-}" ] || seconds=400 # some ten thousand changes to follow
	s3d_start --delay-ms 2
	mount_start --delete-delay 0
	mkdir -p "$P/images"
	"$PYTHON" - "$P/images" "${CPGFS_TEST_LONG:+200}" <<-'PY'
	import errno, os, random, sys, time
	top, seconds = sys.argv[1], int(sys.argv[2] or 12)
	FINE = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EBUSY,
	        errno.EINVAL, errno.ESTALE, errno.ELOOP}
	def name(r):
	    return "/".join([top] + ["n%d" % r.randrange(4) for _ in range(r.choice([1, 1, 2, 3]))])
	def write(r, path, flags):
	    fd = os.open(path, flags | os.O_CREAT, 0o644)
	    try:
	        for _ in range(r.randrange(3)):
	            os.pwrite(fd, r.randbytes(r.randrange(1, 9000)), r.randrange(20000))
	        if r.random() < 0.2:
	            os.ftruncate(fd, r.randrange(9000))
	        if r.random() < 0.1:
	            os.fsync(fd)
	        if r.random() < 0.3:
	            os.unlink(path)
	            os.pwrite(fd, b"late", 0)
	    finally:
	        os.close(fd)
	def read(r, path):
	    with open(path, "rb") as data:
	        data.read()
	def look(r, path):
	    for entry in os.scandir(os.path.dirname(path)):
	        try:
	            entry.stat()
	        except FileNotFoundError:
	            pass
	WORK = [lambda r, p: write(r, p, os.O_WRONLY | os.O_TRUNC), lambda r, p: write(r, p, os.O_RDWR),
	        lambda r, p: write(r, p, os.O_WRONLY | os.O_APPEND), lambda r, p: write(r, p, os.O_RDWR | os.O_EXCL),
	        lambda r, p: os.unlink(p), lambda r, p: os.mkdir(p), lambda r, p: os.rmdir(p),
	        lambda r, p: os.rename(p, name(r)), lambda r, p: os.rename(p, name(r)), read, look,
	        lambda r, p: os.truncate(p, r.randrange(9000)), lambda r, p: os.chmod(p, r.choice([0o700, 0o755, 0o777])),
	        lambda r, p: os.utime(p, (1e9 + r.randrange(9), 1e9)), lambda r, p: os.stat(p)]
	def hand(seed):
	    r, end, done = random.Random(seed), time.monotonic() + seconds, 0
	    while time.monotonic() < end:
	        try:
	            r.choice(WORK)(r, name(r))
	        except OSError as error:
	            if error.errno not in FINE:
	                print("hand %d: %r" % (seed, error), flush=True)
	                os._exit(1)
	        done += 1
	    print("hand %d did %d" % (seed, done), flush=True)
	    os._exit(0)
	hands = []
	for seed in range(16):
	    pid = os.fork()
	    if pid == 0:
	        hand(seed)
	    hands.append(pid)
	status = [os.waitpid(pid, 0)[1] for pid in hands]
	sys.exit(any(status))
	PY
	# folders that became empty leave nothing to compare
	exits 0 all_verified $seconds
	wait_for 60 status_is files.deleting 0
	find "$P/images" -type d -empty -delete
	mkdir -p "$P/images"
	same_by_get "$P/images" "$PREFIX/images" # a key and one "below" it are no two plain files
	for state in failed conflict incomplete torn lost unknown moving; do
		same "$state" "$(status_json files.$state)" 0
	done
}

run_tests "$@"
