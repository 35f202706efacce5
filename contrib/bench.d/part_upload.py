"""a plate into the bucket: copied in, uploaded and verified, beside uploaders and other mounts

`cpgfs` is cp -r and cpgfs wait, with all that a person waits for: its CPU is the daemon's, accepting and
uploading. `cpgfs upload` has the plate already accepted. `libcurl alone` is no uploader (bench_put: no
digest, no proof): it shows what this server can take, and that the server is not the limit.
A mount of somebody else is done when the bucket lists all files.
"""
import os
import time

import peers
import plates
from measure import Watched, cpu_seconds

DELAY_MS, DELAYED_IMAGES = 80, 200


def run(rig, results):
    source = plates.plate(rig, rig.count(plates.IMAGES, 20))
    if results.wanted("upload/s3d"):
        plate_case(rig, results, "s3d", source, rig.s3d())
    if results.wanted("upload/sha256"):
        case = results.case("sha256", "the same to a server without CRC64NVME: bodies signed with SHA-256")
        server = rig.s3d("--crc64nvme", "off")
        case.add("cpgfs", lambda: through_cpgfs(rig, source, server))
        case.run(rig.repeats)
    if results.wanted("upload/rgw"):
        server = rig.rgw()
        if server:
            plate_case(rig, results, "rgw", source, server)
    if results.wanted("upload/delay"):
        few = plates.plate(rig, rig.count(DELAYED_IMAGES, 20))
        plate_case(rig, results, "delay", few, rig.s3d("--delay-ms", str(DELAY_MS)), most=1.0,
                   suffix=", each request delayed by %d ms" % DELAY_MS, mounts=False)


def plate_case(rig, results, name, source, server, most=1.15, suffix="", mounts=True):
    found = peers.uploaders(rig)
    title = "%d files, %.2f GB, until the bucket has them (%s)%s" % (
        len(os.listdir(source)), plates.bytes_in(source) / 1e9, server.name, suffix)
    case = results.case(name, title, base=list(found) or peers.FLOOR)
    case.add(peers.FLOOR, lambda: through_peer(rig, peers.bare_curl(rig), source, server))
    for peer in found.values():
        case.add(peer.name, lambda peer=peer: through_peer(rig, peer, source, server))
    case.add("cpgfs", lambda: through_cpgfs(rig, source, server))
    case.add("cpgfs upload", lambda: only_upload(rig, source, server))
    if mounts:
        for peer in peers.mounts(rig).values():
            case.add(peer.name + " mount", lambda peer=peer: through_mount(rig, peer, source, server))
    if found:
        case.budget("cpgfs", "wall_s", most=most, ratio=True)
    case.budget("cpgfs", "cpu_s_per_gb", most=1.0)
    case.budget("cpgfs", "peak_mb", most=60)
    case.run(rig.repeats)


def figures(source, server, server_began_s, wall_s, cpu_s, peak_mb, **more):
    gb = plates.bytes_in(source) / 1e9
    sample = {"wall_s": wall_s, "cpu_s_per_gb": cpu_s / gb, "peak_mb": peak_mb, **more}
    if server.pid:
        sample["server_cpu_s_per_gb"] = (cpu_seconds(server.pid) - server_began_s) / gb
    return sample


def server_cpu(server):
    return cpu_seconds(server.pid) if server.pid else 0


def through_peer(rig, peer, source, server):
    rig.settle_disk()
    began_s = server_cpu(server)
    done = rig.run(peer.upload(server, source, rig.prefix()), server)
    return figures(source, server, began_s, done.wall_s, done.cpu_s, done.peak_mb)


def plate_folder(mount, prefix):
    batch = os.path.join(mount.path, prefix, "images", "2021_04_26_Batch1", "images")
    os.makedirs(batch, exist_ok=True)
    return os.path.join(batch, "BR00117035__2021-05-02T16_02_51-Measurement1")


def through_cpgfs(rig, source, server):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix)
    dest = plate_folder(mount, prefix)
    rig.settle_disk()
    began_s = server_cpu(server)
    with Watched(mount.pid) as daemon:
        copied_s = rig.run(["cp", "-r", source, dest]).wall_s
        rig.wait_verified(mount)
    sample = figures(source, server, began_s, daemon.wall_s, daemon.cpu_s, daemon.peak_mb, copied_s=copied_s)
    rig.unmount(mount)
    return sample


def only_upload(rig, source, server):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix, "--paused")
    rig.run(["cp", "-r", source, plate_folder(mount, prefix)])
    rig.settle_disk()
    began_s = server_cpu(server)
    with Watched(mount.pid) as daemon:
        rig.run([rig.cpgfs, "resume", mount.path])
        rig.wait_verified(mount)
    sample = figures(source, server, began_s, daemon.wall_s, daemon.cpu_s, daemon.peak_mb)
    rig.unmount(mount)
    return sample


def through_mount(rig, peer, source, server):
    prefix, path = rig.prefix(), rig.folder(rig.fresh("mnt"))
    mount = rig.mounted(path, peer.command(server, prefix, path), peer.name + ".log", server)
    files = len(os.listdir(source))
    rig.settle_disk()
    began_s = server_cpu(server)
    with Watched(mount.pid) as daemon:
        copied_s = rig.run(["cp", "-r", source, os.path.join(path, "plate")]).wall_s
        while rig.objects(server, prefix + "/plate/") < files:
            time.sleep(0.2)
    sample = figures(source, server, began_s, daemon.wall_s, daemon.cpu_s, daemon.peak_mb, copied_s=copied_s)
    rig.unmount(mount)
    return sample
