"""copying a plate in: cp -r into the mount, and to the same disk

Daemons are started for each sample anew, on an empty cache. `pass-through` is bench_passthrough: what a
FUSE daemon costs that does nothing but hand on. Where the kernel can write the cache's files by itself
(as root, Linux 6.9, libfuse 3.17), some of them do that; the others do not. `plate` copies from the disk
itself: within one disk the kernel copies (copy_file_range), which it does not into any other mount.
`elsewhere` copies from memory: cp reads and writes then, wherever to.
"""
import json
import os
import shutil
import tempfile

import plates
from measure import Watched

MEMORY = "/dev/shm"


def run(rig, results):
    files = rig.count(plates.IMAGES, 20)
    source = plates.plate(rig, files)
    server, nowhere = rig.s3d(), rig.nowhere()
    gb = plates.bytes_in(source) / 1e9
    off = ["--passthrough", "off"] if "--passthrough" in rig.run([rig.cpgfs, "mount", "--help"]).output else []
    lends = bool(off) and has_passthrough(rig, nowhere)
    if results.wanted("ingest/plate"):
        case = results.case("plate", "cp -r of %d files, %.2f GB" % (files, gb), base="disk")
        case.add("disk", lambda: to_disk(rig, source))
        case.add("pass-through", lambda: to_pass_through(rig, source, gb))
        case.add("pass-through direct", lambda: to_pass_through(rig, source, gb, "direct"))
        case.add("cpgfs", lambda: to_cpgfs(rig, source, gb, server, *off))
        case.add("cpgfs paused", lambda: to_cpgfs(rig, source, gb, server, "--paused", *off))
        case.add("cpgfs unreachable", lambda: to_cpgfs(rig, source, gb, nowhere, *off))
        if lends:
            case.add("pass-through kernel", lambda: to_pass_through(rig, source, gb, "kernel"))
            case.add("cpgfs passthrough", lambda: to_cpgfs(rig, source, gb, server))
            case.budget("cpgfs passthrough", "wall_s", most=1.6, ratio=True)
        for who in ("cpgfs", "cpgfs paused", "cpgfs unreachable"):
            case.budget(who, "wall_s", most=2.5, ratio=True)
        case.run(rig.repeats)
    if results.wanted("ingest/elsewhere") and os.path.isdir(MEMORY) and os.stat(MEMORY).st_dev != os.stat(rig.dir).st_dev:
        with tempfile.TemporaryDirectory(prefix="cpgfs-bench-", dir=MEMORY) as memory:
            near = shutil.copytree(source, os.path.join(memory, "plate"))
            case = results.case("elsewhere", "the same from memory", base="disk")
            case.add("disk", lambda: to_disk(rig, near))
            case.add("pass-through direct", lambda: to_pass_through(rig, near, gb, "direct"))
            case.add("cpgfs", lambda: to_cpgfs(rig, near, gb, server, *off))
            if lends:
                case.add("pass-through kernel", lambda: to_pass_through(rig, near, gb, "kernel"))
                case.add("cpgfs passthrough", lambda: to_cpgfs(rig, near, gb, server))
                case.budget("cpgfs passthrough", "wall_s", most=1.6, ratio=True)
            case.budget("cpgfs", "wall_s", most=2.5, ratio=True)
            case.run(rig.repeats)


def has_passthrough(rig, server):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix, "--paused")
    folder = os.path.join(mount.path, prefix)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "probe"), "wb"):
        pass
    with open(os.path.join(mount.path, ".cpgfs", "status.json")) as status:
        files = json.load(status)["passthrough"]["files"]
    rig.unmount(mount)
    return files > 0


def to_disk(rig, source):
    dest = os.path.join(rig.dir, rig.fresh("copy"))
    rig.settle_disk()
    wall_s = rig.run(["cp", "-r", source, dest]).wall_s
    plates.remove(dest)
    return {"wall_s": wall_s}


def copied(rig, mount, source, dest, gb):
    rig.settle_disk()
    with Watched(mount.pid) as daemon:
        wall_s = rig.run(["cp", "-r", source, dest]).wall_s
    return {"wall_s": wall_s, "cpu_s_per_gb": daemon.cpu_s / gb, "peak_mb": daemon.peak_mb}


def to_pass_through(rig, source, gb, *options):
    below, path = rig.folder(rig.fresh("below")), rig.folder(rig.fresh("mnt"))
    mount = rig.mounted(path, [rig.tool("bench_passthrough"), below, path, *options], "passthrough.log")
    sample = copied(rig, mount, source, os.path.join(path, "copy"), gb)
    rig.unmount(mount)
    plates.remove(below)
    return sample


def to_cpgfs(rig, source, gb, server, *options):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix, *options)
    batch = os.path.join(mount.path, prefix, "images", "2021_04_26_Batch1", "images")
    os.makedirs(batch, exist_ok=True)
    sample = copied(rig, mount, source, os.path.join(batch, "BR00117035__2021-05-02T16_02_51-Measurement1"), gb)
    rig.unmount(mount)
    return sample
