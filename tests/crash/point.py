"""One point of a sweep: work, be killed there, recover, compare with the ledger."""
import os
import random
import shutil
import threading

import check
import disk
from ledger import Ledger
from rig import DISK, SLOW, Control, Daemon, Failure, Server
from workload import Workload


class Point:
    """CLASS:N:WHEN[/VARIANT][/close]: a kill, or a power cut; with durability=close. fault.py has what
    WHEN and the words behind it say of a disk that fails."""

    def __init__(self, text):
        self.text = text
        place, *self.rest = text.split("/")
        name, at, self.when = place.split(":")
        self.classes, self.at = (DISK if name == "disk" else [name]), int(at)
        self.variant = next((word for word in self.rest if word in disk.VARIANTS), None)
        self.closes = "close" in self.rest
        self.options = ["--durability", "close"] if self.closes else []
        if self.variant or self.when not in ("before", "half", "after"):
            # what the kernel writes is not recorded, and never fails
            self.options += ["--passthrough", "off"]


class Run:
    def __init__(self, top, point, seed):
        os.makedirs(top, exist_ok=True)
        self.top, self.point = top, point
        self.seed = seed
        self.random = random.Random("%s %s" % (seed, point.text))
        self.ledger = Ledger()
        self.control = Control(os.path.join(top, "control"))
        self.server = Server(top)
        self.daemon = None
        self.notes = []
        self.record = os.path.join(top, "record")
        self.boot_id = os.path.join(top, "boot-id")
        self.boot = 1

    # ---- parts ----

    def start(self, record=None):
        if self.point.variant:
            with open(self.boot_id, "w") as out:
                out.write("boot-%d\n" % self.boot)
        self.daemon = Daemon(self.top, self.server, self.point.options, self.control, record,
                             self.point.variant and self.boot_id)
        return self.daemon.start()

    def work(self):
        """The script until its end or the daemon's. Errors while the daemon lives are failures."""
        workload = Workload(self.daemon, self.ledger, self.seed, self.point.closes)
        try:
            workload.run()
            return True
        except OSError as error:
            if not self.dies_soon():
                raise Failure("%s: %s" % (self.ledger.pending and self.ledger.pending.name, error)) from error
            return False

    def dies_soon(self):
        """A kill is seen by the one who waits for a reply a little before the process is gone."""
        try:
            self.daemon.process.wait(2 * SLOW)
        except Exception:
            return False
        return self.daemon.was_killed()

    def crash(self):
        """Until the point was met, or there is none any more. Whether it was."""
        self.control.arm(self.point.when, self.point.classes, self.point.at)
        self.start(record=self.point.variant and self.record)
        if self.daemon.died() or not self.work() or self.daemon.stop() < 0:
            self.daemon.kill()
        if not self.control.met():
            self.control.disarm()
            return False
        if not self.daemon.was_killed():
            raise Failure("the daemon ended by itself (%s): %s"
                          % (self.daemon.process.returncode, self.daemon.log()[-300:]))
        self.notes.append(self.control.what())
        return True

    def cut_power(self):
        """The cache as a disk may hold it that lost what was not synced; another boot follows."""
        played = disk.replay(self.record)
        unseen = disk.compare(played, self.daemon.cache)
        if unseen:
            raise Failure("the shim did not see every change: %s" % "; ".join(unseen[:5]))
        shutil.rmtree(self.daemon.cache)
        os.mkdir(self.daemon.cache, 0o700)
        played.write_to(self.daemon.cache, self.point.variant, self.random)
        os.unlink(self.record)
        self.boot += 1

    def crash_again(self):
        """Kills in the recovery, and in what follows it."""
        for _ in range(self.random.choice([0, 1, 1, 2])):
            at = int(self.random.expovariate(1 / 20)) + 1
            self.control.arm(self.random.choice(["before", "half", "after"]), DISK, at)
            self.start()
            if not self.daemon.died():
                self.daemon.wait_idle()
            self.daemon.kill()
            if self.control.met():
                self.notes.append("again: " + self.control.what())
        self.control.disarm()

    def judge(self):
        self.start()
        if self.daemon.died():
            raise Failure("the daemon does not start any more: %s" % self.daemon.log()[-600:])
        power_cut = self.boot > 1
        check.judge_tree(self.ledger, self.daemon, power_cut)
        if not self.daemon.wait_idle():
            raise Failure("the daemon ended: %s" % self.daemon.log()[-600:])
        lost = check.judge_bucket(self.ledger, self.server, self.daemon, power_cut)
        if lost:
            self.notes.append("%d upload begun, its id not known here" % lost)
        check.judge_tree(self.ledger, self.daemon, power_cut)
        if self.daemon.stop() != 0:
            raise Failure("the daemon did not end well: %s" % self.daemon.log()[-600:])

    # ---- all ----

    def go(self):
        self.server.start()
        met = self.crash()
        if met and self.point.variant:
            self.cut_power()
        if met:
            self.crash_again()
        self.judge()
        return met

    def clear(self):
        if self.daemon:
            self.daemon.kill()
        self.server.stop()


def clear_mounts(top):
    """After a point that had to be killed with all its processes."""
    Daemon(os.path.join(top, "run"), None).clear_mount()


def run_point(run, deadline=60):
    """{"point", "met", "failure", "notes"}"""
    text = run.point.text
    result = {"point": text, "met": False, "failure": None}

    def hangs():
        result["failure"] = "hangs: took more than %d s" % (deadline * SLOW)
        run.daemon.process.kill()  # what waits in the mount comes free
    watch = threading.Timer(deadline * SLOW, hangs)
    watch.daemon = True
    watch.start()
    try:
        result["met"] = run.go()
    except (Failure, OSError) as failure:
        result["failure"] = result["failure"] or str(failure)
    finally:
        watch.cancel()
        run.clear()
    result["notes"] = run.notes
    result["seen"] = run.control.seen()
    if not result["failure"]:
        shutil.rmtree(run.top)
    return result
