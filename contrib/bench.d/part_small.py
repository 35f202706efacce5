"""small files and small writes: what one call takes

create+write+close of 4 KiB files one after another, and files written 4 KiB at a time (as libtiff, HDF5 and
SQLite do), each beside the same on the disk and through a daemon that only hands on (bench_passthrough).
"""
import os

import plates
from measure import Watched

FILES, FILE_BYTES = 20000, 4096
STREAM_BYTES, CHUNK_BYTES = 64 << 20, 4096


def run(rig, results):
    server, nowhere = rig.s3d(), rig.nowhere()
    count = rig.count(FILES, 200)
    if results.wanted("small/create"):
        case = results.case("create", "create + write %d bytes + close, %d times" % (FILE_BYTES, count),
                            base="pass-through direct", main="create_p50_us")
        command = ["create", "{}", str(count), str(FILE_BYTES)]
        contenders(case, rig, command, server, nowhere, count)
        for who in ("cpgfs", "cpgfs unreachable"):
            case.budget(who, "create_p50_us", most=150)
        case.run(rig.repeats)
    size = rig.count(STREAM_BYTES, 1 << 20) // CHUNK_BYTES * CHUNK_BYTES
    for name, verb, what in (("chunks", "chunks", "written through a write-only handle"),
                             ("update", "update", "through a handle that reads and writes, every 16th chunk read back")):
        if results.wanted("small/" + name):
            case = results.case(name, "%.0f MB %s, %d bytes at a time" % (size / 1e6, what, CHUNK_BYTES),
                                base=("pass-through", "pass-through direct"))
            command = [verb, "{}/file.bin", str(size), str(CHUNK_BYTES)]
            contenders(case, rig, command, server, nowhere, size // CHUNK_BYTES)
            case.budget("cpgfs", "wall_s", most=1.0, ratio=True)
            case.run(rig.repeats)


def contenders(case, rig, command, server, nowhere, calls):
    case.add("disk", lambda: on_disk(rig, command))
    case.add("pass-through", lambda: on_pass_through(rig, command, calls))
    case.add("pass-through direct", lambda: on_pass_through(rig, command, calls, "direct"))
    case.add("cpgfs", lambda: on_cpgfs(rig, command, calls, server))
    case.add("cpgfs unreachable", lambda: on_cpgfs(rig, command, calls, nowhere))


def tool(rig, command, folder):
    """The command on a folder; the percentiles that are worth a column."""
    rig.settle_disk()
    figures = rig.figures([rig.tool("bench_files")] + [word.replace("{}", folder) for word in command])
    return {name: value for name, value in figures.items() if not name.endswith(("p90_us", "_max_us"))}


def watched(rig, mount, command, folder, calls):
    with Watched(mount.pid) as daemon:
        figures = tool(rig, command, folder)
    figures["cpu_us_each"] = daemon.cpu_s / calls * 1e6
    return figures


def on_disk(rig, command):
    folder = rig.folder(rig.fresh("small"))
    figures = tool(rig, command, folder)
    plates.remove(folder)
    return figures


def on_pass_through(rig, command, calls, *options):
    below, path = rig.folder(rig.fresh("below")), rig.folder(rig.fresh("mnt"))
    mount = rig.mounted(path, [rig.tool("bench_passthrough"), below, path, *options], "passthrough.log")
    figures = watched(rig, mount, command, path, calls)
    rig.unmount(mount)
    plates.remove(below)
    return figures


def on_cpgfs(rig, command, calls, server):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix)
    folder = os.path.join(mount.path, prefix, "workspace", "small")
    os.makedirs(folder, exist_ok=True)
    figures = watched(rig, mount, command, folder, calls)
    rig.unmount(mount)
    return figures
