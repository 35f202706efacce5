"""A scripted day in the life of a mount, every step of it in the ledger."""
import functools
import mmap
import os
import random
import signal

from ledger import Version
from rig import PREFIX, Server

TOP = PREFIX + "/workspace/software/crash"


def operation(method):
    """An error of it is asked about: was it the end, or is it done nevertheless, or to be tried again?"""
    @functools.wraps(method)
    def patient(self, *args, **named):
        while True:
            try:
                return method(self, *args, **named)
            except OSError as error:
                if self.is_done_after(error):
                    return None
    return patient


def is_end(error):
    raise error


class Workload:
    """Operations below one folder of the mount. Sizes and bytes depend on the seed only."""

    def __init__(self, daemon, ledger, seed, close_syncs=False, is_done_after=is_end):
        self.top = os.path.join(daemon.mount, TOP)
        self.daemon, self.ledger, self.seed = daemon, ledger, seed
        self.close_syncs = close_syncs  # every close is an fsync
        self.is_done_after = is_done_after
        self.serial = 0

    def full(self, path):
        return os.path.join(self.top, path) if path else self.top

    def bytes(self, size):
        """Always new ones, and the same again in the next run."""
        self.serial += 1
        return random.Random("%s.%d" % (self.seed, self.serial)).randbytes(size)

    def plan(self, name, changes, folders=None, writes=(), synced=False):
        """changes: path -> Version, or None for gone. writes: the paths that are written and closed."""
        files = dict(self.ledger.files)
        for path, version in changes.items():
            if version is None:
                files.pop(path, None)
            else:
                files[path] = version
        if self.close_syncs and writes:
            synced = True
            for path in writes:
                files[path].durable = True
        self.ledger.begin(name, files, self.ledger.folders if folders is None else folders,
                          writes, synced)

    # ---- operations ----

    @operation
    def mkdir(self, path):
        self.plan("mkdir " + path, {}, self.ledger.folders | {path})
        os.makedirs(self.full(path)) if path == "" else os.mkdir(self.full(path))
        self.ledger.end()

    @operation
    def write(self, path, size, sync=False, piece=60000):
        data = self.bytes(size)
        self.plan("write " + path, {path: Version(data, durable=sync)}, writes=[path], synced=sync)
        with open(self.full(path), "wb", buffering=0) as out:
            for at in range(0, len(data), piece):
                write_all(out, data[at:at + piece])
            if sync:
                os.fsync(out.fileno())
        # the close may have recorded more than the fsync: that is the last version's record
        self.ledger.end()

    @operation
    def append(self, path, size):
        data = self.bytes(size)
        self.plan("append to " + path, {path: Version(self.ledger.files[path].data + data)},
                  writes=[path])
        with open(self.full(path), "ab", buffering=0) as out:
            write_all(out, data)
        self.ledger.end()

    @operation
    def patch(self, path, at, size):
        old, data = self.ledger.files[path].data, self.bytes(size)
        self.plan("patch " + path, {path: Version(old[:at] + data + old[at + size:])}, writes=[path])
        with open(self.full(path), "r+b", buffering=0) as out:
            out.seek(at)
            write_all(out, data)
        self.ledger.end()

    @operation
    def fsync(self, path):
        files = {path: Version(self.ledger.files[path].data, durable=True)}
        self.plan("fsync " + path, files, synced=True)
        fd = os.open(self.full(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.ledger.end()

    @operation
    def truncate(self, path, size):
        old = self.ledger.files[path].data
        # two records, before the bytes change and after: a kill between them leaves it incomplete
        self.plan("truncate " + path, {path: Version(old[:size].ljust(size, b"\0"))}, writes=[path])
        os.truncate(self.full(path), size)
        self.ledger.end()

    @operation
    def rename(self, path, to):
        self.plan("rename %s to %s" % (path, to), {path: None, to: self.ledger.files[path]})
        os.rename(self.full(path), self.full(to))
        self.ledger.end()

    @operation
    def rename_folder(self, path, to):
        def moved(name):
            return to + name[len(path):] if name == path or name.startswith(path + "/") else name
        files = self.ledger.files
        changes = {name: None for name in files if moved(name) != name}
        changes.update({moved(name): files[name] for name in files if moved(name) != name})
        self.plan("rename folder %s to %s" % (path, to), changes,
                  {moved(folder) for folder in self.ledger.folders})
        os.rename(self.full(path), self.full(to))
        self.ledger.end()

    @operation
    def unlink(self, path):
        self.plan("unlink " + path, {path: None})
        os.unlink(self.full(path))
        self.ledger.end()

    @operation
    def map_write(self, path, at, size):
        """By a shared mapping: the last bytes may come after the close."""
        old, data = self.ledger.files[path].data, self.bytes(size)
        self.plan("map " + path, {path: Version(old[:at] + data + old[at + size:])}, writes=[path])
        child = os.fork()
        if child == 0:  # with the daemon gone a touch of the mapping is SIGBUS
            try:
                fd = os.open(self.full(path), os.O_RDWR)
                with mmap.mmap(fd, 0) as view:
                    view[at:at + size] = data
                    view.flush()
                os.close(fd)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1] != 0:
            raise OSError("the mapping could not be written")
        self.ledger.end()

    @operation
    def killed_writer(self, path, size):
        """A program that dies of SIGKILL while it writes."""
        data = self.bytes(size)
        self.plan("a killed writer of " + path, {path: Version(data, whole=False)}, writes=[path])
        child = os.fork()
        if child == 0:
            try:
                fd = os.open(self.full(path), os.O_WRONLY | os.O_CREAT, 0o644)
                if os.write(fd, data) == len(data):
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise OSError("the writer to be killed could not write")
        os.statvfs(self.top)  # the daemon did not end first: it was told of the end of the writer
        self.ledger.end()

    def cancel(self, path, size, size_anew):
        """Written anew while its parts are on their way: that upload is given up."""
        server = self.daemon.server
        try:
            self.write(path, size, piece=1 << 20)
            if not self.daemon.wait_held(os.path.join(TOP, path)):
                raise ConnectionAbortedError("the daemon ended before it sent parts")
            self.write(path, size_anew)
        finally:
            server.let_go()

    def idle(self, uploaded_is_enough=False):
        if not self.daemon.wait_idle(uploaded_is_enough):
            raise ConnectionAbortedError("the daemon ended while its uploads were waited for")

    # ---- the script ----

    def run(self):
        self.mkdir("")
        self.mkdir("one")
        self.write("a.csv", 5000)
        self.write("one/b.csv", 100000)
        self.write("empty.csv", 0)
        self.write("one/c.csv", 3000, sync=True)
        self.append("a.csv", 700)
        self.mkdir("two")
        self.write("two/.d.csv.Xy12Za", 9000)
        self.rename("two/.d.csv.Xy12Za", "two/d.csv")
        self.rename_folder("two", "three")
        self.write("big.bin", 11 * 1000 * 1000, piece=1 << 20)
        self.idle()
        self.run_on_uploaded()

    def run_on_uploaded(self):
        """The same kinds of change to what the bucket has already."""
        self.append("one/b.csv", 4000)
        self.patch("a.csv", 1000, 300)
        self.rename("one/c.csv", "one/e.csv")
        self.write("new", 2000, sync=True)
        self.rename("new", "three/d.csv")
        self.rename_folder("one", "four")
        self.unlink("empty.csv")
        self.write("empty.csv", 20)
        self.truncate("four/b.csv", 50000)
        self.killed_writer("cut.bin", 4000)
        self.patch("big.bin", 5300000, 5000)
        self.write("often.csv", 200000)
        self.write("often.csv", 150000)
        self.cancel(Server.HELD, 6 * 1000 * 1000, 3000)
        self.map_write("four/b.csv", 8000, 4096)
        self.fsync("often.csv")
        self.append("often.csv", 10)
        self.write("gone.csv", 1000)
        self.unlink("gone.csv")
        self.idle(uploaded_is_enough=True)
        self.unlink("three/d.csv")
        self.truncate("a.csv", 0)
        self.idle()


def write_all(out, data):
    """A short write is none that failed; the next one says why."""
    while data:
        data = data[out.write(data):]
