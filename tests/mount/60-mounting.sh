#!/usr/bin/env bash
# Mounting, stopping and starting again; what is refused, and with which words.
# rights: both
. "$(dirname "$0")/lib.sh"

# WORDS COMMAND…: ends with 1, says so, and nothing is mounted.
refused() {
	local words=$1
	shift
	exits 1 "$@"
	says "$words"
	not mountpoint -q "$M"
}

try_mount() { # OPTION…
	"$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/cache" --log-file "$T/cpgfs.log" "$@" "s3://$BUCKET/$PREFIX" "$M"
}

test_usage() {
	exits 1 "$CPGFS"
	exits 0 "$CPGFS" --help
	says mount
	exits 0 "$CPGFS" --version
	exits 0 "$CPGFS" mount --help
	says --multipart-threshold
	exits 1 "$CPGFS" nonsense
	exits 1 "$CPGFS" mount
	exits 1 "$CPGFS" mount --nonsense s3://b/p "$M"
	says nonsense
	exits 1 "$CPGFS" mount --part-size 7Q s3://b/p "$M"
	says part-size
	exits 1 "$CPGFS" mount --naming loud s3://b/p "$M"
	exits 1 "$CPGFS" mount http://b/p "$M"
	exits 1 "$CPGFS" status "$T/src"
	exits 1 "$CPGFS" umount "$T/src"
	same "mounts" "$(grep -c "$T" /proc/self/mounts || true)" 0
}

test_a_mount_point_with_files_is_refused() {
	s3d_start
	echo precious >"$M/precious"
	refused empty try_mount
	same "content" "$(cat "$M/precious")" precious
	rm "$M/precious"
	rmdir "$M"
	echo file >"$M"
	refused "$M" try_mount
}

test_a_missing_mount_point_is_made() {
	s3d_start
	rmdir "$M"
	mount_start
	echo content >"$M/$PREFIX/file"
	exits 0 all_verified
	mount_end
	M=$T/no/such refused "No such file" try_mount
	not test -e "$T/no"
}

test_a_mount_that_fails_takes_its_folder_away() {
	expect_log '.'
	s3d_start
	BUCKET=no-such-bucket refused no-such-bucket try_mount
	test -d "$M" || fail "a folder that was there before is gone"
	rmdir "$M"
	BUCKET=no-such-bucket refused no-such-bucket try_mount
	not test -e "$M"
	BUCKET=no-such-bucket refused no-such-bucket try_mount --foreground
	not test -e "$M"
	mount_start
	mount_end
	test -d "$M" || fail "the folder of a mount that was there is gone"
}

test_what_cannot_heal_refuses_the_mount() {
	expect_log '.'
	s3d_start
	BUCKET=no-such-bucket refused no-such-bucket try_mount
	AWS_SECRET_ACCESS_KEY=wrong refused credentials try_mount
	AWS_ACCESS_KEY_ID=AKIDNOBODY refused credentials try_mount
	AWS_ACCESS_KEY_ID='' AWS_SECRET_ACCESS_KEY='' refused credentials try_mount
	ENDPOINT=nonsense refused endpoint try_mount
	refused profile try_mount --profile nobody
	PREFIX=a/../b refused prefix try_mount
	refused mount try_mount --cache-dir "$M/cache"
	same "secrets in the log" "$(grep -c "$SECRET" "$T/cpgfs.log" || true)" 0
}

test_a_dead_mount_is_cleared() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	local pid
	pid=$(daemon_pid)
	kill -KILL "$pid"
	wait_for 10 ended "$pid"
	! ls "$M" 2>"$T/said" || fail "a dead mount can be listed"
	# the second is what the kernel says while it is still ending the connection
	grep -qE 'not connected|connection abort' "$T/said" || fail "ls says: $(cat "$T/said")"
	mount_start
	same "content" "$(cat "$P/images/a")" a
	exits 0 all_verified
}

test_a_live_mount_is_not_mounted_over() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/other" "s3://$BUCKET/$PREFIX" "$M"
	same "mounts" "$(grep -c " $M " /proc/self/mounts)" 1
	same "content" "$(cat "$P/images/a")" a
	exits 0 all_verified
}

deadline_test_two_daemons_on_one_cache_are_refused=90
test_two_daemons_on_one_cache_are_refused() {
	s3d_start
	mount_start
	mkdir "$T/second"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX" "$T/second"
	says "$(daemon_pid)"
	not mountpoint -q "$T/second"
	# a lock of a killed daemon is none
	mount_crash
	mount_start
}

# It would wait for itself.
test_a_cache_inside_the_mount_is_refused() {
	s3d_start
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$M/cache" "s3://$BUCKET/$PREFIX" "$M"
	says 'lies inside the mount point'
	not mountpoint -q "$M"
	mkdir "$T/real"
	ln -s "$M" "$T/real/link"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/real/link/cache" "s3://$BUCKET/$PREFIX" "$M"
	not mountpoint -q "$M"
	rm -rf "$M/cache"
	# nor in another mount of cpgfs, which would upload it
	mount_start
	mkdir -p "$P/images" "$T/second"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$P/images/cache" \
		"s3://$BUCKET/cpg0123-example/other" "$T/second"
	says 'in another mount of cpgfs'
	not test -e "$P/images/cache"
	ln -s "$P/images" "$T/real/images"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/real/images/cache" \
		"s3://$BUCKET/cpg0123-example/other" "$T/second"
	says 'in another mount of cpgfs'
	rm -rf "$P/images/cache"
}

test_a_cache_of_another_bucket_is_refused() {
	expect_log '.'
	s3d_start
	mount_start
	mount_end
	PREFIX=cpg0123-example/other refused cache try_mount
	mount_start
}

test_stopped_by_a_signal() {
	s3d_start
	local signal pid
	for signal in TERM INT; do
		mount_start --paused
		mkdir -p "$P/images"
		echo $signal >"$P/images/$signal"
		pid=$(daemon_pid)
		kill -$signal "$pid"
		wait_for 20 ended "$pid"
		not mountpoint -q "$M"
		grep -q "info main: ending: signal $(kill -l $signal) of process $$ " "$T/cpgfs.log"
	done
	mount_start
	same "content" "$(cat "$P/images/TERM" "$P/images/INT" | tr '\n' ' ')" "TERM INT "
	exits 0 all_verified
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 2
}

# Who waits for a listing that does not come does not hold it up.
test_stopped_while_the_bucket_is_slow() {
	local pid reader
	s3d_start
	mount_start
	faults <<<"ListObjectsV2 always hold=$T/go"
	ls "$M/.cpgfs/remote/$PREFIX" >"$T/listed" 2>&1 &
	reader=$!
	wait_for 60 test -e "$T/go.held"
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_for 60 ended "$pid"
	not wait $reader || fail "it listed what did not come"
	touch "$T/go"
}

# Ctrl-C before it is mounted: the daemon does not go on alone.
test_interrupted_while_it_mounts() {
	local pid
	s3d_start
	faults <<<"* always hold=$T/go"
	"$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/cache" --log-file "$T/cpgfs.log" \
		"s3://$BUCKET/$PREFIX" "$M/new" </dev/null 2>"$T/said" &
	pid=$!
	wait_for 60 test -e "$T/go.held"
	kill -TERM $pid
	not wait $pid || fail "it ended as if it were mounted"
	for pid in $(processes_with "$CPGFS"); do
		not cmdline_has "$pid" "$M/new" || fail "the daemon goes on"
	done
	grep -q interrupted "$T/said"
	test ! -e "$M/new" || fail "it left the folder that it made"
	touch "$T/go"
}

# Threads run when the daemon mounts. A fork of it has their locks as they were, for ever.
# (For root libfuse calls mount(2). Where /etc/mtab is a file it forks then, but that child takes no memory.)
test_no_fork_beside_threads() {
	[ "$(id -u)" != 0 ] || return 0
	s3d_start
	cc -shared -fPIC -o "$T/no_fork.so" -xc - <<-'END'
		#define _GNU_SOURCE
		#include <dirent.h>
		#include <dlfcn.h>
		#include <errno.h>
		#include <sys/types.h>
		pid_t fork(void)
		{
			DIR *tasks = opendir("/proc/self/task");
			int entries = 0; /* with . and .. */
			while (tasks && readdir(tasks))
				entries++;
			if (tasks)
				closedir(tasks);
			errno = EAGAIN;
			return entries == 3 ? ((pid_t(*)(void))dlsym(RTLD_NEXT, "fork"))() : -1;
		}
	END
	LD_PRELOAD=$T/no_fork.so mount_start
	echo a >"$P/a"
	exits 0 all_verified
	mount_end
}

# Whoever is not root needs it, and it says itself why it refuses; if it is not there, nobody else does.
test_without_fusermount() {
	[ "$(id -u)" != 0 ] || return 0
	s3d_start
	local mount=("$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/cache" --log-file "$T/cpgfs.log")
	expect_log 'fusermount3'
	mkdir "$T/bin"
	refused 'fusermount3 is not installed (package fuse3)' env "PATH=$T/bin" "${mount[@]}" "s3://$BUCKET/$PREFIX" "$M"
	printf '#!/bin/sh\necho "it says why" >&2\nexit 1\n' >"$T/bin/fusermount3"
	chmod +x "$T/bin/fusermount3"
	refused 'message of fusermount3 above' env "PATH=$T/bin" "${mount[@]}" "s3://$BUCKET/$PREFIX" "$M"
	says "it says why"
}

# Some that start others (cron, supervisors) ignore the end of their children, and so do these then.
test_started_with_ends_of_children_ignored() {
	s3d_start
	cat >"$T/ignoring" <<-END
		#!$PYTHON
		import os, signal, sys
		signal.signal(signal.SIGCHLD, signal.SIG_IGN)
		os.execv("$CPGFS", ["$CPGFS"] + sys.argv[1:])
	END
	chmod +x "$T/ignoring"
	local pid
	CPGFS=$T/ignoring mount_start
	pid=$(daemon_pid)
	kill "$pid"
	wait_for 20 ended "$pid"
	not mountpoint -q "$M"
	CPGFS=$T/ignoring mount_start
	pid=$(daemon_pid)
	kill -KILL "$pid"
	wait_for 20 ended "$pid"
	CPGFS=$T/ignoring mount_start
	mount_end
}

# What opens next would be taken for them: messages would go into a data file.
test_with_the_standard_streams_closed() {
	s3d_start
	try_mount --settle 100ms <&- >&- 2>&-
	P=$M/$PREFIX
	grep -q "main: mounted" "$T/cpgfs.log"
	mkdir -p "$P/images"
	make_file "$P/images/a" 3000000
	cp "$P/images/a" "$T/src/a"
	mkdir "$T/second"
	exits 1 "$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX" "$T/second"
	says "$(daemon_pid)"
	mount_crash
	mount_start
	cmp "$T/src/a" "$P/images/a"
	exits 0 all_verified
	mount_end
	exits 0 "$CPGFS" --version >&- 2>&- <&-
}

# Who mounts in a script that holds a lock gives the lock back at its end.
test_nothing_that_was_open_stays_open() {
	s3d_start
	exec 9>"$T/lock"
	flock 9
	mount_start
	exec 9>&-
	flock -n "$T/lock" true || fail "the daemon holds the lock"
}

test_stopped_by_fusermount() {
	s3d_start
	mount_start --paused
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	local pid
	pid=$(daemon_pid)
	fusermount3 -u "$M"
	wait_for 20 ended "$pid"
	grep -q 'info main: ending: unmounted$' "$T/cpgfs.log"
	mount_start
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/images/a")")" a
}

test_umount_of_a_busy_mount_says_so() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	exec 7>"$P/images/open"
	exits 1 "$CPGFS" umount "$M"
	mountpoint -q "$M"
	echo a >&7
	exec 7>&-
	exits 0 all_verified
}

test_umount_outlasts_who_only_looks() {
	s3d_start
	mount_start
	mkdir -p "$P/images" "$T/bin"
	printf '#!/bin/sh\necho "$*" >>%q\nexec %q "$@"\n' "$T/tries" "$(command -v fusermount3)" >"$T/bin/fusermount3"
	chmod +x "$T/bin/fusermount3"
	exec 7<"$P/images"
	PATH="$T/bin:$PATH" "$CPGFS" umount "$M" >"$T/umount" 2>&1 7<&- &
	wait_for 10 test -s "$T/tries"
	exec 7<&-
	wait $!
	not grep . "$T/umount"
	not mountpoint -q "$M"
}

test_umount_with_drain_uploads_first() {
	make_plate
	s3d_start
	mount_start --settle 1h
	copy_plate
	exits 0 "$CPGFS" umount --drain "$M"
	same_in_bucket "$SRC" "$PREFIX"
}

# WORD…: a fusermount3 that runs this first, once.
before_unmounting() {
	mkdir -p "$T/bin"
	{
		echo '#!/bin/bash'
		printf '[ -e %q ] || { : >%q; %s; }\n' "$T/once" "$T/once" "$*"
		printf 'exec %q "$@"\n' "$(command -v fusermount3)"
	} >"$T/bin/fusermount3"
	chmod +x "$T/bin/fusermount3"
}

test_umount_with_drain_takes_what_comes_late() {
	s3d_start
	mount_start --settle 1h
	mkdir -p "$P/images"
	before_unmounting "echo late >$P/images/late"
	PATH="$T/bin:$PATH" exits 0 "$CPGFS" umount --drain "$M"
	same "what came late" "$(cat "$(bucket_file "$PREFIX/images/late")")" late
}

test_umount_with_drain_tells_what_came_of_what_comes_late() {
	expect_log 'the bucket holds something else|discarded by command'
	s3d_start
	echo theirs >theirs
	put_elsewhere "$PREFIX/images/late" theirs
	mount_start
	before_unmounting "echo late >$P/images/late"
	PATH="$T/bin:$PATH" exits 3 "$CPGFS" umount --drain "$M"
	says 'some files need you'
	same "theirs" "$(cat "$(bucket_file "$PREFIX/images/late")")" theirs
	mount_start
	same "what came late" "$(cat "$P/images/late")" late
	exits 0 "$CPGFS" discard "$P/images/late"
}

# Then it is a mount like any other.
test_umount_with_drain_of_a_busy_mount() {
	local pid
	s3d_start
	mount_start --paused
	mkdir -p "$P/images"
	exec 7<"$P/images"
	exits 1 "$CPGFS" umount --drain "$M"
	exec 7<&-
	echo a >"$P/images/a"
	pid=$(daemon_pid)
	exits 0 timeout 20 "$CPGFS" umount "$M"
	ended "$pid"
	grep -q 'info main: stopped with 1 file still to upload' "$T/cpgfs.log"
}

# The daemon's pid says nothing there: the lock of its cache tells when it has ended.
test_umount_from_another_pid_namespace_waits() {
	local pid
	unshare --pid --fork true || skip "no pid namespace can be made here"
	make_plate
	s3d_start --delay-ms 20
	mount_start --drain
	copy_plate
	exits 0 unshare --pid --fork "$CPGFS" umount "$M"
	exits 0 flock --nonblock "$T/cache/lock" true
	same_in_bucket "$SRC" "$PREFIX"
	mount_start
	pid=$(daemon_pid)
	mv "$T/cache/lock" "$T/cache/lock.away" # nothing is left that tells
	exits 2 unshare --pid --fork "$CPGFS" umount "$M"
	says "did not wait"
	wait_for 40 ended "$pid"
}

test_term_with_drain_uploads_first() {
	make_plate
	s3d_start --delay-ms 20
	mount_start --drain
	copy_plate
	local pid
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_for 40 ended "$pid"
	same_in_bucket "$SRC" "$PREFIX"
}

# It will not be finished any more: nothing is worth waiting for.
test_drain_does_not_wait_for_what_is_being_written() {
	local pid
	s3d_start
	mount_start --drain --settle 1h
	mkdir -p "$P/images"
	"$PYTHON" -c '
import sys, time
f = open(sys.argv[1], "w", buffering=1)
print("a", file=f)
open("written", "w")
time.sleep(1000)' "$P/images/open" &
	wait_for 20 test -e written
	echo b >"$P/images/closed"
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_for 20 ended "$pid"
	kill -KILL $!
	wait $! || true
	same "the closed one" "$(cat "$(bucket_file "$PREFIX/images/closed")")" b
	grep -q 'info main: stopped with 1 file that was still being written' "$T/cpgfs.log"
	mount_start
	same "state" "$(state "$P/images/open")" incomplete
}

test_in_the_foreground() {
	s3d_start
	"$CPGFS" mount -f --endpoint "$ENDPOINT" --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX" "$M" 2>"$T/cpgfs.log" &
	local pid=$!
	wait_for 10 mountpoint -q "$M"
	kill -INT $pid
	wait $pid || fail "ended with $?"
	not mountpoint -q "$M"
}

test_keys_come_from_a_profile_and_may_change() {
	expect_log 'credential|expired|Expired|refus|InvalidAccessKeyId|key'
	make_plate --wells 1
	s3d_start --key AKIDRENEWED:other+secret
	mkdir "$HOME/.aws"
	printf '[profile cpg_staging]\nregion = us-east-1\n' >"$HOME/.aws/config"
	printf '[cpg_staging]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$KEY" "$SECRET" >"$HOME/.aws/credentials"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
	mount_start --profile cpg_staging
	faults <<<"* always expire-token"
	copy_plate
	wait_for 30 paused
	faults </dev/null
	printf '[cpg_staging]\naws_access_key_id = AKIDRENEWED\naws_secret_access_key = other+secret\n' >"$HOME/.aws/credentials"
	exits 0 all_verified
	same "secrets written down" "$(grep -rlF "$SECRET" "$T/cache" "$T/cpgfs.log" | wc -l)" 0
	same "secrets shown" "$(grep -F "$SECRET" "$M/.cpgfs/status" "$M/.cpgfs/status.json" | wc -l)" 0
}

paused() {
	[ "$(status_json paused_reason)" != null ]
}

test_the_cache_is_private() {
	s3d_start
	mount_start
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	same "mode of the cache" "$(stat -c %a "$T/cache")" 700
	same "files open to others" "$(find "$T/cache" -perm /077 ! -type d | wc -l)" 0
}

run_tests "$@"
