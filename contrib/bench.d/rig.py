"""rig - a folder to work in, servers, mounts and commands; all of it gone at the end."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from measure import Finished

ACCESS, SECRET, BUCKET = "AKIDBENCH", "bench-secret", "bench"
READY_S = 120


class Server:
    """An S3 server that takes requests: s3d or RADOS Gateway."""

    def __init__(self, name, url, access=ACCESS, secret=SECRET, bucket=BUCKET, pid=None):
        self.name, self.url, self.access, self.secret, self.bucket, self.pid = name, url, access, secret, bucket, pid

    def env(self):
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret,
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ENDPOINT_URL": self.url, "S3_ENDPOINT_URL": self.url}


class Mount:
    def __init__(self, path, pid, process, cache=None):
        self.path, self.pid, self.process, self.cache = path, pid, process, cache


class Rig:
    def __init__(self, args, top, note):
        self.args, self.top, self.note = args, top, note
        self.dir = tempfile.mkdtemp(prefix="cpgfs-bench.", dir=args.dir)
        self.home = self.folder("home")
        self.processes, self.mounts, self.rgws, self.counter = [], [], [], 0
        self.cpgfs = os.path.realpath(args.cpgfs or os.path.join(args.build, "cpgfs"))

    # ---- sizes and names

    def count(self, full, least=1):
        """So many files or objects, at the size asked for."""
        return max(least, round(full * self.args.scale))

    @property
    def repeats(self):
        return self.args.repeats

    def fresh(self, word):
        """A name that nothing has yet."""
        self.counter += 1
        return "%s%d" % (word, self.counter)

    def prefix(self):
        """A prefix of the gallery's form that holds nothing yet."""
        self.counter += 1
        return "cpg%04d-bench/broad" % self.counter

    def folder(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        return path

    def tool(self, name):
        return os.path.join(self.args.build, "contrib", "bench.d", name)

    def on_path(self, name):
        """A peer's program, unless it is missing or was left out; what is missing is said once."""
        if name in self.args.without:
            return None
        # tools of a language's own version manager come after the distribution's
        return shutil.which(name, path="/usr/bin:" + os.environ.get("PATH", ""))

    # ---- commands

    def env(self, server=None):
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        keep.update(LC_ALL="C.UTF-8", HOME=self.home, TMPDIR=self.dir, XDG_CACHE_HOME=os.path.join(self.home, ".cache"))
        if server:
            keep.update(server.env())
        return keep

    def run(self, command, server=None, env=None, ok=(0,)):
        """Run a command to its end; RuntimeError with its last words if it fails."""
        with tempfile.TemporaryFile(dir=self.dir) as output:
            began = time.monotonic()
            process = subprocess.Popen(command, env={**self.env(server), **(env or {})}, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT, cwd=self.dir)
            self.processes.append(process)
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            self.processes.remove(process)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if process.returncode not in ok:
            raise RuntimeError("%s ended with %d: %s" % (os.path.basename(command[0]), process.returncode,
                                                        text.strip()[-300:]))
        return Finished(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)

    def figures(self, command):
        """What one of our tools printed: NAME<tab>VALUE lines."""
        text = self.run(command).output
        return {name: float(value) for name, value in (line.split("\t") for line in text.splitlines())}

    def start(self, command, log, server=None, env=None):
        with open(os.path.join(self.dir, log), "ab") as out:
            process = subprocess.Popen(command, env={**self.env(server), **(env or {})}, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=subprocess.STDOUT, cwd=self.dir)
        self.processes.append(process)
        return process

    def stop(self, process, number=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def wait_until(self, what, condition, process=None, log=None):
        deadline = time.monotonic() + READY_S
        while not condition():
            if process and process.poll() is not None:
                raise RuntimeError("%s ended: %s" % (what, self.tail(log)))
            if time.monotonic() > deadline:
                raise RuntimeError("%s was not ready after %d s: %s" % (what, READY_S, self.tail(log)))
            time.sleep(0.01)

    def tail(self, log):
        try:
            with open(os.path.join(self.dir, log), errors="replace") as text:
                return text.read()[-300:].strip()
        except (OSError, TypeError):
            return ""

    def settle_disk(self):
        """What others wrote is on the disk before the next is measured."""
        os.sync()

    # ---- servers

    def s3d(self, *options, sink=True, root=None):
        """The scripted server; with sink it keeps no bodies, so that the disk is the client's."""
        name = self.fresh("s3d")
        port_file = os.path.join(self.dir, name + ".port")
        command = [os.path.join(self.args.build, "tests", "s3d", "s3d"), "--listen", "127.0.0.1:0", "--port-file",
                   port_file, "--root", root or self.folder(name), "--key", "%s:%s" % (ACCESS, SECRET), "--bucket", BUCKET]
        if sink:
            command += ["--sink", "--etag", "fast"]
        process = self.start(command + list(options), name + ".log")
        self.wait_until("s3d", lambda: os.path.exists(port_file) and os.path.getsize(port_file), process, name + ".log")
        with open(port_file) as port:
            return Server("s3d", "http://127.0.0.1:" + port.read().strip(), pid=process.pid)

    def rgw(self):
        """RADOS Gateway, or None with a note if it is not installed."""
        if "rgw" in self.args.without or not shutil.which("radosgw", path="/usr/bin:/usr/sbin"):
            self.note("no RADOS Gateway (contrib/deps rgw installs it): its cases are left out")
            return None
        name = os.path.join(self.dir, self.fresh("rgw"))
        tool = os.path.join(self.top, "tests", "rgw", "rgw")
        self.rgws.append((tool, name))
        text = self.run([tool, "start", name]).output
        facts = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("CPGFS_RGW_"))
        return Server("rgw", facts["CPGFS_RGW_ENDPOINT"], facts["CPGFS_RGW_OWNER_ACCESS_KEY"],
                      facts["CPGFS_RGW_OWNER_SECRET_KEY"], facts["CPGFS_RGW_BUCKET"])

    def nowhere(self):
        """A server that answers nothing: a port on which nobody listens."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            return Server("nowhere", "http://127.0.0.1:%d" % unused.getsockname()[1])

    def s3(self, server, *words):
        return self.run([os.path.join(self.top, "tests", "tools", "s3"), *words], server).output

    def objects(self, server, prefix):
        """How many objects there are below a prefix."""
        return len(self.s3(server, "list", server.bucket, prefix).splitlines())

    # ---- mounts

    def mount(self, server, prefix, *options, cache=None):
        path, cache = self.folder(self.fresh("mnt")), cache or os.path.join(self.dir, self.fresh("cache"))
        command = [self.cpgfs, "mount", "-f", "--endpoint", server.url, "--cache-dir", cache, *options,
                   "s3://%s/%s" % (server.bucket, prefix), path]
        return self.mounted(path, command, os.path.basename(path) + ".log", server, cache)

    def mounted(self, path, command, log, server=None, cache=None, env=None):
        """Start any FUSE daemon that stays in the foreground, and wait until it serves."""
        process = self.start(command, log, server, env)
        mount = Mount(path, process.pid, process, cache)
        self.mounts.append(mount)
        self.wait_until(os.path.basename(command[0]) + " mount", lambda: is_mounted(path), process, log)
        os.listdir(path)
        return mount

    def unmount(self, mount, keep_cache=False):
        subprocess.run(["fusermount3", "-u", mount.path], stderr=subprocess.DEVNULL, check=False)
        try:
            mount.process.wait(60)
        except subprocess.TimeoutExpired:
            pass
        if is_mounted(mount.path):
            subprocess.run(["fusermount3", "-uz", mount.path], stderr=subprocess.DEVNULL, check=False)
        self.stop(mount.process)
        self.mounts.remove(mount)
        if mount.cache and not keep_cache:
            shutil.rmtree(mount.cache, ignore_errors=True)

    def wait_verified(self, mount):
        self.run([self.cpgfs, "wait", mount.path])

    # ---- the end

    def close(self):
        for mount in reversed(self.mounts):
            mount.process.kill()
            mount.process.wait()
            subprocess.run(["fusermount3", "-uz", mount.path], stderr=subprocess.DEVNULL, check=False)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for tool, name in self.rgws:
            subprocess.run([tool, "stop", name], stdout=subprocess.DEVNULL, check=False)
        if not any(line.split()[1].startswith(self.dir + "/") for line in open("/proc/self/mounts")):
            shutil.rmtree(self.dir, ignore_errors=True)


def is_mounted(path):
    with open("/proc/self/mounts") as mounts:
        return any(line.split()[1] == path for line in mounts)
