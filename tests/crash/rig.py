"""What a crash test works with: the shim's control, the server, the daemon, their deadlines."""
import errno
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import time

BUCKET = "staging-gallery"
PREFIX = "cpg0123-example/broad"
KEY, SECRET = "AKIDTESTUPLOADER", "test/secret+key"
SLOW = float(os.environ.get("CPGFS_TEST_SLOW", "1"))

CLASSES = ["store", "journal", "commit", "sync", "rename", "request", "reply", "open", "read"]
DISK = ["store", "journal", "commit", "sync", "rename"]
ACTIONS = {"nothing": 0, "before": 1, "half": 2, "after": 3, "fail": 4, "short": 5}
# States that say: this is not a whole version, and it goes nowhere by itself.
IN_DOUBT = ("open", "incomplete", "torn", "lost")
FOR_EVER = 2 ** 64 - 1


class Failure(Exception):
    """What the test is there to find."""


def wait_for(seconds, what, condition):
    """The only way to wait: until condition() is true, which is also its answer."""
    end = time.monotonic() + seconds * SLOW
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise Failure("waited in vain for %s" % what)
        time.sleep(0.004)


class Control:
    """struct crash_control of crash_shim.h, shared with the daemon."""
    LAYOUT = "<QIIQQiIQ16Q256s"
    MAGIC = 0x3148534152435043

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as out:
            out.write(struct.pack("<Q", self.MAGIC).ljust(struct.calcsize(self.LAYOUT), b"\0"))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def arm(self, action, classes, at, span=1, error=0):
        bits = sum(1 << CLASSES.index(c) for c in classes)
        # the action last: nothing is met half armed
        struct.pack_into("<IIQQiIQ", self.map, 8, 0, bits, at, span, error, 0, 0)
        struct.pack_into("<I", self.map, 8, ACTIONS[action])

    def disarm(self):
        struct.pack_into("<I", self.map, 8, 0)

    def values(self):
        return struct.unpack(self.LAYOUT, self.map[:])

    def met(self):
        return self.values()[6]

    def count(self):
        return self.values()[7]

    def seen(self):
        return dict(zip(CLASSES, self.values()[8:24]))

    def what(self):
        return self.values()[24].split(b"\0")[0].decode()


class Server:
    """s3d; started again it has the same port and, unless the folder was changed, the same objects. The
    second part of HELD stays on its way until let_go()."""
    HELD = "cancelled.bin"

    def __init__(self, top):
        self.top, self.port, self.process = top, 0, None
        self.root = os.path.join(top, "s3")
        self.requests = os.path.join(top, "requests.log")
        self.go = os.path.join(top, "go")

    def start(self):
        port_file = os.path.join(self.top, "port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        with open(os.path.join(self.top, "faults"), "w") as faults:
            faults.write("UploadPart key=*/%s n=2 hold=%s at=mid-body\n" % (self.HELD, self.go))
        with open(os.path.join(self.top, "s3d.log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["S3D"], "--listen", "127.0.0.1:%d" % self.port, "--port-file", port_file,
                 "--root", self.root, "--key", KEY + ":" + SECRET, "--bucket", BUCKET,
                 "--request-log", self.requests, "--keep-versions",
                 "--fault-script", os.path.join(self.top, "faults"),
                 "--require-acl", "bucket-owner-full-control"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(20, "s3d", lambda: os.path.exists(port_file) and os.path.getsize(port_file))
        with open(port_file) as file:
            self.port = int(file.read())
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def holds(self):
        return os.path.exists(self.go + ".held")

    def let_go(self):
        with open(self.go, "w"):
            pass

    @property
    def endpoint(self):
        return "http://127.0.0.1:%d" % self.port

    def log(self):
        """Rows of the request log: lists of columns."""
        if not os.path.exists(self.requests):
            return []
        with open(self.requests, encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip("\n").split("\t") for line in file if line[0] != "#"]


class Daemon:
    """One mount of the cache below top, in the foreground, with or without the shim."""

    def __init__(self, top, server, options=(), control=None, record=None, boot_id=None):
        self.top, self.server, self.options = top, server, list(options)
        self.control, self.record, self.boot_id = control, record, boot_id
        self.mount = os.path.join(top, "mnt")
        self.cache = os.path.join(top, "cache")
        self.log_path = os.path.join(top, "cpgfs.log")
        self.process = None

    def environment(self):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": self.top,
               "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
               "AWS_EC2_METADATA_DISABLED": "true"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        if self.control:
            env.update(LD_PRELOAD=os.environ["CRASH_SHIM"], CPGFS_CRASH=self.control.path,
                       CPGFS_CRASH_PROGRAM=os.path.basename(os.environ["CPGFS"]),
                       CPGFS_CRASH_DIR=os.path.realpath(self.cache))
            if self.record:
                env["CPGFS_CRASH_RECORD"] = self.record
            if self.boot_id:
                env["CPGFS_CRASH_BOOT_ID"] = self.boot_id
        return env

    def start(self):
        """Until it is mounted, or has ended (see died)."""
        os.makedirs(self.mount, exist_ok=True)
        os.makedirs(self.cache, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                [os.environ["CPGFS"], "mount", "-f", "--endpoint", self.server.endpoint,
                 "--cache-dir", self.cache, "--settle", "0", "--min-free", "100M",
                 "--part-size", "5M", "--multipart-threshold", "5M", "--delete-delay", "0"]
                + self.options + ["s3://%s/%s" % (BUCKET, PREFIX), self.mount],
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(30, "the mount", lambda: self.died() or self.is_mounted())
        return self

    def is_mounted(self):
        with open("/proc/self/mounts") as mounts:
            if " %s fuse" % self.mount not in mounts.read():
                return False
        try:
            return os.stat(self.mount).st_ino == 1
        except OSError:
            return False

    def died(self):
        return self.process.poll() is not None

    def was_killed(self):
        return self.process.poll() == -signal.SIGKILL

    def log(self):
        """What this daemon said so far."""
        with open(self.log_path, "rb") as file:
            file.seek(self.log_from)
            return file.read().decode(errors="replace")

    def warnings(self):
        """That the cache lies in memory tells nobody of what fails."""
        return [line for line in self.log().splitlines()
                if re.search(r" (warn|error)\b", line) and " is in memory " not in line]

    def kill(self):
        if self.process and not self.died():
            self.process.kill()
        if self.process:
            self.process.wait()
        self.clear_mount()

    def clear_mount(self):
        with open("/proc/self/mounts") as mounts:
            mounted = " %s fuse" % self.mount in mounts.read()
        if mounted:
            subprocess.run(["fusermount3", "-uz", self.mount], check=False,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        """An orderly end. Returns the exit code, negative for a signal."""
        self.process.terminate()
        try:
            code = self.process.wait(40 * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure("the daemon did not end when told to") from None
        self.clear_mount()
        return code

    def status(self):
        with open(os.path.join(self.mount, ".cpgfs/status.json"), "rb") as file:
            return json.load(file)

    def command(self, *words):
        """cpgfs WORDS MOUNT"""
        subprocess.run([os.environ["CPGFS"], *words, self.mount], check=True, timeout=20 * SLOW,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def on_their_way(self, uploaded_is_enough):
        """How many files."""
        files = self.status()["files"]
        going = sum(files[s] for s in ("open", "closed", "settled", "queued", "sending", "unknown", "moving"))
        if not uploaded_is_enough:
            going += files["uploaded"]
        return going + (files["deleting"] and self.deletes_on_their_way())

    def deletes_on_their_way(self):
        """An object is left alone while a file in doubt, or one that failed, stands for its key: it may
        be its last good version."""
        rows = [row.split("\t") for row in self.queue()]
        return sum(row[1] == "deleting" and self.state_of(row[0]) not in IN_DOUBT + ("failed",) for row in rows)

    def queue(self):
        with open(os.path.join(self.mount, ".cpgfs/queue.tsv"), errors="surrogateescape") as queue:
            return queue.read().splitlines()[1:]

    def state_of(self, path):
        """"" for what is only in the bucket, or not at all."""
        try:
            return os.getxattr(os.path.join(self.mount, path), "user.cpgfs.state").decode()
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOENT):
                return ""
            raise

    def wait_idle(self, uploaded_is_enough=False, seconds=70):
        """Until nothing is on its way, or the daemon died. Whether it lives. After several errors in a row
        (three parts that a failing disk cannot read) it may wait 60 s before the next attempt."""
        def idle():
            try:
                return self.died() or self.on_their_way(uploaded_is_enough) == 0
            except (OSError, ValueError):
                if not self.died():
                    time.sleep(0.05)  # a kill is under way, or the deadline comes
                return self.died()
        try:
            wait_for(seconds, "all uploads", idle)
        except Failure:
            raise Failure("not all is uploaded after %d s: %s" % (seconds * SLOW, self.in_short())) from None
        return not self.died()

    def wait_held(self, path):
        """Until the server holds a part of it, it goes nowhere, or the daemon died. Whether it lives."""
        going = ("open", "closed", "settled", "queued", "sending", "unknown")

        def held():
            try:
                return self.died() or self.server.holds() or self.state_of(path) not in going
            except OSError:
                if not self.died():
                    time.sleep(0.05)
                return self.died()
        wait_for(20, "a part of %s to be on its way" % path, held)
        return not self.died()

    def in_short(self):
        files = {s: n for s, n in self.status()["files"].items() if n}
        return "%s; %s" % (files, self.queue()[:5])
