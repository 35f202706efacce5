"""peers - what else uploads, lists and mounts: the programs found on PATH, and how each is called.

A peer that is not there is no failure: the note says which were not found.
"""
import os
import subprocess

TRANSFERS = 16   # of those that let one choose


class Peer:
    def __init__(self, rig, name, program):
        self.rig, self.name, self.program = rig, name, program

    def url(self, server, prefix):
        return "s3://%s/%s" % (server.bucket, prefix)


class Aws(Peer):
    def command(self, server, *words):
        return [self.program, "--endpoint-url", server.url, "s3", *words]

    def upload(self, server, folder, prefix):
        return self.command(server, "sync", "--only-show-errors", folder, self.url(server, prefix))

    def upload_file(self, server, path, key):
        return self.command(server, "cp", "--only-show-errors", path, self.url(server, key))

    def download(self, server, prefix, folder):
        return self.command(server, "cp", "--recursive", "--only-show-errors", self.url(server, prefix), folder)

    def listing(self, server, prefix, deep=False):
        return self.command(server, "ls", *(["--recursive"] if deep else []), self.url(server, prefix) + "/")


class S5cmd(Peer):
    def command(self, server, *words):
        return [self.program, "--endpoint-url", server.url, *words]

    def upload(self, server, folder, prefix):
        return self.command(server, "cp", folder + "/", self.url(server, prefix) + "/")

    def upload_file(self, server, path, key):
        return self.command(server, "cp", path, self.url(server, key))

    def download(self, server, prefix, folder):
        return self.command(server, "cp", self.url(server, prefix) + "/*", folder + "/")

    def listing(self, server, prefix, deep=False):
        return self.command(server, "ls", self.url(server, prefix) + ("/*" if deep else "/"))


class Rclone(Peer):
    def command(self, server, verb, *words):
        return [self.program, verb, "--config", "/dev/null", "--s3-provider", "Other", "--s3-env-auth",
                "--s3-endpoint", server.url, "--s3-no-check-bucket", *words]

    def url(self, server, prefix):
        return ":s3:%s/%s" % (server.bucket, prefix)

    def upload(self, server, folder, prefix):
        return self.command(server, "copy", "--transfers", str(TRANSFERS), folder, self.url(server, prefix))

    def upload_file(self, server, path, key):
        return self.command(server, "copyto", path, self.url(server, key))

    def download(self, server, prefix, folder):
        return self.command(server, "copy", "--transfers", str(TRANSFERS), self.url(server, prefix), folder)

    def listing(self, server, prefix, deep=False):
        # without server-modtime it asks for the metadata of every object
        return self.command(server, "lsl", "--use-server-modtime", *([] if deep else ["--max-depth", "1"]), self.url(server, prefix))

    def check(self, server, folder, prefix, *options):
        return self.command(server, "check", *options, folder, self.url(server, prefix))


class S3cmd(Peer):
    def upload(self, server, folder, prefix):
        host = server.url.partition("//")[2]
        return [self.program, "--config", "/dev/null", "--no-ssl", "--host", host, "--host-bucket", host, "--access_key",
                server.access, "--secret_key", server.secret, "--no-progress", "--quiet", "sync", folder + "/",
                self.url(server, prefix) + "/"]


class BareCurl(Peer):
    """libcurl and nothing else: no uploader, but the floor of one, and the server's ceiling."""

    def upload(self, server, folder, prefix):
        return [self.program, str(TRANSFERS), folder, "%s/%s/%s" % (server.url, server.bucket, prefix)]


UPLOADERS = {"aws": Aws, "s5cmd": S5cmd, "rclone": Rclone, "s3cmd": S3cmd}
FLOOR = "libcurl alone"


def find(rig, kinds):
    """The peers there are, by name; a note says which are missing."""
    found = {name: rig.on_path(name) for name in kinds}
    missing = [name for name, program in found.items() if not program and name not in rig.args.without]
    if missing:
        rig.note("not installed, so not compared with: " + " ".join(missing))
    return {name: kind(rig, name, found[name]) for name, kind in kinds.items() if found[name]}


def uploaders(rig):
    return find(rig, UPLOADERS)


def bare_curl(rig):
    return BareCurl(rig, FLOOR, rig.tool("bench_put"))


# ---- mounts

class RcloneMount(Peer):
    def command(self, server, prefix, path):
        return [self.program, "mount", "--config", "/dev/null", "--s3-provider", "Other", "--s3-env-auth",
                "--s3-endpoint", server.url, "--s3-no-check-bucket", "--vfs-cache-mode", "writes", "--transfers",
                str(TRANSFERS), ":s3:%s/%s" % (server.bucket, prefix), path]


class S3fs(Peer):
    def command(self, server, prefix, path):
        keys = os.path.join(self.rig.home, "s3fs-keys")
        with open(keys, "w") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write("%s:%s\n" % (server.access, server.secret))
        self.make_folder(server, prefix)
        return [self.program, "%s:/%s" % (server.bucket, prefix), path, "-f", "-o",
                "url=%s,use_path_request_style,passwd_file=%s,parallel_count=%d" % (server.url, keys, TRANSFERS)]

    def make_folder(self, server, prefix):
        """It mounts only what is there."""
        self.rig.s3(server, "put", server.bucket, prefix + "/", "/dev/null")


class MountS3(Peer):
    def command(self, server, prefix, path):
        return [self.program, server.bucket, path, "--prefix", prefix + "/", "--endpoint-url", server.url,
                "--force-path-style", "--region", "us-east-1", "--foreground"]


class Geesefs(Peer):
    def command(self, server, prefix, path):
        return [self.program, "-f", "--endpoint", server.url, "%s:%s" % (server.bucket, prefix), path]


MOUNTS = {"rclone": RcloneMount, "s3fs": S3fs, "mount-s3": MountS3, "geesefs": Geesefs}


def mounts(rig):
    return find(rig, MOUNTS)


def version(program):
    done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.split("\n")[0][:60]
