"""one large file: into the mount and into the bucket, in parts"""
import os

import peers
import plates
from measure import Watched

FILE_BYTES = 4 << 30


def run(rig, results):
    size = rig.count(FILE_BYTES, 64 << 20)
    path = os.path.join(rig.dir, "large.bin")
    write_noise(path, size)
    server = rig.s3d()
    found = {name: peer for name, peer in peers.uploaders(rig).items() if hasattr(peer, "upload_file")}
    case = results.case("file", "one file of %.2f GB (s3d)" % (size / 1e9), base=list(found))
    case.add("disk", lambda: to_disk(rig, path))
    for peer in found.values():
        case.add(peer.name, lambda peer=peer: through_peer(rig, peer, path, size, server))
    case.add("cpgfs", lambda: through_cpgfs(rig, path, size, server))
    if found:
        case.budget("cpgfs", "wall_s", most=1.15, ratio=True)
    case.budget("cpgfs", "cpu_s_per_gb", most=1.0)
    case.budget("cpgfs", "peak_mb", most=60)
    case.run(rig.repeats)
    os.unlink(path)


def write_noise(path, size):
    block = os.urandom(1 << 20)
    with open(path, "wb", buffering=0) as out:
        for number in range(size >> 20):
            out.write(number.to_bytes(8, "big") + block[8:])
        out.write(block[:size % (1 << 20)])


def to_disk(rig, path):
    dest = os.path.join(rig.dir, rig.fresh("copy"))
    rig.settle_disk()
    copied_s = rig.run(["cp", path, dest]).wall_s
    os.unlink(dest)
    return {"copied_s": copied_s}


def through_peer(rig, peer, path, size, server):
    rig.settle_disk()
    done = rig.run(peer.upload_file(server, path, rig.prefix() + "/large.bin"), server)
    return {"wall_s": done.wall_s, "cpu_s_per_gb": done.cpu_s / size * 1e9, "peak_mb": done.peak_mb}


def through_cpgfs(rig, path, size, server):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix)
    folder = os.path.join(mount.path, prefix, "workspace", "backend")
    os.makedirs(folder, exist_ok=True)
    rig.settle_disk()
    with Watched(mount.pid) as daemon:
        copied_s = rig.run(["cp", path, folder]).wall_s
        rig.wait_verified(mount)
    rig.unmount(mount)
    return {"wall_s": daemon.wall_s, "cpu_s_per_gb": daemon.cpu_s / size * 1e9, "peak_mb": daemon.peak_mb,
            "copied_s": copied_s}
