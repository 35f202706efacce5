#!/usr/bin/env bash
# Keys and tokens are nowhere to be found: not in logs, the cache, status, command lines, environments,
# nor in what a core dump would hold.
# rights: both
. "$(dirname "$0")/lib.sh"

HANDED=handed/over+secret HANDED_TOKEN=handed/over+token

test_secrets_are_nowhere() {
	local pid file found
	printf 'role up\n' >"$T/services"
	s3d_start --services "$T/services" --key "AKIDHANDED:$HANDED:$HANDED_TOKEN"
	mkdir -p "$HOME/.aws"
	printf '[profile up]\nrole_arn = up\nsource_profile = keys\n[profile keys]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
		"$KEY" "$SECRET" >"$HOME/.aws/config"
	export AWS_SECRET_ACCESS_KEY=environment+secret AWS_SESSION_TOKEN=environment+token
	mount_start --profile up --log-level debug
	make_plate --wells 1
	copy_plate
	exits 0 all_verified
	pid=$(daemon_pid)
	[ "$(id -u)" != 0 ] || dump_holds_none "$pid"
	printf '{"AccessKeyId": "AKIDHANDED", "SecretAccessKey": "%s", "SessionToken": "%s"}\n' \
		"$HANDED" "$HANDED_TOKEN" >"$T/handed"
	cat "$T/handed" >"$M/.cpgfs/credentials" # in one write
	echo more >"$P/more"
	exits 0 all_verified
	# what s3d gave out begins so
	printf '%s\n' "$SECRET" "$HANDED" "$HANDED_TOKEN" environment+secret environment+token issued/ TOKEN/ >"$T/secrets"
	for file in "$T/cpgfs.log" "$M/.cpgfs/status" "$M/.cpgfs/status.json" "$M/.cpgfs/metrics"; do
		not grep -aFf "$T/secrets" "$file" || fail "a secret in $file"
	done
	found=$(grep -raFlf "$T/secrets" "$T/cache" || true)
	[ -z "$found" ] || fail "a secret in $found"
	not grep -aFf "$T/secrets" "/proc/$pid/cmdline" || fail "a secret in its command line"
	fails_with Permission cat "$M/.cpgfs/credentials"
	if [ "$(id -u)" = 0 ]; then
		not grep -aFf "$T/secrets" "/proc/$pid/environ" || fail "a secret in its environment"
		dump_holds_none "$pid"
	else
		fails_with Permission cat "/proc/$pid/environ"
		fails_with Permission head -c 1 "/proc/$pid/mem"
	fi
}

# All memory that a core dump would hold, while no request is under way.
dump_holds_none() { # PID
	local said
	said=$("$PYTHON" - "$1" "$SECRET" "$HANDED" "$HANDED_TOKEN" environment+secret environment+token issued/ TOKEN/ <<-'PY'
	import collections, re, sys
	pid, secrets = sys.argv[1], [s.encode() for s in sys.argv[2:]]
	found, left_out, region = [], 0, None
	memory = open("/proc/%s/mem" % pid, "rb", 0)
	for line in open("/proc/%s/smaps" % pid):
	    head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (....) .*?(\S*)$", line)
	    if head:
	        region = head
	    if not line.startswith("VmFlags:") or region[3][:2] != "rw":
	        continue
	    try:
	        memory.seek(int(region[1], 16))
	        data = memory.read(int(region[2], 16) - int(region[1], 16))
	    except OSError:
	        continue
	    hits = [s for s in secrets for _ in range(data.count(s))]
	    if " dd" in line:
	        left_out += len(hits)
	    else:
	        found += [(s, region[4]) for s in hits]
	if not left_out:
	    print("the search finds nothing where the keys are: it is no search")
	for (secret, where), times in collections.Counter(found).items():
	    print("%s %d times in %s" % (secret.decode(), times, where or "memory without a name"))
	PY
	)
	[ -z "$said" ] || fail "a core dump would hold: $said"
}

run_tests "$@"
