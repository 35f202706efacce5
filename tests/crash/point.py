"""One point of a sweep: work, be killed there, recover, compare with the ledger."""
import os
import random
import shutil
import threading

import check
from ledger import Ledger
from rig import DISK, SLOW, Control, Daemon, Failure, Server
from workload import Workload


class Point:
    """CLASS:N:WHEN, as in journal:17:half. Kinds of a point after a '+': see sweep."""

    def __init__(self, text):
        self.text = text
        name, at, self.when = text.split(":")
        self.classes, self.at = (DISK if name == "disk" else [name]), int(at)


class Run:
    def __init__(self, top, point, seed):
        self.top, self.point = top, point
        self.seed = seed
        self.random = random.Random("%s %s" % (seed, point.text))
        self.ledger = Ledger()
        self.control = Control(os.path.join(top, "control"))
        self.server = Server(top)
        self.daemon = None
        self.notes = []

    # ---- parts ----

    def start(self, **how):
        self.daemon = Daemon(self.top, self.server, **how)
        return self.daemon.start()

    def work(self):
        """The script until its end or the daemon's. Errors while the daemon lives are failures."""
        workload = Workload(self.daemon.mount, self.ledger, self.seed, self.daemon.wait_idle)
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
        self.start(control=self.control)
        if self.daemon.died() or not self.work() or self.daemon.stop() < 0:
            self.daemon.kill()
        if not self.control.met():
            return False
        if not self.daemon.was_killed():
            raise Failure("the daemon ended by itself (%s): %s"
                          % (self.daemon.process.returncode, self.daemon.log()[-300:]))
        self.notes.append(self.control.what())
        return True

    def crash_again(self):
        """Kills in the recovery, and in what follows it."""
        for _ in range(self.random.choice([0, 1, 1, 2])):
            at = int(self.random.expovariate(1 / 20)) + 1
            self.control.arm(self.random.choice(["before", "half", "after"]), DISK, at)
            self.start(control=self.control)
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
        check.judge_tree(self.ledger, self.daemon)
        if not self.daemon.wait_idle():
            raise Failure("the daemon ended: %s" % self.daemon.log()[-600:])
        lost = check.judge_bucket(self.ledger, self.server, self.daemon)
        if lost:
            self.notes.append("%d upload begun, its id not known here" % lost)
        check.judge_tree(self.ledger, self.daemon)
        if self.daemon.stop() != 0:
            raise Failure("the daemon did not end well: %s" % self.daemon.log()[-600:])

    # ---- all ----

    def go(self):
        self.server.start()
        met = self.crash()
        if met:
            self.crash_again()
        self.judge()
        return met

    def clear(self):
        if self.daemon:
            self.daemon.kill()
        self.server.stop()


def run_point(top, text, seed, deadline=60):
    """{"point", "met", "failure", "notes"}"""
    os.makedirs(top, exist_ok=True)
    run = Run(top, Point(text), seed)
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
        shutil.rmtree(top)
    return result
