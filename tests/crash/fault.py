"""One point of a sweep in which the cache disk fails: work on, heal it, and look.

CLASS:N:ERROR[/lasting][/recovery][/close]: the N-th call of its class fails with ENOSPC or EIO, or is
short (half of the bytes, then goes on). lasting: so do all that follow, until the program that works
there is told of an error, or a moment passed. recovery: not while working, but at the start after a
kill. A program that is told an error looks what stands there, and does its work again.
"""
import errno
import os
import threading
import time

import check
import point
from rig import FOR_EVER, IN_DOUBT, SLOW, Failure, wait_for
from workload import TOP, Workload

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "short": errno.ENOSPC}
LASTS_SECONDS = 1.0
TRIES = 5


def is_fault(point_of):
    return point_of.when in ERRORS


class FaultRun(point.Run):
    def __init__(self, top, point_of, seed):
        super().__init__(top, point_of, seed)
        self.lasting, self.recovery = "lasting" in point_of.rest, "recovery" in point_of.rest
        self.told = []   # errors that programs saw, and messages of a daemon that refused to start
        self.tries = 0
        self.over = threading.Event()
        self.ledger.cut_off_may_lack = True  # what a killed writer's end could not record

    # ---- the fault ----

    def arm(self):
        action = "short" if self.point.when == "short" else "fail"
        error = errno.EIO if "read" in self.point.classes else ERRORS[self.point.when]
        self.control.arm(action, self.point.classes, self.point.at,
                         FOR_EVER if self.lasting else 1, error)

    def heal(self):
        self.control.disarm()

    def heal_in_time(self):
        """Where nobody is told an error, as long as the fault lasts somebody may wait."""
        met_at = None
        while not self.over.wait(0.05):
            if met_at is None and self.control.met():
                met_at = time.monotonic()
            if met_at is not None and time.monotonic() > met_at + LASTS_SECONDS * SLOW:
                self.heal()
                return

    # ---- parts ----

    def start_patiently(self):
        """A disk that fails may keep the daemon from starting: it says so, and is started again."""
        self.start()
        if not self.daemon.died():
            return
        if not self.control.met() or self.daemon.process.returncode < 0 or not self.daemon.log().strip():
            raise Failure("the daemon does not start (%s): %s"
                          % (self.daemon.process.returncode, self.daemon.log()[-600:]))
        self.told.append("mount: " + self.daemon.log().strip().splitlines()[-1])
        self.heal()
        self.daemon.kill()
        self.start()
        if self.daemon.died():
            raise Failure("healed, the daemon still does not start: %s" % self.daemon.log()[-600:])

    def is_read_again(self, path):
        try:
            fd = os.open(os.path.join(self.daemon.mount, TOP, path), os.O_RDONLY)
        except FileNotFoundError:
            return True
        try:
            os.fsync(fd)
            return True
        except OSError:
            return self.daemon.died() or self.daemon.state_of(os.path.join(TOP, path)) in IN_DOUBT
        finally:
            os.close(fd)

    def is_done_after(self, error):
        """What a program finds that was told of an error, when the disk is well again."""
        pending = self.ledger.pending
        if self.daemon.died():
            raise Failure("the daemon ended by itself in \"%s\" (%s): %s" % (
                pending.name, self.daemon.process.returncode, self.daemon.log()[-600:])) from error
        if not self.control.met():
            raise Failure("%s: %s, and nothing had failed" % (pending.name, error)) from error
        self.told.append("%s: %s" % (pending.name, error.strerror or error))
        self.heal()
        self.tries += 1
        if self.tries > TRIES:
            raise Failure("the disk is well again, but %s" % self.told[-1]) from error
        if self.tries > 1:  # a sync that failed is no success later: not before the bytes were read again
            for path in pending.writes:
                wait_for(60, "%s to be read again and found well" % path, lambda: self.is_read_again(path))
        check.judge_tree(self.ledger, self.daemon)
        files = self.ledger.files
        return self.ledger.folders == pending.folders and files.keys() == pending.files.keys() and all(
            files[path].sha == want.sha and files[path].whole == want.whole
            and not (want.durable and path in pending.writes)
            for path, want in pending.files.items())

    def work(self):
        Workload(self.daemon, self.ledger, self.seed, self.point.closes, self.is_done_after).run()

    def must_be_told(self):
        """An error is told to a program or to the log; what a second try healed has nothing to tell."""
        if self.point.when == "short" and not self.lasting:
            return
        what = self.control.what()
        if what.startswith("pwrite data"):
            return  # of a long write the kernel tells the program how much was written, not why no more
        if what.startswith("open data/") and not self.lasting:
            return  # a data file is opened by another call when the first one fails
        if not self.told and not self.daemon.warnings():
            raise Failure("nobody was told of it: " + self.control.what())

    def judge_tree_here(self):
        """Who reads here is a program, too: it may be told an error where the disk still fails."""
        refused = []
        check.judge_tree(self.ledger, self.daemon, refused=refused)
        if not refused:
            return
        if not self.control.met():
            raise Failure("nothing had failed, but %s" % refused[0])
        self.told += refused
        self.heal()
        check.judge_tree(self.ledger, self.daemon)

    def judge_here(self):
        self.judge_tree_here()
        lives = self.daemon.wait_idle()
        if lives and self.daemon.status()["files"]["failed"]:  # the log and the status say: see the disk,
            self.daemon.command("retry")                       # then retry
            lives = self.daemon.wait_idle()
        if not lives:
            raise Failure("the daemon ended: %s" % self.daemon.log()[-600:])
        check.judge_bucket(self.ledger, self.server, self.daemon)

    # ---- all ----

    def go(self):
        self.server.start()
        watch = threading.Thread(target=self.heal_in_time, daemon=True)
        if not self.recovery:
            self.arm()
        if self.lasting:
            watch.start()
        try:
            self.start_patiently()
            self.work()
            if self.recovery:
                self.daemon.kill()
                self.arm()
                self.start_patiently()
            self.judge_here()
            code = self.daemon.stop()
            if code < 0 or (code and not self.control.met()):
                raise Failure("the daemon ended with %s: %s" % (code, self.daemon.log()[-600:]))
        finally:
            self.over.set()
        if self.control.met():
            self.notes += [self.control.what()] + self.told
            self.must_be_told()
        self.heal()
        self.judge()
        return self.control.met() > 0
