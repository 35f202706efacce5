"""reading back: a plate that lies only in the bucket

cold: through a fresh mount without a cache; cached: the same files once more, from the cache.
"""
import os

import peers
import plates
from measure import Watched

IMAGES = 200


def run(rig, results):
    files = rig.count(IMAGES, 20)
    source = plates.plate(rig, files)
    gb = plates.bytes_in(source) / 1e9
    for name, options, title in (("plate", (), ""), ("delay", ("--delay-ms", "80"), ", each request delayed by 80 ms")):
        if not results.wanted("read/" + name):
            continue
        server, prefix = rig.s3d(*options, sink=False), "cpg0000-bench/broad"
        rig.run(peers.bare_curl(rig).upload(server, source, prefix + "/plate"), server)
        found = {name: peer for name, peer in peers.uploaders(rig).items() if hasattr(peer, "download")}
        case = results.case(name, "%d files, %.2f GB, read from the bucket%s" % (files, gb, title), base=list(found))
        for peer in found.values():
            case.add(peer.name, lambda peer=peer: by_peer(rig, peer, server, prefix + "/plate", gb))
        case.add("cpgfs cold", lambda: by_mount(rig, server, prefix, gb, False))
        case.add("cpgfs cold, 4 readers", lambda: by_mount(rig, server, prefix, gb, False, readers=4))
        case.add("cpgfs cached", lambda: by_mount(rig, server, prefix, gb, True))
        case.run(rig.repeats)


def by_peer(rig, peer, server, prefix, gb):
    dest = rig.folder(rig.fresh("down"))
    rig.settle_disk()
    done = rig.run(peer.download(server, prefix, dest), server)
    plates.remove(dest)
    return {"wall_s": done.wall_s, "mb_s": gb * 1000 / done.wall_s, "cpu_s_per_gb": done.cpu_s / gb}


def by_mount(rig, server, prefix, gb, cached, readers=1):
    mount = rig.mount(server, prefix)
    folder = os.path.join(mount.path, prefix, "plate")
    command = ["sh", "-c", 'find "$0" -type f -print0 | xargs -0 -n 4 -P %d cat >/dev/null' % readers, folder]
    if cached:
        rig.run(command)
    rig.settle_disk()
    with Watched(mount.pid) as daemon:
        done = rig.run(command)
    rig.unmount(mount)
    return {"wall_s": done.wall_s, "mb_s": gb * 1000 / done.wall_s, "cpu_s_per_gb": daemon.cpu_s / gb}
