"""a million files that wait: memory, mounting, renaming a folder, status, calls while it works

The files are copied in while uploading is paused, so that all of them are pending.
"""
import os
import time

from measure import Watched, cpu_seconds, memory_mb

FILES, IN_FOLDER, FILE_BYTES = 1000000, 10000, 16
RENAMED = 50000


def run(rig, results):
    count, prefix, server = rig.count(FILES, 2000), rig.prefix(), rig.nowhere()
    mount = rig.mount(server, prefix, "--paused")
    top = os.path.join(mount.path, prefix, "workspace")
    renamed = min(RENAMED, count // 2)
    once = results.case("pending", "%d files pending" % count, main="peak_mb")
    once.add("cpgfs", lambda: fill(rig, mount, top, count, renamed))
    once.budget("cpgfs", "peak_mb", most=150)
    once.run(1)
    if not once.samples:
        return
    calls = results.case("calls", "with %d files pending" % count, main="status_p50_ms")
    calls.add("cpgfs", lambda: calls_while_full(rig, mount, top))
    calls.budget("cpgfs", "rename_ms", most=100)
    calls.run(max(3, rig.repeats))
    start = results.case("start", "mounting with %d files pending" % count)
    state = {"mount": mount}
    start.add("cpgfs", lambda: mount_again(rig, state, server, prefix))
    start.budget("cpgfs", "wall_s", most=2.0 * max(1.0, count / 500000))
    start.run(max(3, rig.repeats))
    rig.unmount(state["mount"])


def fill(rig, mount, top, count, renamed):
    os.makedirs(os.path.join(top, "renamed"), exist_ok=True)
    with Watched(mount.pid) as daemon:
        worst = rig.figures([rig.tool("bench_files"), "create", os.path.join(top, "renamed"), str(renamed), str(FILE_BYTES)])
        left, number = count - renamed, 0
        while left > 0:
            folder = os.path.join(top, "d%05d" % number)
            os.makedirs(folder, exist_ok=True)
            rig.run([rig.tool("bench_files"), "create", folder, str(min(IN_FOLDER, left)), str(FILE_BYTES)])
            left, number = left - IN_FOLDER, number + 1
    return {"peak_mb": daemon.peak_mb, "after_mb": memory_mb(mount.pid), "create_per_s": count / daemon.wall_s,
            "create_p99.9_us": worst["create_p99.9_us"], "cpu_us_each": daemon.cpu_s / count * 1e6}


def calls_while_full(rig, mount, top):
    began = time.monotonic()
    os.rename(os.path.join(top, "renamed"), os.path.join(top, "renamed2"))
    rename_ms = (time.monotonic() - began) * 1000
    os.rename(os.path.join(top, "renamed2"), os.path.join(top, "renamed"))
    status = rig.figures([rig.tool("bench_files"), "times", "200", os.path.join(mount.path, ".cpgfs", "status.json")])
    command_s = rig.run([rig.cpgfs, "status", mount.path], ok=(0, 2, 3)).wall_s
    folder = os.path.join(top, rig.fresh("more"))
    os.makedirs(folder, exist_ok=True)
    create = rig.figures([rig.tool("bench_files"), "create", folder, str(rig.count(20000, 1000)), str(FILE_BYTES)])
    return {"rename_ms": rename_ms, "status_p50_ms": status["read_p50_us"] / 1000, "status_p99_ms": status["read_p99_us"] / 1000,
            "command_ms": command_s * 1000, "create_p50_us": create["create_p50_us"], "create_p99.9_us": create["create_p99.9_us"],
            "create_max_us": create["create_max_us"]}


def mount_again(rig, state, server, prefix):
    cache = state["mount"].cache
    began = time.monotonic()
    rig.unmount(state["mount"], keep_cache=True)
    unmount_s = time.monotonic() - began
    rig.settle_disk()
    began = time.monotonic()
    state["mount"] = rig.mount(server, prefix, "--paused", cache=cache)
    wall_s = time.monotonic() - began
    return {"wall_s": wall_s, "cpu_s": cpu_seconds(state["mount"].pid), "unmount_s": unmount_s,
            "after_mb": memory_mb(state["mount"].pid)}
