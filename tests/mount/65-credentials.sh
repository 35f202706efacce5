#!/usr/bin/env bash
# Credentials that outlive the upload: roles, grants and sign-ins that end after seconds, in the
# middle of what is going on.
# long
. "$(dirname "$0")/lib.sh"

ROLE=arn:aws:iam::123456789012:role/uploader
ACCOUNT=123456789012
BASE=AKIDBASE BASE_SECRET=base/secret+of+a+contributor

# Lines of s3d_services.h on standard input; s3d reads them at its next request.
services() {
	cat >"$T/services.new"
	mv "$T/services.new" "$T/services"
}

# s3d with these services, and a key that may do nothing but ask for grants.
services_start() { # [OPTION…]
	s3d_start --services "$T/services" --key "$BASE:$BASE_SECRET@nowhere/" "$@"
}

# The environment's keys go; profile "up" assumes the role with them.
role_profile() {
	mkdir -p "$HOME/.aws"
	printf '[profile up]\nrole_arn = %s\nsource_profile = keys\n[profile keys]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
		"$ROLE" "$KEY" "$SECRET" >"$HOME/.aws/config"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
}

use_base_keys() {
	export AWS_ACCESS_KEY_ID=$BASE AWS_SECRET_ACCESS_KEY=$BASE_SECRET
}

# As mount_start, but it may refuse.
try_mount() { # OPTION…
	"$CPGFS" mount --endpoint "$ENDPOINT" --cache-dir "${CACHE:-$T/cache}" --log-file "$T/cpgfs.log" \
		--settle 100ms --min-free 100M "$@" "${SOURCE:-s3://$BUCKET/$PREFIX}" "$M" </dev/null
}

paused_with() { # TEXT
	status_json paused_reason | grep -qF -- "$1"
}

# ---- renewal ------------------------------------------------------------------------------------

# A daemon's own thread, after fork: credentials of 3 s, renewed at half of it, again and again.
test_a_daemon_renews_ahead_of_expiry() {
	services <<<"lifetime 3
role $ROLE"
	services_start
	role_profile
	mount_start --profile up
	make_plate --wells 2
	copy_plate
	wait_for 30 requests_at_least 4 AssumeRole
	make_file "$T/src/late" 100000
	cp "$T/src/late" "$P/late"
	exits 0 all_verified
	cmp "$T/src/late" "$(bucket_file "$PREFIX/late")"
	same_in_bucket "$SRC/images" "$PREFIX/images"
	same "refused requests" "$(grep -cE 'ExpiredToken|InvalidToken|InvalidAccessKeyId' "$T/requests.log" || true)" 0
	status_json credentials | grep -F "role $ROLE by profile up in ~/.aws/config, until 20" || fail "status says $(status_json credentials)"
}

# They end on part k, earlier than they said. The same upload goes on with the next ones.
test_expiry_in_the_middle_of_a_multipart_upload() {
	services <<<"lifetime 2,3600 told=3600
role $ROLE"
	services_start --min-part-size 1
	role_profile
	faults <<<"UploadPart always delay=400"
	make_file "$T/src/big" $((60 * 1024 * 1024))
	mount_start --profile up --part-size 5M --multipart-threshold 5M --max-transfers 2
	mkdir -p "$P"
	cp "$T/src/big" "$P/big"
	exits 0 all_verified
	at_least "parts refused" "$(grep -c 'UploadPart.*ExpiredToken' "$T/requests.log")" 1
	cmp "$T/src/big" "$(bucket_file "$PREFIX/big")"
	same "uploads begun" "$(requests CreateMultipartUpload)" 1
	same "uploads ended" "$(requests CompleteMultipartUpload)" 1
	same "uploads given up" "$(requests AbortMultipartUpload)" 0
	same "roles assumed" "$(requests AssumeRole)" 2
	same "parts lost" "$(awk -F'\t' '$3 == "UploadPart" && $0 !~ /ExpiredToken/' "$T/requests.log" | wc -l)" 12
}

# 200 pages (also of the mount's own listing); after a hundred the token ends. Complete nevertheless, and
# no page twice in it.
deadline_test_expiry_in_the_middle_of_a_listing=120
test_expiry_in_the_middle_of_a_listing() {
	local n lister lifetime=$((10 * SLOW))
	services <<<"lifetime $lifetime,3600 told=3600
role $ROLE"
	services_start --page-size 5
	role_profile
	mkdir -p "$(bucket_file "$PREFIX/many")"
	for ((n = 0; n < 1000; n++)); do
		: >"$(bucket_file "$PREFIX/many/$(printf %04d "$n")")"
	done
	s3d_rescan
	faults <<<"ListObjectsV2 n=100+ hold=$T/go"
	mount_start --profile up
	"$CPGFS" ls -R "$P/many" >"$T/listed" &
	lister=$!
	wait_for 30 test -e "$T/go.held"
	wait_for 30 first_role_is_over $lifetime
	: >"$T/go"
	wait $lister
	same "objects listed" "$(wc -l <"$T/listed")" 1000
	same "names listed" "$(awk '{ print $4 }' "$T/listed" | sort -u | wc -l)" 1000
	same "objects in the mount" "$(find "$P/many" -type f | wc -l)" 1000
	at_least "pages before the token's end" "$(sed '/ExpiredToken/q' "$T/requests.log" | grep -c 'ListObjectsV2.*many')" 80
	at_least "pages after it" "$(sed '1,/ExpiredToken/d' "$T/requests.log" | grep -c 'ListObjectsV2.*many')" 80
	same "roles assumed" "$(requests AssumeRole)" 2
}

first_role_is_over() { # SECONDS of its life
	local since
	since=$(awk -F'\t' '$3 == "AssumeRole" { print $1; exit }' "$T/requests.log")
	[ "$(date +%s%3N)" -gt $((since + $1 * 1000 + 100)) ]
}

# Renewal fails: uploads wait, say why, ask seldom; a file changed by hand brings them on at once.
test_a_renewal_that_fails() {
	expect_log 'uploading paused: credentials'
	expect_log 'credentials: role .*: STS refuses'
	services <<<"lifetime 4
role $ROLE"
	services_start
	role_profile
	mount_start --profile up
	services </dev/null
	make_plate --wells 2
	wait_for 30 grep -q 'AssumeRole.*AccessDenied' "$T/requests.log"
	faults <<<"PutObject n=1 expire-token"
	copy_plate
	wait_for 30 paused_with "role $ROLE by profile up in ~/.aws/config: STS refuses $ROLE: AccessDenied"
	paused_with "see whether these keys may assume that role" || fail "no remedy: $(status_json paused_reason)"
	same "files failed" "$(status_json files.failed)" 0
	exits 2 "$CPGFS" wait --timeout 1 "$M"
	at_most "roles asked for" "$(requests AssumeRole)" 4
	faults </dev/null # where its keys had expired before it was sent
	local asked=$SECONDS
	printf '[up]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$KEY" "$SECRET" >"$HOME/.aws/credentials"
	printf '[profile up]\nregion = us-east-1\n' >"$HOME/.aws/config"
	exits 0 all_verified 40
	at_most "seconds until it went on" $((SECONDS - asked)) $((35 * SLOW))
	same_in_bucket "$SRC/images" "$PREFIX/images"
	"$CPGFS" status "$M" | grep -F 'profile up in ~/.aws/credentials'
}

test_a_sign_in_that_ended() {
	expect_log 'no credentials yet'
	expect_log 'uploading paused: credentials'
	services <<<"sso-token good-token"
	services_start
	mkdir -p "$HOME/.aws/sso/cache"
	printf '[profile lab]\nsso_session = lab\nsso_account_id = 1\nsso_role_name = up\n[sso-session lab]\nsso_start_url = https://x\nsso_region = us-east-1\n' >"$HOME/.aws/config"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
	make_plate --wells 1
	exits 0 try_mount --profile lab
	says "no credentials yet: SSO role up of profile lab: nobody is signed in by SSO here; aws sso login --profile lab; copying in works"
	P=$M/$PREFIX
	copy_plate
	wait_for 20 paused_with "aws sso login --profile lab"
	same "requests for credentials" "$(requests GetRoleCredentials)" 0
	printf '{"accessToken": "good-token", "expiresAt": "2099-01-01T00:00:00Z"}' >"$HOME/.aws/sso/cache/3953f9ddf975ab5097ee468d99555c5b441169bf.json"
	exits 0 all_verified
	same "requests for credentials" "$(requests GetRoleCredentials)" 1
}

# A relative path counts from where the mount command was given; standard error comes along.
test_a_credential_process() {
	services <<<"role $ROLE"
	services_start
	mkdir -p "$HOME/.aws"
	printf '[profile tool]\ncredential_process = ./tool "two words"\n' >"$HOME/.aws/config"
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
	printf '#!/bin/sh\n[ "$1" = "two words" ] || exit 1\necho "no ticket: kinit" >&2\nexit 7\n' >"$T/tool"
	chmod +x "$T/tool"
	expect_log 'no credentials yet'
	exits 0 try_mount --profile tool
	says "credential_process ended with status 7: no ticket: kinit"
	P=$M/$PREFIX
	make_plate --wells 1
	expect_log 'uploading paused: credentials'
	copy_plate
	printf '#!/bin/sh\necho '"'"'{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "%s"}'"'"'\n' "$KEY" "$SECRET" >"$T/tool.new"
	chmod +x "$T/tool.new"
	mv "$T/tool.new" "$T/tool"
	"$CPGFS" retry "$M" >/dev/null
	: >>"$HOME/.aws/config"
	touch "$HOME/.aws/config"
	exits 0 all_verified
}

# ---- access grants ------------------------------------------------------------------------------

# The whole of a contributor's way: keys that may only ask, exchanged, renewed, and verified.
test_an_access_grant() {
	services <<<"lifetime 3
account $ACCOUNT
grant s3://$BUCKET/$PREFIX/* READWRITE by=$BASE"
	services_start
	use_base_keys
	mount_start --access-grant --account-id $ACCOUNT
	make_plate --wells 2
	copy_plate
	exits 0 all_verified
	same_in_bucket "$SRC/images" "$PREFIX/images"
	wait_for 30 requests_at_least 3 GetDataAccess
	grep -q "^[^	]*	[^	]*	GetDataAccess	.*" "$T/requests.log"
	status_json credentials | grep -F "environment, access grant s3://$BUCKET/$PREFIX/*, until" || fail "status says $(status_json credentials)"
}

test_mounts_inside_and_outside_a_grant() {
	services <<<"account $ACCOUNT
grant s3://$BUCKET/cpg0123-example/* READWRITE"
	services_start
	use_base_keys
	mount_start --access-grant --account-id $ACCOUNT # a nested one
	mkdir -p "$P/images"
	echo a >"$P/images/a"
	exits 0 all_verified
	mount_end
	CACHE=$T/cache2 SOURCE=s3://$BUCKET/cpg0999-other/broad exits 1 try_mount --access-grant --account-id $ACCOUNT
	says "no grant for s3://$BUCKET/cpg0999-other/broad/*: AccessDenied"
	says "see whether prefix, --region and --account-id are those you were given"
	not mountpoint -q "$M"
	services <<<"account $ACCOUNT
grant s3://$BUCKET/cpg0123-example/* READWRITE matched=s3://$BUCKET/cpg0123-example/other/*"
	exits 1 try_mount --access-grant --account-id $ACCOUNT
	says "the mount s3://$BUCKET/$PREFIX lies outside the grant s3://$BUCKET/cpg0123-example/other/*"
	not mountpoint -q "$M"
	exits 1 try_mount --access-grant
	says "--account-id"
}

# Nothing can be changed in a mount that may only read, but it can be given other keys.
test_a_grant_for_reading() {
	expect_log 'the access grant is for reading only'
	services <<<"account $ACCOUNT
grant s3://$BUCKET/$PREFIX/* READ"
	services_start
	mkdir -p "$(dirname "$(bucket_file "$PREFIX/images/a")")"
	echo content >"$(bucket_file "$PREFIX/images/a")"
	s3d_rescan
	use_base_keys
	exits 0 try_mount --access-grant --account-id $ACCOUNT
	says "the access grant is for reading only: mounted read-only"
	P=$M/$PREFIX
	same "content" "$(cat "$P/images/a")" content
	changes_nothing
	refresh
}

changes_nothing() {
	local words="Read-only file system"
	fails_with "$words" touch "$P/new"
	fails_with "$words" mkdir "$P/images/folder"
	fails_with "$words" rm "$P/images/a"
	fails_with "$words" mv "$P/images/a" "$P/images/b"
	fails_with "$words" truncate -s 0 "$P/images/a"
	fails_with "$words" chmod 600 "$P/images/a"
	fails_with "$words" ln -s a "$P/images/l"
	fails_with "$words" setfattr -n user.x -v y "$P/images/a"
	fails_with "$words" bash -c ": >>'$P/images/a'"
	same "requests that change" "$(awk -F'\t' '$3 ~ /^(Put|Delete|Create|Copy)/ && $3 !~ /Bucket/' "$T/requests.log" | wc -l)" 0
}

# The first answer comes when all is mounted long since.
test_a_grant_for_reading_that_comes_late() {
	expect_log 'no credentials yet'
	expect_log 'uploading paused: credentials'
	expect_log 'the access grant is for reading only'
	expect_log 'images/new: AccessDenied' # made before that was known
	services <<<"account $ACCOUNT
grant s3://$BUCKET/$PREFIX/* READ"
	services_start
	use_base_keys
	faults <<<"GetDataAccess always status=503 code=SlowDown"
	exits 0 try_mount --access-grant --account-id $ACCOUNT
	says "no credentials yet: environment: GetDataAccess: SlowDown"
	P=$M/$PREFIX
	mkdir -p "$P/images"
	faults </dev/null
	mkdir -p "$HOME/.aws"
	echo '[default]' >"$HOME/.aws/config" # seen as news
	wait_for 30 not touch "$P/images/new"
	fails_with "Read-only file system" touch "$P/images/new"
}

# ---- over TLS ------------------------------------------------------------------------------------

# Services and bucket behind a certificate that only AWS_CA_BUNDLE (or --ca-bundle) knows; a relative
# name counts from where the mount command was given.
test_certificates_of_ones_own() {
	need openssl
	services <<<"role $ROLE"
	services_start
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$T/tls.key" -out "$T/own-ca.pem" 2>/dev/null
	"$TOOLS/tls-front" "$T/own-ca.pem" "$T/tls.key" "$(cat "$T/port")" "$T/tls.port" &
	wait_for 10 test -s "$T/tls.port"
	ENDPOINT=https://127.0.0.1:$(cat "$T/tls.port")
	export AWS_ENDPOINT_URL=$ENDPOINT
	role_profile
	make_plate --wells 1
	exits 3 "$CPGFS" check --quick --no-write --endpoint "$ENDPOINT" --profile up --cache-dir "$T/c" "s3://$BUCKET/$PREFIX"
	grep -qi certificate "$T/last" || fail "no word of the certificate: $(cat "$T/last")"
	same "roles assumed" "$(requests AssumeRole)" 0

	AWS_CA_BUNDLE=own-ca.pem mount_start --profile up
	copy_plate
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	exits 0 "$CPGFS" verify --ca-bundle own-ca.pem --endpoint "$ENDPOINT" --profile up "$SRC" "s3://$BUCKET/$PREFIX"
	mount_end
	CACHE=$T/cache2 mount_start --profile up --ca-bundle own-ca.pem
	same_tree "$SRC" "$P"
	echo more >"$P/more"
	exits 0 all_verified
}

# ---- without ------------------------------------------------------------------------------------

test_anonymous_reading() {
	services </dev/null
	services_start --public
	make_plate --wells 1
	mkdir -p "$(bucket_file "$PREFIX")"
	cp -r "$SRC/." "$(bucket_file "$PREFIX")/"
	s3d_rescan
	unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
	exits 1 try_mount
	says "no credentials were found"
	mount_start --no-sign-request
	same_tree "$SRC/images" "$P/images"
	same "listed" "$("$CPGFS" ls -R "$M" | wc -l)" "$(find "$SRC" -type f | wc -l)"
	exits 0 "$CPGFS" verify "$SRC" "$P"
	exits 0 "$CPGFS" verify --endpoint "$ENDPOINT" --no-sign-request "$SRC" "s3://$BUCKET/$PREFIX"
	fails_with "Read-only file system" touch "$P/new"
	same "signed requests" "$(grep -c "$KEY" "$T/requests.log" || true)" 0
}

run_tests "$@"
