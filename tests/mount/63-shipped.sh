#!/usr/bin/env bash
# What comes with the program and repeats its options: completions, systemd units. They must know them
# all, and no others.
. "$(dirname "$0")/lib.sh"

complete_line() { # WORD…: what bash would offer for the last of them, sorted
	(
		set +eE
		trap - ERR
		. "$TOP/contrib/completions/cpgfs.bash"
		COMP_WORDS=("$CPGFS" "$@")
		COMP_CWORD=$#
		_cpgfs
		printf '%s\n' "${COMPREPLY[@]}" | sort
	)
}

offers() { # WORDS -- OFFERED: exactly these
	local words=()
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	same "completion of ${words[*]}" "$(complete_line "${words[@]}" | paste -sd ' ')" "$*"
}

# Options of the mount's table, as the program names them in the status of a mount.
table() {
	"$PYTHON" -c '
import json, sys
for option in json.load(open(sys.argv[1]))["options"]:
    print("--" + option.split("=")[0])' "$M/.cpgfs/status.json" | sort
}

test_completion_knows_commands_and_options() {
	local command option
	s3d_start
	mount_start
	table >"$T/table"
	at_least "options in the table" "$(wc -l <"$T/table")" 30
	complete_line '' >"$T/commands"
	"$CPGFS" --help | awk '/^  [a-z]/ { print $1 }' | sort | cmp -s - "$T/commands" || fail "commands: $(cat "$T/commands")"
	for command in mount check plan verify repair; do
		complete_line "$command" -- >"$T/offered"
		[ -z "$(comm -23 "$T/table" "$T/offered")" ] || fail "$command lacks $(comm -23 "$T/table" "$T/offered")"
	done
	# none that the command does not know
	while read -r command; do
		complete_line "$command" -- | sed '/^$/d' >"$T/offered"
		for option in $(comm -23 "$T/offered" "$T/table"); do
			"$CPGFS" "$command" "$option" </dev/null >"$T/said" 2>&1 || true
			not grep -qE 'no option|unknown|unrecognized' "$T/said" || fail "$command $option: $(cat "$T/said")"
		done
	done <"$T/commands"
	local others=(check plan verify repair) at=0
	for option in $(cat "$T/table"); do # shared by these: each is asked of one
		command=${others[at++ % 4]}
		"$CPGFS" "$command" "$option" </dev/null >"$T/said" 2>&1 || true
		not grep -qE 'no option|unknown|unrecognized' "$T/said" || fail "$command $option: $(cat "$T/said")"
	done
	offers wait - -- --timeout
	offers credentials - -- --env --force --stdin
	offers umount --l -- --lazy
}

test_completion_of_values() {
	s3d_start
	mount_start
	mkdir -p "$HOME/.aws" "$HOME/.config/cpgfs/galleries"
	printf '[default]\n[keys]\n' >"$HOME/.aws/credentials"
	printf '[profile up]\n[cpg_staging]\n' >"$HOME/.aws/config"
	printf '[gallery]\nbucket = ours\n' >"$HOME/.config/cpgfs/galleries/ours.ini"
	offers mount --gallery '' -- cellpainting cellpainting-staging ours
	offers check --gallery cellpainting- -- cellpainting-staging
	offers mount --gallery = o -- ours
	offers galleries '' -- cellpainting cellpainting-staging ours
	offers mount --profile '' -- cpg_staging default keys up
	offers mount --naming '' -- clean hold off refuse
	offers mount --naming = -- clean hold off refuse
	offers plan --layout e -- enforce
	offers mount --df '' -- buffer unlimited
	offers mount --prefix '' --
	offers mount --settle '' --
	mkdir "$T/a-folder"
	: >"$T/a-file"
	offers mount --cache-dir "$T/a-fo" -- "$T/a-folder"
	offers mount --log-file "$T/a-fi" -- "$T/a-file"
	offers mount --paused "$T/a-f" -- "$T/a-folder"
	offers plan "$T/a-f" -- "$T/a-file" "$T/a-folder"
	complete_line status '' | grep -qxF "$M" || fail "a mount is not offered"
}

# ExecStart of the units with example.conf's settings, against a server that plays gallery and grants.
test_units_mount_the_gallery() {
	local unit line
	BUCKET=staging-cellpainting-gallery
	printf '%s\n' 'account 309624411020' "grant s3://$BUCKET/$PREFIX/*" >"$T/services"
	s3d_start --services "$T/services" --key "BASE:base/secret@nowhere/"
	make_plate --wells 1
	for unit in cpgfs@.service user/cpgfs@.service; do
		line=$(sed -n 's/^ExecStart=//p' "$TOP/contrib/systemd/$unit")
		[ -n "$line" ] || fail "$unit starts nothing"
		(
			set -a
			. <(sed -n 's/^\(CPGFS_[A-Z]*\)=\(.*\)/\1='"'\\2'/p" "$TOP/contrib/systemd/example.conf")
			CPGFS_MOUNTPOINT=$M CPGFS_OPTIONS=--settle=100ms
			AWS_ACCESS_KEY_ID=BASE AWS_SECRET_ACCESS_KEY=base/secret
			line=${line//\/usr\/bin\/cpgfs/"$CPGFS"}
			line=${line//\/var\/lib\/cpgfs\/%i/"$T/$unit.cache"}
			eval "exec $line" >"$T/unit.log" 2>&1
		) &
		wait_for 20 mountpoint -q "$M"
		P=$M/$PREFIX
		copy_plate
		exits 0 all_verified
		same_in_bucket "$SRC" "$PREFIX"
		status_json options | grep -q '"gallery=cellpainting-staging"' || fail "not by the preset"
		status_json credentials | grep -qF "access grant s3://$BUCKET/$PREFIX/*" || fail "status says $(status_json credentials)"
		"$CPGFS" umount "$M"
		wait $! || fail "the unit's command ended with $?"
	done
}

run_tests "$@"
