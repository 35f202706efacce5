#!/usr/bin/env bash
# Random operations on the mount and on a plain folder: both end alike, and so does the bucket.
#
#	CPGFS_MODEL_SEEDS="11 15"	instead of the seeds below
# long
. "$(dirname "$0")/lib.sh"

# SECONDS: for one seed; more seeds have more time.
seconds_for() {
	echo $(($1 * $(wc -w <<<"${CPGFS_MODEL_SEEDS:-one}")))
}

MOUNTED_WITH=(--delete-delay 0 --part-size 5M --multipart-threshold 5M)

# [OPTION…]: of tests/model/model, whose head says what it looks for.
model() {
	local seed key
	s3d_start --keep-versions
	mount_start "${MOUNTED_WITH[@]}"
	cat >"$T/daemon" <<-E
		. "$HERE/lib.sh"
		M=$M ENDPOINT=$ENDPOINT
		case \$1 in
		kill) kill -KILL "\$(daemon_pid)" ;; # it stays mounted: every thread has to see it dead
		mount)
			fusermount3 -uz "\$M"
			mount_start ${MOUNTED_WITH[*]}
			;;
		esac
	E
	for seed in $SEEDS; do
		mkdir -p "$T/plain.$seed"
		"$TESTS/model/model" run --mount "$M" --key-top "$PREFIX/$seed" --plain "$T/plain.$seed" \
			--s3 "$T/s3" --bucket "$BUCKET" --seed "$seed" --daemon "bash $T/daemon" "$@"
	done
	# those whose id the kill took are told of, and can't be helped
	while read -r key; do
		may_stay_open "$(sed 's/[^A-Za-z0-9/_-]/[&]/g' <<<"$key")\$"
	done < <(sed -n 's/.* warn upload: \(.*\): an upload may have been left open .*/\1/p' "$T/cpgfs.log")
	exits 0 all_verified
	# one whose file was renamed or removed while it was sent is looked at within 5 s
	wait_for 30 no_upload_is_open
	wait_for 30 status_is files.deleting 0
	local state
	for state in failed conflict incomplete torn lost unknown moving; do
		same "$state" "$(status_json files.$state)" 0
	done
}

no_upload_is_open() {
	(judge_uploads 3>/dev/null)
}

deadline_test_many_threads=$(seconds_for 120)
test_many_threads() {
	SEEDS=${CPGFS_MODEL_SEEDS:-1} model --threads 8 --ops 120
}

deadline_test_killed_meanwhile=$(seconds_for 240)
test_killed_meanwhile() {
	expect_log 'an upload may have been left open on the server: its id was lost'
	SEEDS=${CPGFS_MODEL_SEEDS:-15} model --threads 8 --ops 150 --crashes 2
}

deadline_long_test_many_seeds=7200
long_test_many_seeds() {
	expect_log 'an upload may have been left open on the server: its id was lost'
	SEEDS=${CPGFS_MODEL_SEEDS:-$(seq 11 22)} model --threads 20 --ops 200 --crashes 3
}

run_tests "$@"
