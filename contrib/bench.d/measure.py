"""measure - wall time, CPU seconds and memory of commands and of daemons."""
import os
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.02


def cpu_seconds(pid):
    """User and system time of a process with all its threads, children it waited for not counted."""
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid):
    """Memory of its own (RssAnon): not what it maps of files."""
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Watched:
    """Daemons while something is done: CPU seconds spent, most memory held."""

    def __init__(self, *pids):
        self.pids, self.peak_mb, self.cpu_s = pids, 0.0, 0.0

    def __enter__(self):
        self.began_s = sum(cpu_seconds(pid) for pid in self.pids)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        self.started = time.monotonic()
        return self

    def sample(self):
        while True:
            try:
                self.peak_mb = max(self.peak_mb, sum(memory_mb(pid) for pid in self.pids))
            except OSError:
                return
            if self.stopping.wait(SAMPLE_S):
                return

    def __exit__(self, *_error):
        self.wall_s = time.monotonic() - self.started
        try:
            self.cpu_s = sum(cpu_seconds(pid) for pid in self.pids) - self.began_s
        except OSError:
            self.cpu_s = float("nan")
        self.stopping.set()
        self.thread.join()


class Finished:
    """A command that has ended: its wall time and CPU seconds, with those of its children."""

    def __init__(self, wall_s, cpu_s, peak_mb, output):
        self.wall_s, self.cpu_s, self.peak_mb, self.output = wall_s, cpu_s, peak_mb, output
