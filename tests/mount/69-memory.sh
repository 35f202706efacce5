#!/usr/bin/env bash
# Secret keys in the daemon's memory: those in use, and no others. (A session token alone signs nothing, and
# stands in every request.) Reading it is root's business.
# rights: root
. "$(dirname "$0")/lib.sh"

FIRST=ASIAFIRSTFIRST000001 FIRST_SECRET=firstSecret/0123456789+abcdefghijklmnopq FIRST_TOKEN=firstTokenFirstTokenFirstToken==
SECOND=ASIASECONDSECOND0002 SECOND_SECRET=secondSecret/0123456789+abcdefghijklmnop SECOND_TOKEN=secondTokenSecondTokenSecond/+a==

# PID TEXT: how often it stands in the process's memory.
times_in_memory() {
	"$PYTHON" - "$1" "$2" <<-'PY'
	import sys
	pid, text, count = sys.argv[1], sys.argv[2].encode(), 0
	with open("/proc/%s/mem" % pid, "rb", 0) as memory:
	    for row in open("/proc/%s/maps" % pid):
	        start, end = (int(x, 16) for x in row.split()[0].split("-"))
	        if row.split()[1][0] != "r" or "[v" in row:
	            continue
	        try:
	            memory.seek(start)
	            count += memory.read(end - start).count(text)
	        except OSError:
	            pass
	print(count)
	PY
}

gone_from_memory() { # PID TEXT
	[ "$(times_in_memory "$1" "$2")" = 0 ]
}

json() { # KEY SECRET TOKEN
	printf '{"Credentials":{"AccessKeyId":"%s","SecretAccessKey":"%s","SessionToken":"%s"}}\n' "$@"
}

test_replaced_keys_are_wiped() {
	make_plate --wells 1
	s3d_start --key "$FIRST:$FIRST_SECRET:$FIRST_TOKEN" --key "$SECOND:$SECOND_SECRET:$SECOND_TOKEN"
	mount_start
	local pid
	pid=$(daemon_pid)
	json "$FIRST" "$FIRST_SECRET" "$FIRST_TOKEN" | exits 0 "$CPGFS" credentials "$M"
	mkdir -p "$P"
	cp -r "$SRC/." "$P/"
	exits 0 all_verified
	at_least "copies of the secret in use" "$(times_in_memory "$pid" "$FIRST_SECRET")" 1
	json "$SECOND" "$SECOND_SECRET" "$SECOND_TOKEN" | exits 0 "$CPGFS" credentials "$M"
	refresh # requests with the new ones: the loop lets go of the old
	ls -lR "$M/.cpgfs/remote" >/dev/null
	wait_for 10 gone_from_memory "$pid" "$FIRST_SECRET"
	# straight to the file
	json "$FIRST" "$FIRST_SECRET" "$FIRST_TOKEN" >"$M/.cpgfs/credentials"
	refresh
	ls -lR "$M/.cpgfs/remote" >/dev/null
	at_least "copies of the secret in use" "$(times_in_memory "$pid" "$FIRST_SECRET")" 1
	wait_for 10 gone_from_memory "$pid" "$SECOND_SECRET"
}

run_tests "$@"
