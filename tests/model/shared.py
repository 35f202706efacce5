"""The folder that all threads share: each has files of its own, and folders move under them."""
import errno
import os
import random

from ops import DEAD, data_of, digest

FOLDERS = 5
MOVED_AWAY = (errno.ENOENT, errno.ENOTDIR)


class Mine:
    """The files of one thread: name -> digest. Where they are is looked for: folders move."""

    def __init__(self, top, seed, number):
        self.top, self.number = top, number
        self.random = random.Random("%d.shared.%d" % (seed, number))
        self.files = {}
        self.touching = None  # may be as before, or as meant, or between: the daemon was killed

    def find(self, name):
        return [folder for folder in sorted(os.listdir(self.top))
                if os.path.exists(os.path.join(self.top, folder, name))]

    def folder(self):
        return os.path.join(self.top, self.random.choice(sorted(os.listdir(self.top))))

    def write(self, full, name):
        data = data_of(self.random.choice([0, 300, 5000, 60_000]), self.random.randrange(1 << 30))
        with open(full, "wb", buffering=0) as out:
            out.write(data)
        self.files[name] = digest(data)

    def step(self):
        """One thing; a folder may be moved away meanwhile, then nothing was done."""
        self.touching = name = "%02d-%d.bin" % (self.number, self.random.randrange(12))
        what = self.random.choice(["make", "make", "rewrite", "move", "move", "unlink", "read", "move-folder"])
        if what == "move-folder":
            self.move_folder()
        elif name not in self.files:
            self.write(os.path.join(self.folder(), name), name)
        else:
            self.work(what, name)
        self.touching = None

    def work(self, what, name):
        where = self.find(name)
        if len(where) != 1:  # it moved while it was looked for; the end counts
            return
        full = os.path.join(self.top, where[0], name)
        if what == "read":
            with open(full, "rb") as file:
                got = digest(file.read())
            if got != self.files[name]:
                raise AssertionError("%s holds %s, not %s" % (full, got, self.files[name]))
        elif what == "move":
            os.rename(full, os.path.join(self.folder(), name))
        elif what == "unlink":
            os.unlink(full)
            del self.files[name]
        else:
            self.write(full, name)

    def move_folder(self):
        """To a name that no other has: nothing is replaced, and there are always as many."""
        folder = self.folder()
        os.rename(folder, os.path.join(self.top, "%d-%s" % (self.random.randrange(1 << 20), self.number)))


class Shared:
    def __init__(self, top, seed, threads):
        self.top = top
        self.mine = [Mine(top, seed, number) for number in range(threads)]
        self.done, self.wrong = 0, None
        os.makedirs(top, exist_ok=True)
        for number in range(FOLDERS):
            os.makedirs(os.path.join(top, "folder%d" % number), exist_ok=True)

    def go(self, number, count, stop):
        for _ in range(count):
            if stop.is_set():
                return
            try:
                self.mine[number].step()
                self.done += 1
            except OSError as error:
                if error.errno in DEAD:
                    return
                if error.errno not in MOVED_AWAY:
                    raise

    def check(self, tolerant=False):
        """Every file is there once, with its content, and nothing else is."""
        found = {}
        for folder in os.listdir(self.top):
            for name in os.listdir(os.path.join(self.top, folder)):
                with open(os.path.join(self.top, folder, name), "rb") as file:
                    found.setdefault(name, []).append(digest(file.read()))
        wrong = []
        for mine in self.mine:
            names = {name for name in found if name.startswith("%02d-" % mine.number)} | set(mine.files)
            for name in sorted(names):
                have, want = found.get(name, []), mine.files.get(name)
                if have == ([want] if want else []):
                    continue
                if tolerant and name == mine.touching and len(have) <= 1:
                    mine.files.pop(name, None)
                    mine.files.update({name: sha for sha in have})
                else:
                    wrong.append("shared/%s is %s, should be %s" % (name, have, want))
        if wrong:
            self.wrong = "; ".join(wrong[:5])

    def check_after_crash(self):
        self.check(tolerant=True)
