"""Operations that are done twice, on a mount and on a plain folder, and must end alike.

An operation is a list of plain values, so that it can be written down and done again:
["write", slot, at, size, seed]. Paths are relative. A slot is an open file with a handle on either
side. `Twin.do` returns what is wrong, or None.
"""
import errno
import hashlib
import mmap
import os
import random

DEAD = (errno.ENOTCONN, errno.ECONNABORTED)  # nobody serves the mount any more
OLD_NS = 10 ** 18  # times that tests set are before this one (2001), all others after


class Dead(Exception):
    """The mount is gone in the middle of this operation."""


def data_of(size, seed):
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def name_of(error):
    return errno.errorcode.get(error.errno, str(error.errno))


class Side:
    """One of the two folders, and what is open there."""

    def __init__(self, top):
        self.top = top
        self.slots = {}

    def full(self, path):
        return os.path.join(self.top, path)

    # opening

    def open(self, slot, path, flags, mode):
        fd = os.open(self.full(path), flags, mode)
        self.close(slot)
        self.slots[slot] = fd

    def close(self, slot):
        if slot in self.slots:
            os.close(self.slots.pop(slot))

    # through handles

    def write(self, slot, at, size, seed):
        """Whole, as programs do: one that the daemon's end cut short meets it in its next call."""
        data, done = data_of(size, seed), 0
        while done < size:
            done += os.pwrite(self.slots[slot], data[done:], at + done)
        return done

    def append(self, slot, size, seed):
        data, done = data_of(size, seed), 0
        while done < size:
            done += os.write(self.slots[slot], data[done:])
        return done

    def read(self, slot, at, size):
        return digest(os.pread(self.slots[slot], size, at))

    def ftruncate(self, slot, size):
        os.ftruncate(self.slots[slot], size)

    def fsync(self, slot):
        os.fsync(self.slots[slot])

    def fdatasync(self, slot):
        os.fdatasync(self.slots[slot])

    def fstat(self, slot):
        return self._stat(os.fstat(self.slots[slot]))

    def fallocate(self, slot, at, size):
        os.posix_fallocate(self.slots[slot], at, size)

    def map_write(self, slot, at, size, seed):
        """At most what lies inside the file."""
        end = os.fstat(self.slots[slot]).st_size
        if at + size > end:
            return "outside"
        with mmap.mmap(self.slots[slot], end) as memory:
            memory[at:at + size] = data_of(size, seed)
            memory.flush()
        return "mapped"

    def map_read(self, slot):
        end = os.fstat(self.slots[slot]).st_size
        if not end:
            return "empty"
        with mmap.mmap(self.slots[slot], end, prot=mmap.PROT_READ) as memory:
            return digest(memory[:])

    # by path

    def put(self, path, size, seed):
        """As cp does: opened anew, written, closed."""
        with open(self.full(path), "wb", buffering=0) as out:
            data = data_of(size, seed)
            for at in range(0, size, 70_000):
                out.write(data[at:at + 70_000])

    def get(self, path):
        with open(self.full(path), "rb") as file:
            return digest(file.read())

    def truncate(self, path, size):
        os.truncate(self.full(path), size)

    def rename(self, path, to):
        os.rename(self.full(path), self.full(to))

    def unlink(self, path):
        os.unlink(self.full(path))

    def mkdir(self, path):
        os.mkdir(self.full(path))

    def rmdir(self, path):
        os.rmdir(self.full(path))

    def list(self, path):
        return sorted(os.listdir(self.full(path)))

    def stat(self, path):
        return self._stat(os.stat(self.full(path)))

    def chmod(self, path, mode):
        os.chmod(self.full(path), mode)

    def utime(self, path, atime_ns, mtime_ns):
        os.utime(self.full(path), ns=(atime_ns, mtime_ns))

    def set_attribute(self, path, name, size, seed, flags):
        os.setxattr(self.full(path), "user." + name, data_of(size, seed), flags)

    def get_attribute(self, path, name):
        return digest(os.getxattr(self.full(path), "user." + name))

    def remove_attribute(self, path, name):
        os.removexattr(self.full(path), "user." + name)

    def attributes(self, path):
        return sorted(name for name in os.listxattr(self.full(path))
                      if name.startswith("user.") and not name.startswith("user.cpgfs."))

    def _stat(self, status):
        """What must be alike. Times are compared where a test has set them."""
        folder = status.st_mode & 0o40000
        when = status.st_mtime_ns if status.st_mtime_ns < OLD_NS else "now"
        return ["folder" if folder else status.st_size, oct(status.st_mode), "some" if folder else when]

    def done(self, op):
        try:
            return getattr(self, op[0])(*op[1:])
        except OSError as error:
            if error.errno in DEAD:
                raise Dead from None
            return name_of(error)
        except KeyError:
            return "no such slot"

    def abandon(self):
        for fd in self.slots.values():
            try:
                os.close(fd)
            except OSError:
                pass
        self.slots.clear()


class Twin:
    """Both sides, and which digests each name has had when its file was closed."""

    def __init__(self, mount, plain):
        self.mount, self.plain = Side(mount), Side(plain)
        self.versions = {}  # path -> digests
        self.last = {}      # path -> digest of the last closed version
        self.mapped = 0
        self.writers = {}   # slot -> path of the file it may write to; it follows renames
        os.makedirs(plain, exist_ok=True)
        os.makedirs(mount, exist_ok=True)

    def do(self, op):
        got = self.mount.done(op)
        if got == "ENODEV" and op[0].startswith("map_"):
            return None  # opened while the file had a write-only handle: no map (contrib/GUARANTEES.md)
        want = self.plain.done(op)
        self.note(op, want)
        self.mapped += op[0].startswith("map_") and got not in errno.errorcode.values()
        if got != want:
            return "%s: %s, should be %s" % (op, got, want)
        return None

    def do_on_plain(self, op):
        self.note(op, self.plain.done(op))

    def abandon(self):
        self.mount.abandon()
        self.plain.abandon()
        self.writers.clear()

    # versions

    def note(self, op, result):
        kind = op[0]
        if isinstance(result, str) and (result in errno.errorcode.values() or result == "no such slot"):
            return
        if kind == "open":
            self.writer_ends(op[1])
            if op[3] & os.O_ACCMODE != os.O_RDONLY:
                self.writers[op[1]] = op[2]
        elif kind == "close":
            self.writer_ends(op[1])
        elif kind in ("put", "truncate"):
            self.closed(op[1])
        elif kind == "rename":
            self.moved(op[1], op[2])
        elif kind == "unlink":
            self.forget(op[1])

    def writer_ends(self, slot):
        path = self.writers.pop(slot, None)
        if path:
            self.closed(path)

    def forget(self, path):
        self.writers = {slot: name for slot, name in self.writers.items() if name != path}
        self.last.pop(path, None)

    def closed(self, path):
        """Nobody writes there any more: what it holds now is a version."""
        if path in self.writers.values():
            return
        with open(self.plain.full(path), "rb") as file:
            self.last[path] = digest(file.read())
        self.versions.setdefault(path, set()).add(self.last[path])

    def moved(self, path, to):
        if path == to:
            return
        self.forget(to)

        def now(name):
            return to + name[len(path):] if name == path or name.startswith(path + "/") else name
        self.writers = {slot: now(name) for slot, name in self.writers.items()}
        for name in [name for name in self.last if now(name) != name]:
            self.last[now(name)] = self.last.pop(name)
            self.versions.setdefault(now(name), set()).add(self.last[now(name)])


UNREADABLE = "listed, but "  # and the error's name: instead of a digest


def tree(top):
    """path -> digest, or None for a folder

    A folder may go after it was listed: what is missing then are the files below it. A file that was
    listed and can't be read is a difference, never something to try again.
    """
    found = {}
    for folder, folders, names in os.walk(top, onerror=_raise_but_gone):
        for name in folders:
            found[os.path.relpath(os.path.join(folder, name), top)] = None
        for name in names:
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = digest(file.read())
            except OSError as error:
                found[os.path.relpath(path, top)] = UNREADABLE + name_of(error)
    return found


def _raise_but_gone(error):
    if error.errno != errno.ENOENT:
        raise error


def differences(have, want, but=()):
    return ["%s is %s, should be %s" % (path, have.get(path, "absent"), want.get(path, "absent"))
            for path in sorted(set(have) | set(want))
            if path not in but and have.get(path, "absent") != want.get(path, "absent")]
