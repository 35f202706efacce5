#!/usr/bin/env bash
# Galleries by name: found in the user's folder and in the binary, and what a contributor types.
# rights: user
. "$(dirname "$0")/lib.sh"

# A gallery of this case's server.
make_gallery() { # LINES OF [mount]…
	mkdir -p "$HOME/.config/cpgfs/galleries"
	{
		printf '# ours\n[gallery]\nbucket = %s\ndescription = of this test\nlayout = cellpainting\n\n[mount]\n' "$BUCKET"
		printf '%s\n' "endpoint = $ENDPOINT" "cache-dir = $T/cache" "log-file = $T/cpgfs.log" "settle = 100ms" "min-free = 100M" "$@"
	} >"$HOME/.config/cpgfs/galleries/ours.ini"
	unset AWS_ENDPOINT_URL
}

test_the_whole_command() {
	make_plate --wells 1
	s3d_start
	make_gallery
	exits 0 "$CPGFS" mount --gallery ours --prefix "$PREFIX" "$M"
	P=$M/$PREFIX
	copy_plate
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	status_json options | grep -q '"gallery=ours"' || fail "status does not name the gallery"
}

# As at the Cell Painting Gallery: keys for a grant, exchanged for those of the prefix.
test_with_an_access_grant() {
	make_plate --wells 1
	printf '%s\n' 'account 309624411020' "grant s3://$BUCKET/$PREFIX/*" >"$T/services"
	s3d_start --key "BASE:base/secret@nowhere/" --services "$T/services"
	make_gallery 'account-id = 309624411020'
	sed -i 's/^layout/credentials = access-grant\nlayout/' "$HOME/.config/cpgfs/galleries/ours.ini"
	export AWS_ACCESS_KEY_ID=BASE AWS_SECRET_ACCESS_KEY=base/secret
	export AWS_ENDPOINT_URL_S3_CONTROL=$ENDPOINT AWS_ENDPOINT_URL_STS=$ENDPOINT
	exits 0 "$CPGFS" check --quick --gallery ours --prefix "$PREFIX"
	says "ok    grant"
	says "ok    prefix"
	exits 0 "$CPGFS" mount --gallery ours --prefix "$PREFIX" "$M"
	P=$M/$PREFIX
	copy_plate
	exits 0 all_verified
	mount_end
	exits 1 "$CPGFS" mount --gallery ours --prefix cpg0555-mistyped/broad --cache-dir "$T/cache2" "$M"
	says grant
	not mountpoint -q "$M"
	exits 1 "$CPGFS" mount --gallery ours "$M"
	says "--prefix"
}

# Word for word what a contributor types, keys in the environment, the folder not made yet.
test_what_a_contributor_types() {
	local BUCKET=staging-cellpainting-gallery
	printf '%s\n' 'account 309624411020' "grant s3://$BUCKET/cpg0123-example/broad/* READWRITE by=BASE" >"$T/services"
	s3d_start --key "BASE:base/secret@nowhere/" --services "$T/services"
	export AWS_ACCESS_KEY_ID=BASE AWS_SECRET_ACCESS_KEY=base/secret
	export PATH=$(dirname "$CPGFS"):$PATH
	exits 0 cpgfs mount --gallery cellpainting-staging --prefix cpg0123-example/broad ~/gallery
	M=$HOME/gallery P=$HOME/gallery/$PREFIX
	make_plate --wells 1
	copy_plate
	exits 0 all_verified
	same_in_bucket "$SRC" "$PREFIX"
	same "grants asked for" "$(requests GetDataAccess)" 1
	same "objects put with another ACL" "$(awk -F'\t' '$3 == "PutObject" && $7 != 200' "$T/requests.log" | wc -l)" 0
	status_json credentials | grep -qF "environment, access grant s3://$BUCKET/$PREFIX/*, until" || fail "status says $(status_json credentials)"
	exits 0 cpgfs umount ~/gallery
}

test_which_there_are() {
	s3d_start
	exits 0 "$CPGFS" galleries
	says cellpainting-staging
	says "built into"
	make_gallery
	exits 0 "$CPGFS" galleries
	says "$HOME/.config/cpgfs/galleries/ours.ini"
	exits 0 "$CPGFS" galleries ours
	says "--endpoint=$ENDPOINT"
	says "(line 8)"
	exits 0 "$CPGFS" galleries cellpainting-staging
	says 309624411020
	cp "$HOME/.config/cpgfs/galleries/ours.ini" "$HOME/.config/cpgfs/galleries/cellpainting.ini"
	exits 0 "$CPGFS" galleries cellpainting
	says "of this test"
	echo "acll = x" >>"$HOME/.config/cpgfs/galleries/ours.ini"
	exits 1 "$CPGFS" galleries
	says "ours.ini, line"
	says cellpainting-staging
	exits 1 "$CPGFS" mount --gallery ours --prefix "$PREFIX" "$M"
	says "ours.ini, line"
	says "acll"
	exits 1 "$CPGFS" mount --gallery our --prefix "$PREFIX" "$M"
	says "ours"
	exits 1 "$CPGFS" galleries a b
}

# Someone else's HOME, as after setpriv, is no reason to fail.
test_a_folder_that_may_not_be_looked_into() {
	mkdir -p "$T/locked/.config/cpgfs/galleries"
	chmod 000 "$T/locked"
	HOME=$T/locked exits 0 "$CPGFS" galleries cellpainting-staging
	says "warning"
	says 309624411020
	chmod 700 "$T/locked"
	mkdir "$T/locked/.config/cpgfs/galleries/cellpainting.ini"
	HOME=$T/locked exits 1 "$CPGFS" galleries cellpainting
	says "cannot be read"
}

# A bucket of a gallery, by its address: said, for its keys may have to be exchanged.
test_a_gallery_that_was_forgotten() {
	s3d_start
	make_gallery
	export AWS_ENDPOINT_URL=$ENDPOINT
	exits 0 "$CPGFS" check --quick --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX"
	says "warn  gallery"
	says "--gallery ours"
	exits 0 "$CPGFS" check --quick --cache-dir "$T/cache" "s3://$BUCKET/images/2020_01_01_Batch"
	says "warn  prefix"
	says cpgNNNN
	exits 0 "$CPGFS" check --quick --cache-dir "$T/cache" "s3://$BUCKET/$PREFIX/imges"
	says "warn  prefix"
}

run_tests "$@"
