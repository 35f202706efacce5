#!/usr/bin/env bash
# Files that change at every step of a request that is on its way.
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

run_tests "$@"
