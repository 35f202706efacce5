#!/usr/bin/env bash
# Keys handed to a running mount: in every form people have them, never where others could see them.
# rights: user
. "$(dirname "$0")/lib.sh"

# What an upload of days meets: the keys expire in the middle; others are there, not yet known.
OLD=ASIAOLDOLDOLDOLD0001 OLD_SECRET=oldSecret/0123456789+abcdefghijklmnopqrst OLD_TOKEN=oldTokenOldTokenOldToken==
NEW=ASIANEWNEWNEWNEW0002 NEW_SECRET=newSecret/0123456789+abcdefghijklmnopqrst NEW_TOKEN=newTokenNewTokenNewToken/+a==
OTHER=ASIAOTHEROTHER000003 OTHER_SECRET=otherSecret OTHER_TOKEN=otherToken

start() { # [S3D OPTION…]
	make_plate --wells 1
	s3d_start --key "$OLD:$OLD_SECRET:$OLD_TOKEN" --key "$NEW:$NEW_SECRET:$NEW_TOKEN" \
		--key "$OTHER:$OTHER_SECRET:$OTHER_TOKEN@$BUCKET/cpg9999-other" "$@"
	AWS_ACCESS_KEY_ID=$OLD AWS_SECRET_ACCESS_KEY=$OLD_SECRET AWS_SESSION_TOKEN=$OLD_TOKEN mount_start
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
}

# The server knows the old ones no longer.
expire_old() {
	expect_log 'credential|Credential|expired|refus|InvalidAccessKeyId|key'
	s3d_stop
	s3d_start --key "$NEW:$NEW_SECRET:$NEW_TOKEN" --key "$OTHER:$OTHER_SECRET:$OTHER_TOKEN@$BUCKET/cpg9999-other"
}

paused() {
	[[ $(status_json paused_reason) == *credentials* ]]
}

json() { # KEY SECRET TOKEN: as get-data-access prints it
	cat <<-JSON
	{
	    "Credentials": {
	        "AccessKeyId": "$1",
	        "SecretAccessKey": "$2",
	        "SessionToken": "$3",
	        "Expiration": "2099-01-01T00:00:00+00:00"
	    },
	    "MatchedGrantTarget": "s3://$BUCKET/$PREFIX/*"
	}
	JSON
}

lines() { # BEFORE NAME-VALUE-SEPARATOR QUOTE END
	printf '%s%s%s%s%s%s%b' "$1" AWS_ACCESS_KEY_ID "$2" "$3" "$NEW" "$3" "$4"
	printf '%s%s%s%s%s%s%b' "$1" AWS_SECRET_ACCESS_KEY "$2" "$3" "$NEW_SECRET" "$3" "$4"
	printf '%s%s%s%s%s%s%b' "$1" AWS_SESSION_TOKEN "$2" "$3" "$NEW_TOKEN" "$3" "$4"
}

hand_over() { # OPTION…: standard input is the keys
	"$CPGFS" credentials "$@" "$M"
}

no_secret_in() { # FILE…
	local secret
	for secret in "$OLD_SECRET" "$OLD_TOKEN" "$NEW_SECRET" "$NEW_TOKEN"; do
		! grep -rqF -- "$secret" "$@" || fail "a secret is in $(grep -rlF -- "$secret" "$@" | head -3)"
	done
}

test_uploads_go_on_with_new_keys() {
	start
	expire_old
	copy_plate
	wait_for 20 paused
	json "$NEW" "$NEW_SECRET" "$NEW_TOKEN" | exits 0 hand_over
	says "…0002"
	says "until 2099-01-01T00:00:00Z"
	says "for s3://$BUCKET/$PREFIX/*"
	no_secret_in "$T/last"
	not paused
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	mount_end
	no_secret_in "$T/cache" "$T/cpgfs.log" "$T/home"
}

test_every_form_that_tools_print() {
	start
	local form
	for form in get-data-access process env env-no-export powershell cmd bash-declare crlf quoted file; do
		case $form in
		get-data-access) json "$NEW" "$NEW_SECRET" "$NEW_TOKEN" ;;
		process) printf '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","SessionToken":"%s"}' "$NEW" "$NEW_SECRET" "$NEW_TOKEN" ;;
		env) lines 'export ' = '' '\n' ;;
		env-no-export) lines '' = '' '\n' ;;
		powershell) lines '$Env:' = '"' '\r\n' ;;
		cmd) lines 'set ' = '' '\r\n' ;;
		bash-declare) lines 'declare -x ' = '"' '\n' ;;
		crlf) lines 'export ' = '' '\r\n' ;;
		quoted) lines 'export ' = "'" '\n' ;;
		file) printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n' "$NEW" "$NEW_SECRET" "$NEW_TOKEN" ;;
		esac >"$T/form"
		exits 0 hand_over <"$T/form" || fail "form $form"
		says "…0002"
		same "source after $form" "$(status_json credentials | grep -c 'handed over')" 1
		# back to what is not these
		lines '' = '' '\n' | sed "s|$NEW_TOKEN|$OLD_TOKEN|; s|$NEW_SECRET|$OLD_SECRET|; s|$NEW|$OLD|" | exits 0 hand_over
		says "…0001"
	done
}

test_out_of_the_environment() {
	start
	export AWS_ACCESS_KEY_ID=$NEW AWS_SECRET_ACCESS_KEY=$NEW_SECRET AWS_SESSION_TOKEN=$NEW_TOKEN
	exits 0 hand_over </dev/null
	says "the environment: temporary key …0002"
	# what is piped goes first
	json "$OLD" "$OLD_SECRET" "$OLD_TOKEN" | exits 0 hand_over
	says "standard input: temporary key …0001"
	json "$OLD" "$OLD_SECRET" "$OLD_TOKEN" | exits 0 hand_over --env
	says "the environment: temporary key …0002"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
	exits 1 hand_over </dev/null
	says "source create_credentials.sh"
}

# Pasted at a terminal: what is typed is not echoed, the terminal is as it was.
test_pasted_at_a_terminal() {
	needs_terminals
	start
	expire_old
	copy_plate
	wait_for 20 paused
	lines 'export ' = '' '\n' >"$T/form"
	"$PYTHON" - "$CPGFS" "$M" "$T/form" >"$T/last" <<-'PY'
	import os, pty, sys, termios
	cpgfs, mount, form = sys.argv[1:]
	pid, terminal = pty.fork()
	if pid == 0:
	    os.execv(cpgfs, [cpgfs, "credentials", mount])
	before = termios.tcgetattr(terminal)
	seen, sent = b"", False
	while True:
	    try:
	        more = os.read(terminal, 4096)
	    except OSError:
	        break
	    if not more:
	        break
	    seen += more
	    # the prompt comes before echo is off: wait until it is
	    if not sent and b"Paste" in seen:
	        while termios.tcgetattr(terminal)[3] & termios.ECHO:
	            pass
	        os.write(terminal, open(form, "rb").read() + b"\n")
	        sent = True
	status = os.waitpid(pid, 0)[1]
	sys.stdout.write(seen.decode())
	assert os.waitstatus_to_exitcode(status) == 0, seen
	PY
	says "what was pasted: temporary key …0002"
	no_secret_in "$T/last"
	exits 0 all_verified
}

test_keys_on_the_command_line_are_refused() {
	start
	local word
	for word in "$NEW" "AWS_SECRET_ACCESS_KEY=$NEW_SECRET" "$(json "$NEW" "$NEW_SECRET" "$NEW_TOKEN")" "--session-token=$NEW_TOKEN"; do
		exits 1 "$CPGFS" credentials "$M" "$word" </dev/null
		says "not taken from the command line"
		no_secret_in "$T/last"
		exits 1 "$CPGFS" credentials "$word" </dev/null
		no_secret_in "$T/last"
	done
	exits 1 "$CPGFS" credentials "$M" keys.json </dev/null
	says "< FILE"
	exits 1 "$CPGFS" credentials
	exits 0 "$CPGFS" credentials --help
	says get-data-access
}

# What cannot be right leaves the mount with the keys it has.
test_wrong_keys_do_not_take_the_place_of_good_ones() {
	expect_log 'cannot be used'
	start
	printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$NEW" "$NEW_SECRET" | exits 1 hand_over
	says "session token"
	json "$NEW" "$NEW_SECRET" null | exits 1 hand_over
	says "placeholder"
	json "$OTHER" "$OTHER_SECRET" "$OTHER_TOKEN" | exits 1 hand_over
	says "are they those of this prefix"
	json "$NEW" wrong/secret "$NEW_TOKEN" | exits 1 hand_over
	says "SignatureDoesNotMatch"
	json "$NEW" "$NEW_SECRET" "$NEW_TOKEN" | sed 's/2099/2001/' | exits 1 hand_over
	says "expired"
	echo nonsense | exits 1 hand_over
	says "no credentials"
	json "$NEW" "$NEW_SECRET" "$NEW_TOKEN" | head -c 100 | exits 1 hand_over
	head -c 300000 /dev/zero | tr '\0' x >"$T/long" # no pipe: it is not read to its end
	exits 1 hand_over <"$T/long"
	says "more text"
	exits 1 hand_over </dev/null
	copy_plate
	exits 0 all_verified
	same "source" "$(status_json credentials | grep -c 'handed over' || true)" 0
	# an empty or wrong write to the file itself
	not bash -c 'echo nonsense >"$1/.cpgfs/credentials"' - "$M" 2>/dev/null
	exits 0 "$CPGFS" status "$M"
}

# Whoever can write the file needs no command.
test_straight_to_the_file() {
	start
	expire_old
	copy_plate
	wait_for 20 paused
	same "mode" "$(stat -c %a "$M/.cpgfs/credentials")" 600
	fails_with '' cat "$M/.cpgfs/credentials"
	json "$NEW" "$NEW_SECRET" "$NEW_TOKEN" >"$M/.cpgfs/credentials"
	exits 0 all_verified
}

run_tests "$@"
