"""many small objects: PUTs per second, and CPU for each

`cpgfs upload` sends files that were copied in before (its CPU is what one object costs to send and prove);
`cpgfs` is the copying, the upload and the verifying together.
"""
import os

import peers
import plates
from measure import Watched

OBJECTS, OBJECT_BYTES = 10000, 4096


def run(rig, results):
    count = rig.count(OBJECTS, 200)
    source = plates.small_files(rig, count, OBJECT_BYTES)
    if results.wanted("objects/s3d"):
        objects_case(rig, results, "s3d", source, rig.s3d())
    if results.wanted("objects/rgw"):
        server = rig.rgw()
        if server:
            objects_case(rig, results, "rgw", source, server)
    if results.wanted("objects/delay"):
        few = plates.small_files(rig, rig.count(2000, 200), OBJECT_BYTES)
        objects_case(rig, results, "delay", few, rig.s3d("--delay-ms", "80"), ", each request delayed by 80 ms")


def objects_case(rig, results, name, source, server, suffix=""):
    count = len(os.listdir(source))
    found = peers.uploaders(rig)
    case = results.case(name, "%d objects of %d bytes (%s)%s" % (count, OBJECT_BYTES, server.name, suffix),
                        base=list(found) or peers.FLOOR, main="put_per_s")
    for peer in [peers.bare_curl(rig), *found.values()]:
        case.add(peer.name, lambda peer=peer: through_peer(rig, peer, source, server, count))
    case.add("cpgfs upload", lambda: through_cpgfs(rig, source, server, count, "--paused"))
    case.add("cpgfs", lambda: through_cpgfs(rig, source, server, count))
    if found:
        case.budget("cpgfs upload", "put_per_s", least=1.0, ratio=True)
    case.budget("cpgfs upload", "cpu_ms_each", most=0.15)
    case.run(rig.repeats)


def figures(count, wall_s, cpu_s, peak_mb):
    return {"put_per_s": count / wall_s, "cpu_ms_each": cpu_s / count * 1000, "peak_mb": peak_mb}


def through_peer(rig, peer, source, server, count):
    rig.settle_disk()
    done = rig.run(peer.upload(server, source, rig.prefix()), server)
    return figures(count, done.wall_s, done.cpu_s, done.peak_mb)


def through_cpgfs(rig, source, server, count, *options):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix, *options)
    parent = os.path.join(mount.path, prefix, "workspace")
    os.makedirs(parent, exist_ok=True)
    if options:
        rig.run(["cp", "-r", source, parent])
    rig.settle_disk()
    with Watched(mount.pid) as daemon:
        if options:
            rig.run([rig.cpgfs, "resume", mount.path])
        else:
            rig.run(["cp", "-r", source, parent])
        rig.wait_verified(mount)
    rig.unmount(mount)
    return figures(count, daemon.wall_s, daemon.cpu_s, daemon.peak_mb)
