"""proving what is there: cpgfs verify beside rclone check

`cpgfs verify` compares what was copied in with a listing made now, by key, size and ETag; `verify SRC` compares
a folder with the bucket as rclone check does, reading all files, or with --size-only sizes alone.
"""
import os

import peers
import plates
from measure import Watched

OBJECTS, OBJECT_BYTES = 27648, 512


def run(rig, results):
    count = rig.count(OBJECTS, 500)
    source = plates.small_files(rig, count, OBJECT_BYTES)
    server, prefix = rig.s3d(sink=False), rig.prefix()
    mount = rig.mount(server, prefix)
    parent = os.path.join(prefix, "workspace")
    os.makedirs(os.path.join(mount.path, parent), exist_ok=True)
    rig.run(["cp", "-r", source, os.path.join(mount.path, parent)])
    rig.wait_verified(mount)
    where = "%s/%s" % (parent, os.path.basename(source))
    found = peers.find(rig, {"rclone": peers.Rclone})
    case = results.case("listing", "%d objects" % count, base="rclone check --size-only")
    if found:
        rclone = found["rclone"]
        case.add("rclone check", lambda: by_peer(rig, rclone.check(server, source, where), server, count))
        case.add("rclone check --size-only",
                 lambda: by_peer(rig, rclone.check(server, source, where, "--size-only"), server, count))
        case.budget("cpgfs verify", "wall_s", most=0.5, ratio=True)
    case.add("cpgfs verify", lambda: by_cpgfs(rig, mount, count))
    url = "s3://%s/%s" % (server.bucket, where)
    for option in ((), ("--size-only",)):
        case.add(" ".join(("cpgfs verify SRC",) + option),
                 lambda option=option: by_peer(rig, [rig.cpgfs, "verify", *option, "--endpoint", server.url, source, url],
                                               server, count))
    case.run(rig.repeats)
    rig.unmount(mount)


def by_peer(rig, command, server, count):
    done = rig.run(command, server)
    return {"wall_s": done.wall_s, "objects_per_s": count / done.wall_s, "cpu_s": done.cpu_s}


def by_cpgfs(rig, mount, count):
    with Watched(mount.pid) as daemon:
        done = rig.run([rig.cpgfs, "verify", mount.path])
    return {"wall_s": done.wall_s, "objects_per_s": count / done.wall_s, "cpu_s": done.cpu_s + daemon.cpu_s}
