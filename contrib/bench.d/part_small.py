"""small files and small writes: what one call takes

create+write+close of 4 KiB files one after another, and files written 4 KiB at a time (as libtiff, HDF5 and
SQLite do), each beside the same on the disk and through a daemon that only hands on (bench_passthrough).
`busy` makes files while a plate is copied to the same place, over and over: what counts are the worst calls
(p99.9). `cpgfs, checkpoints` writes its index three times a second meanwhile; by itself it does after
thousands of files, or when nothing happens.
"""
import contextlib
import os
import threading
import time

import plates
from measure import Watched

FILES, FILE_BYTES = 20000, 4096
BUSY_FILES, BUSY_IMAGES, BUSY_COPIES, CHECKPOINT_S = 10000, 40, 10, 0.3
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
    if results.wanted("small/busy"):
        few = rig.count(BUSY_FILES, 1000)
        plate = plates.plate(rig, BUSY_IMAGES)
        case = results.case("busy", "create + write %d bytes + close, %d times, while a plate is copied" % (FILE_BYTES, few),
                            base="pass-through direct", main="create_p99.9_us")
        command = ["create", "{}", str(few), str(FILE_BYTES)]
        case.add("disk", lambda: on_disk(rig, command, plate))
        case.add("pass-through direct", lambda: on_pass_through(rig, command, few, "direct", plate=plate))
        case.add("cpgfs", lambda: on_cpgfs(rig, command, few, server, plate))
        case.add("cpgfs, checkpoints", lambda: on_cpgfs(rig, command, few, server, plate, checkpoints=True))
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


@contextlib.contextmanager
def meanwhile(action, times):
    """It is done again and again beside what is measured, so often at most."""
    ended = threading.Event()

    def again():
        for number in range(times):
            if not ended.is_set():
                action(number)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def copying(rig, plate, folder):
    """A plate is copied beside the folder; nothing if there is none."""
    if not plate:
        return contextlib.nullcontext()
    return meanwhile(lambda number: rig.run(["cp", "-r", plate, "%s.plate%d" % (folder, number)]), BUSY_COPIES)


def writing_the_index(mount):
    def checkpoint(_number):
        with open(os.path.join(mount.path, ".cpgfs", "control"), "w", encoding="ascii") as control:
            control.write("checkpoint\n")
        time.sleep(CHECKPOINT_S)

    return meanwhile(checkpoint, 1000)


def on_disk(rig, command, plate=None):
    folder = rig.folder(rig.fresh("small"))
    with copying(rig, plate, folder):
        figures = tool(rig, command, folder)
    plates.remove(folder)
    for number in range(BUSY_COPIES):
        plates.remove("%s.plate%d" % (folder, number))
    return figures


def on_pass_through(rig, command, calls, *options, plate=None):
    below, path = rig.folder(rig.fresh("below")), rig.folder(rig.fresh("mnt"))
    mount = rig.mounted(path, [rig.tool("bench_passthrough"), below, path, *options], "passthrough.log")
    folder = os.path.join(path, "small")
    os.makedirs(folder)
    with copying(rig, plate, folder):
        figures = watched(rig, mount, command, folder, calls)
    rig.unmount(mount)
    plates.remove(below)
    return figures


def on_cpgfs(rig, command, calls, server, plate=None, checkpoints=False):
    prefix = rig.prefix()
    mount = rig.mount(server, prefix)
    folder = os.path.join(mount.path, prefix, "workspace", "small")
    os.makedirs(folder, exist_ok=True)
    with copying(rig, plate, folder), writing_the_index(mount) if checkpoints else contextlib.nullcontext():
        figures = watched(rig, mount, command, folder, calls)
    rig.unmount(mount)
    return figures
