#!/usr/bin/env bash
# What programs expect of a file system.
# rights: both
. "$(dirname "$0")/lib.sh"

begin() { # MOUNT OPTIONS…
	s3d_start
	mount_start "$@"
	mkdir -p "$P/images"
	cd "$P/images"
}

py() { # a Python program on standard input, with everything at hand
	"$PYTHON" <(cat <<-'PY'
	import ctypes, errno, fcntl, mmap, os, stat, sys, time

	def raises(number, function, *args):
	    try:
	        function(*args)
	    except OSError as error:
	        assert error.errno == number, "%s, not %s" % (os.strerror(error.errno), os.strerror(number))
	        return
	    raise AssertionError("no error; should be: " + os.strerror(number))

	def write(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
	    fd = os.open(path, flags, 0o644)
	    os.write(fd, data)
	    os.close(fd)

	def read(path):
	    with open(path, "rb") as file:
	        return file.read()
	PY
	cat)
}

test_open_flags() {
	begin
	py <<-'PY'
	write("a", b"one")
	raises(errno.EEXIST, os.open, "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
	raises(errno.ENOENT, os.open, "b", os.O_WRONLY)
	write("a", b"two", os.O_WRONLY | os.O_APPEND)
	assert read("a") == b"onetwo"
	os.close(os.open("a", os.O_WRONLY))
	assert read("a") == b"onetwo", "an open alone changes nothing"
	os.close(os.open("a", os.O_WRONLY | os.O_TRUNC))
	assert read("a") == b""
	raises(errno.EISDIR, os.open, ".", os.O_WRONLY)
	raises(errno.ENOTDIR, os.open, "a/b", os.O_RDONLY)
	raises(errno.ENAMETOOLONG, os.open, "n" * 256, os.O_CREAT | os.O_WRONLY)
	write("n" * 255, b"x")
	fd = os.open("a", os.O_RDONLY)
	raises(errno.EBADF, os.write, fd, b"x")
	os.close(fd)
	PY
	exits 0 all_verified
}

test_suid_and_sgid_go_with_a_change() { # as on the disk below, whoever of kernel and daemon does it
	begin
	mkdir "$T/plain"
	PLAIN=$T/plain py <<-'PY'
	def handle(flags, change):
	    def run(path):
	        fd = os.open(path, flags)
	        change(fd)
	        os.close(fd)
	    return run

	def mode(path):
	    return stat.S_IMODE(os.stat(path).st_mode)

	def after(folder, change, expected=None):
	    path = os.path.join(folder, "f")
	    write(path, b"0123")
	    os.chmod(path, 0o6755)
	    change(path)
	    deadline = time.monotonic() + 20
	    while expected is not None and mode(path) != expected and time.monotonic() < deadline:
	        time.sleep(0.01)  # the kernel may keep the bits for a moment
	    return mode(path)

	changes = {
	    "write": handle(os.O_WRONLY, lambda fd: os.write(fd, b"x")),
	    "write, O_RDWR": handle(os.O_RDWR, lambda fd: os.write(fd, b"x")),
	    "O_TRUNC": handle(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
	    "ftruncate": handle(os.O_WRONLY, lambda fd: os.ftruncate(fd, 2)),
	    "truncate": lambda path: os.truncate(path, 2),
	    "fallocate": handle(os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 8192)),
	    "chown": lambda path: os.chown(path, -1, os.getgid()),
	    "nothing": handle(os.O_RDWR, lambda fd: None),
	}
	for name, change in changes.items():
	    plain = after(os.environ["PLAIN"], change)
	    here = after(".", change, plain)
	    assert here == plain, "%s: mode %o, on the disk %o" % (name, here, plain)
	PY
	exits 0 all_verified
}

test_suid_and_sgid_go_when_another_writes() {
	[ "$(id -u)" = 0 ] || skip "only root can be somebody else"
	begin --allow-other
	chmod 755 "$M" "$T"
	py <<-'PY'
	def by_another(change):
	    child = os.fork()
	    if child == 0:
	        os.setgroups([])
	        os.setresgid(65534, 65534, 65534)
	        os.setresuid(65534, 65534, 65534)
	        change()
	        os._exit(0)
	    assert os.waitpid(child, 0)[1] == 0

	def mode():
	    return stat.S_IMODE(os.stat("f").st_mode)

	# by root nothing goes but with chown, by another all that lets it run as somebody else
	for flags in os.O_WRONLY, os.O_RDWR:
	    for before, after in (0o6777, 0o777), (0o6767, 0o2767):
	        write("f", b"0123")
	        os.chmod("f", before)
	        fd = os.open("f", flags)
	        os.write(fd, b"x")
	        os.ftruncate(fd, 2)
	        assert mode() == before, oct(mode())
	        by_another(lambda: os.close(os.open("f", flags)))
	        assert mode() == before, oct(mode())
	        by_another(lambda: os.write(os.open("f", flags), b"y"))
	        deadline = time.monotonic() + 20
	        while mode() != after and time.monotonic() < deadline:
	            time.sleep(0.01)  # the kernel may keep the bits for a moment
	        assert mode() == after, oct(mode())
	        assert read("f") == b"y1", read("f")
	        os.close(fd)
	PY
	exits 0 all_verified
}

# A program that writes a little at a time waits for one request each: the kernel must not ask for
# security.capability before every write.
test_small_writes_cost_one_request_each() {
	begin
	local io
	io=/proc/$(daemon_pid)/io
	[ -r "$io" ] || skip "only root may count the daemon's reads"
	IO=$io py <<-'PY'
	def reads():
	    with open(os.environ["IO"]) as file:
	        return int(dict(line.split(": ") for line in file)["syscr"])

	fd = os.open("f", os.O_RDWR | os.O_CREAT)
	os.write(fd, b"begin")
	before = reads()
	for n in range(2000):
	    os.pwrite(fd, b"x" * 512, n * 512)
	count = reads() - before
	os.close(fd)
	assert 2000 <= count < 3000, "2000 writes made %d requests" % count
	PY
	exits 0 all_verified
}

test_reading_what_is_being_written() {
	begin
	py <<-'PY'
	out = os.open("a", os.O_WRONLY | os.O_CREAT)
	seen = os.open("a", os.O_RDONLY)
	for n in range(50):
	    os.write(out, b"%05d" % n)
	    assert os.fstat(out).st_size == 5 * (n + 1)
	    assert os.stat("a").st_size == 5 * (n + 1), "size by another path"
	    assert os.pread(seen, 5, 5 * n) == b"%05d" % n
	both = os.open("a", os.O_RDWR)
	os.pwrite(both, b"XX", 3)
	assert os.pread(seen, 5, 2) == b"0XX00", os.pread(seen, 5, 2)
	os.pwrite(out, b"YY", 3)
	assert os.pread(both, 5, 2) == b"0YY00"
	for fd in out, seen, both:
	    os.close(fd)
	PY
	exits 0 all_verified
}

test_unlinked_while_open() {
	begin
	py <<-'PY'
	fd = os.open("a", os.O_RDWR | os.O_CREAT)
	os.write(fd, b"before")
	os.unlink("a")
	raises(errno.ENOENT, os.stat, "a")
	os.write(fd, b" after")
	assert os.pread(fd, 100, 0) == b"before after"
	assert os.fstat(fd).st_size == 12
	write("a", b"another")
	assert os.pread(fd, 100, 0) == b"before after"
	os.close(fd)
	assert read("a") == b"another"
	PY
	exits 0 all_verified
	same "content" "$(cat "$(bucket_file "$PREFIX/images/a")")" another
	same "objects" "$(find "$T/s3/$BUCKET" -type f | wc -l)" 1
	same "PutObject requests" "$(requests PutObject)" 1
}

test_truncate_by_handle_and_by_path() {
	begin
	py <<-'PY'
	write("a", b"0123456789" * 1000)
	os.truncate("a", 15)
	assert read("a") == b"012345678901234"
	os.truncate("a", 20)
	assert read("a") == b"012345678901234" + bytes(5)
	fd = os.open("a", os.O_RDWR)
	os.ftruncate(fd, 3)
	os.ftruncate(fd, 6)
	assert os.pread(fd, 100, 0) == b"012\0\0\0"
	os.close(fd)
	raises(errno.ENOENT, os.truncate, "b", 0)
	raises(errno.EISDIR, os.truncate, ".", 0)
	PY
	exits 0 all_verified
	printf '012\0\0\0' | cmp - "$(bucket_file "$PREFIX/images/a")"
	truncate -s 100000 a
	exits 0 all_verified
	same "size in the bucket" "$(stat -c %s "$(bucket_file "$PREFIX/images/a")")" 100000
	cmp a "$(bucket_file "$PREFIX/images/a")"
}

test_fallocate() {
	begin
	py <<-'PY'
	fd = os.open("a", os.O_RDWR | os.O_CREAT)
	os.posix_fallocate(fd, 0, 100000)
	assert os.fstat(fd).st_size == 100000
	libc = ctypes.CDLL(None, use_errno=True)
	libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
	assert libc.fallocate(fd, 1, 0, 300000) == 0, "FALLOC_FL_KEEP_SIZE"
	assert os.fstat(fd).st_size == 100000
	os.pwrite(fd, b"x" * 100000, 0)
	if libc.fallocate(fd, 3, 4096, 4096) == 0:
	    assert os.pread(fd, 4096, 4096) == bytes(4096)
	os.close(fd)
	PY
	exits 0 all_verified
	cmp a "$(bucket_file "$PREFIX/images/a")"
}

test_several_handles_and_processes() {
	begin
	py <<-'PY'
	one, two = (os.open("a", os.O_RDWR | os.O_CREAT) for _ in "ab")
	os.write(one, b"111111")
	os.pwrite(two, b"22", 2)
	child = os.fork()
	if child == 0:
	    os.pwrite(one, b"3", 5)
	    os._exit(0)
	os.waitpid(child, 0)
	third = os.dup(two)
	os.close(one)
	os.close(two)
	os.pwrite(third, b"4", 0)
	os.close(third)
	assert read("a") == b"412213"[:6] or read("a") == b"412213", read("a")
	PY
	same "content" "$(cat a)" 412213
	exits 0 all_verified
	same "content in the bucket" "$(cat "$(bucket_file "$PREFIX/images/a")")" 412213
}

test_types_that_s3_does_not_have() {
	begin
	py <<-'PY'
	os.mknod("a", 0o600 | stat.S_IFREG)
	assert os.stat("a").st_size == 0
	raises(errno.EPERM, os.symlink, "a", "b")
	raises(errno.EPERM, os.link, "a", "b")
	raises(errno.EPERM, os.mkfifo, "b")
	PY
	same "names" "$(ls)" a
	exits 0 all_verified
	same "size in the bucket" "$(stat -c %s "$(bucket_file "$PREFIX/images/a")")" 0
}

test_folders() {
	begin
	py <<-'PY'
	os.makedirs("one/two/three")
	raises(errno.EEXIST, os.mkdir, "one")
	raises(errno.ENOTEMPTY, os.rmdir, "one")
	write("one/a", b"x")
	raises(errno.ENOTDIR, os.rmdir, "one/a")
	raises(errno.EISDIR, os.unlink, "one")
	raises(errno.ENOENT, os.mkdir, "none/x")
	raises(errno.EINVAL, os.rename, "one", "one/two/one")
	raises(errno.EISDIR, os.rename, "one/a", "one/two")
	raises(errno.ENOTDIR, os.rename, "one/two", "one/a")
	os.rmdir("one/two/three")
	os.rename("one/two", "two")
	os.mkdir("three")
	os.rename("two", "three")
	assert sorted(os.listdir()) == ["one", "three"], os.listdir()
	assert os.listdir("one") == ["a"]
	PY
	exits 0 all_verified
}

test_a_large_folder_lists_once_each() {
	begin --paused
	py <<-'PY'
	os.mkdir("many")
	for n in range(3000):
	    write("many/%04d-a-rather-long-name-so-that-it-takes-several-reads" % n, b"")
	names = os.listdir("many")
	assert len(names) == len(set(names)) == 3000, len(names)
	seen = set()
	with os.scandir("many") as entries:
	    for n, entry in enumerate(entries):
	        if n % 3 == 0:
	            os.unlink(entry.path)
	        seen.add(entry.name)
	assert len(seen) == 3000, "names vanish from a listing while others are deleted: %d" % len(seen)
	assert len(os.listdir("many")) == 2000
	PY
}

test_modes_owners_and_times_are_kept() {
	begin
	py <<-'PY'
	write("a", b"x")
	os.mkdir("d")
	os.chmod("a", 0o640)
	os.chmod("d", 0o750)
	os.chown("a", os.getuid(), os.getgid())
	os.utime("a", ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
	os.utime("d", ns=(1_500_000_000_000_000_000, 1_300_000_000_000_000_001))
	assert os.access("a", os.R_OK | os.W_OK)
	PY
	local before
	before=$(stat -c '%n %a %u %g %.9Y' a d)
	same "mode and time" "$(stat -c '%a %.9Y' a)" "640 1400000000.987654321"
	exits 0 all_verified
	same "after the upload" "$(stat -c '%n %a %u %g %.9Y' a d)" "$before"
	cd "$T"
	mount_end
	mount_start
	cd "$P/images"
	same "after a remount" "$(stat -c '%n %a %u %g %.9Y' a d)" "$before"
	same "PutObject requests" "$(requests PutObject)" 1
}

test_attributes_of_users() {
	begin
	py <<-'PY'
	write("a", b"x")
	raises(errno.ENODATA, os.getxattr, "a", "user.x")
	os.setxattr("a", "user.x", b"one")
	os.setxattr("a", "user.y", b"two" * 500)
	assert os.getxattr("a", "user.x") == b"one"
	raises(errno.EEXIST, os.setxattr, "a", "user.x", b"z", os.XATTR_CREATE)
	raises(errno.ENODATA, os.setxattr, "a", "user.z", b"z", os.XATTR_REPLACE)
	assert {"user.x", "user.y"} <= set(os.listxattr("a")), os.listxattr("a")
	os.removexattr("a", "user.x")
	raises(errno.ENODATA, os.getxattr, "a", "user.x")
	assert os.getxattr("a", "user.y") == b"two" * 500
	for name in "user.cpgfs.state", "user.cpgfs.key":
	    try:
	        os.setxattr("a", name, b"verified")
	    except OSError:
	        pass
	    else:
	        raise AssertionError(name + " could be set")
	PY
	cd "$T"
	mount_end
	mount_start
	same "user.y after a remount" "$(getfattr --only-values -n user.y "$P/images/a" --absolute-names | head -c 6)" twotwo
}

test_holes() {
	begin
	py <<-'PY'
	fd = os.open("a", os.O_RDWR | os.O_CREAT)
	os.pwrite(fd, b"end", 10_000_000)
	assert os.pread(fd, 10, 5_000_000) == bytes(10)
	assert os.fstat(fd).st_size == 10_000_003
	assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
	assert os.lseek(fd, 0, os.SEEK_DATA) <= 10_000_000
	assert os.lseek(fd, 0, os.SEEK_END) == 10_000_003
	os.close(fd)
	PY
	exits 0 all_verified
	cmp a "$(bucket_file "$PREFIX/images/a")"
}

test_locks() {
	begin
	py <<-'PY'
	one, two = (os.open("a", os.O_RDWR | os.O_CREAT) for _ in "ab")
	fcntl.flock(one, fcntl.LOCK_EX)
	raises(errno.EWOULDBLOCK, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
	fcntl.lockf(one, fcntl.LOCK_EX)
	PY
}

test_the_room_shown() {
	begin --cache-size 500M --paused
	py <<-'PY'
	room = os.statvfs(".")
	size = room.f_blocks * room.f_frsize
	assert 400 << 20 <= size <= 600 << 20, size
	assert room.f_namemax == 255
	with open("a", "wb") as out:
	    out.write(bytes(50 << 20))
	    os.fsync(out.fileno())
	less = os.statvfs(".")
	assert (room.f_bavail - less.f_bavail) * room.f_frsize >= 40 << 20
	PY
}

test_inode_numbers_stay() {
	begin
	echo a >a
	mkdir d
	local before
	before=$(stat -c '%n %i' a d .)
	exits 0 all_verified
	same "inodes after the upload" "$(stat -c '%n %i' a d .)" "$before"
	cd "$T"
	mount_end
	mount_start
	cd "$P/images"
	same "inodes after a remount" "$(stat -c '%n %i' a d .)" "$before"
	mv a b
	same "inode after a rename" "$(stat -c %i b)" "$(awk '$1 == "a" {print $2}' <<<"$before")"
}

run_tests "$@"
