"""listing: a plate's folder cold and warm, 100,000 names, 1,000 folders

cold: a fresh mount without a cache; warm: the same command once more. Others keep nothing between two runs.
"""
import os

import peers
import plates
from measure import Watched

PLATE, MANY, FOLDERS = 27648, 100000, 1000
DELAY_MS = 80


def run(rig, results):
    plate_count = rig.count(PLATE, 1000)
    flat = bucket_of(rig, "flat", {"f": plate_count})
    if results.wanted("list/plate"):
        listing_case(rig, results, "plate", "ls -l of %d objects in one folder" % plate_count, flat, most=1.0)
    if results.wanted("list/delay"):
        listing_case(rig, results, "delay", "ls -l of %d objects, each request delayed by %d ms" % (plate_count, DELAY_MS),
                     flat, "--delay-ms", str(DELAY_MS), most=0.4)
    if results.wanted("list/many"):
        many = rig.count(MANY, 1000)
        case = listing_case(rig, results, "many", "ls -l of %d objects in one folder" % many,
                            bucket_of(rig, "many", {"f": many}), warm_most_s=1.0)
    folders = rig.count(FOLDERS, 50)
    deep = None
    for name, options in (("tree", ()), ("tree-delay", ("--delay-ms", str(DELAY_MS)))):
        if results.wanted("list/" + name):
            deep = deep or bucket_of(rig, "deep", {"d%04d" % n: plate_count // folders for n in range(folders)})
            listing_case(rig, results, name, "find over %d folders with %d objects%s" % (
                folders, plate_count, ", each request delayed by %d ms" % DELAY_MS if options else ""),
                deep, *options, deep=True)


def bucket_of(rig, name, folders):
    """A folder for s3d to serve: objects of a few bytes, written as plain files."""
    root = os.path.join(rig.dir, "objects-" + name)
    top = os.path.join(root, "bench", "cpg0000-bench", "broad", "tree")
    for folder, count in folders.items():
        path = os.path.join(top, folder)
        os.makedirs(path, exist_ok=True)
        rig.run([rig.tool("bench_files"), "create", path, str(count), "16"])
    return root, "cpg0000-bench/broad/tree" + ("/f" if len(folders) == 1 else "")


def listing_case(rig, results, name, title, bucket, *options, deep=False, most=None, warm_most_s=None):
    root, prefix = bucket
    server = rig.s3d(*options, sink=False, root=root)
    found = {name: peer for name, peer in peers.uploaders(rig).items() if hasattr(peer, "listing")}
    base = [name for name in ("s5cmd", "rclone") if name in found] or list(found)
    case = results.case(name, title, base=base)
    for peer in found.values():
        case.add(peer.name, lambda peer=peer: by_peer(rig, peer, server, prefix, deep))
    for contender in ("cpgfs ls", "cpgfs cold", "cpgfs warm"):
        case.add(contender, {"cpgfs ls": lambda: by_command(rig, server, prefix, deep),
                             "cpgfs cold": lambda: by_mount(rig, server, prefix, deep, warm=False),
                             "cpgfs warm": lambda: by_mount(rig, server, prefix, deep, warm=True)}[contender])
    if most is not None and base:
        case.budget("cpgfs cold", "wall_s", most=most, ratio=True)
    if warm_most_s is not None:
        case.budget("cpgfs warm", "wall_s", most=warm_most_s)
    case.run(rig.repeats)
    return case


def by_peer(rig, peer, server, prefix, deep):
    done = rig.run(peer.listing(server, prefix, deep), server)
    return {"wall_s": done.wall_s, "cpu_s": done.cpu_s}


def by_command(rig, server, prefix, deep):
    """A fresh listing, whatever the mount keeps."""
    mount = rig.mount(server, "cpg0000-bench/broad")
    with Watched(mount.pid) as daemon:
        done = rig.run([rig.cpgfs, "ls", *(["-R"] if deep else []), os.path.join(mount.path, prefix)])
    rig.unmount(mount)
    return {"wall_s": done.wall_s, "cpu_s": done.cpu_s + daemon.cpu_s, "daemon_peak_mb": daemon.peak_mb}


def by_mount(rig, server, prefix, deep, warm):
    mount = rig.mount(server, "cpg0000-bench/broad")
    folder = os.path.join(mount.path, prefix)
    command = ["find", folder, "-type", "f"] if deep else ["ls", "-l", folder]
    if warm:
        rig.run(command)
    with Watched(mount.pid) as daemon:
        done = rig.run(command)
    rig.unmount(mount)
    return {"wall_s": done.wall_s, "cpu_s": done.cpu_s + daemon.cpu_s, "daemon_peak_mb": daemon.peak_mb}
