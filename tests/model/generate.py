"""What one thread does next: random, but sensible for what it has made so far."""
import os
import random

from ops import data_of  # noqa: F401 (what an operation's seed means)

NAMES = ["a.tiff.csv", "b.csv", "c.sqlite", "d.npy", "e.xml", "f.bin", "g.txt"]
SLOTS = 4
SIZES = [0, 1, 511, 4096, 5000, 40_000, 70_000, 131_072, 300_000]
LARGE = (5 << 20) + 12_345  # more than one part
OPENS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY | os.O_CREAT,
         os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
         os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT | os.O_APPEND]

WEIGHTS = {
    "put": 14, "open": 10, "close": 9, "write": 12, "append": 5, "read": 6, "ftruncate": 3, "fsync": 2,
    "fdatasync": 1, "fstat": 4, "fallocate": 1, "map_write": 2, "map_read": 2, "get": 5, "truncate": 4,
    "rename": 8, "rename_folder": 2, "unlink": 5, "mkdir": 5, "rmdir": 2, "list": 5, "stat": 6, "chmod": 2,
    "utime": 2, "set_attribute": 2, "get_attribute": 1, "remove_attribute": 1, "attributes": 1,
    "settle": 1,
}

class Generator:
    def __init__(self, seed, plain, may_map=True):
        self.random = random.Random(seed)
        self.plain = plain  # looked at for what is there
        self.weights = {kind: weight for kind, weight in WEIGHTS.items() if may_map or not kind.startswith("map_")}

    def seed(self):
        return self.random.randrange(1 << 30)

    def entries(self):
        files, folders = [], [""]
        for folder, below, names in os.walk(self.plain):
            below.sort()
            inside = os.path.relpath(folder, self.plain)
            inside = "" if inside == "." else inside + "/"
            folders += sorted(inside + name for name in below)
            files += sorted(inside + name for name in names)
        return files, folders

    def some(self, names):
        """Mostly one that is there."""
        if names and self.random.random() < 0.95:
            return self.random.choice(names)
        return "none/%d" % self.random.randrange(9)

    def fresh(self, folders):
        return os.path.join(self.random.choice(folders),
                            "%d-%s" % (self.random.randrange(12), self.random.choice(NAMES)))

    def fresh_folder(self, folders):
        shallow = [f for f in folders if f.count("/") < 3]
        return os.path.join(self.random.choice(shallow), "folder%d" % self.random.randrange(9))

    def size(self):
        if self.random.random() < 0.01:
            return LARGE
        return self.random.choice(SIZES) + self.random.randrange(3)

    def next(self):
        kind = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        files, folders = self.entries()
        return getattr(self, "make_" + kind, self.make_of_slot)(kind, files, folders)

    # of handles

    def slot(self):
        return self.random.randrange(SLOTS)

    def make_open(self, kind, files, folders):
        flags = self.random.choice(OPENS)
        path = self.some(files) if self.random.random() < 0.6 else self.fresh(folders)
        return [kind, self.slot(), path, flags, 0o600 | self.random.choice([0, 0o40, 0o44])]

    def make_of_slot(self, kind, files, folders):
        at, size = self.random.randrange(350_000), self.random.choice(SIZES[:7]) + 1
        return [kind, self.slot()] + {
            "write": [at, size, self.seed()], "append": [size, self.seed()], "read": [at, size],
            "ftruncate": [self.size()], "fallocate": [at, size], "map_write": [at // 4, size, self.seed()],
        }.get(kind, [])

    # by path

    def make_put(self, kind, files, folders):
        path = self.some(files) if self.random.random() < 0.4 else self.fresh(folders)
        return [kind, path, self.size(), self.seed()]

    def make_get(self, kind, files, folders):
        return [kind, self.some(files)]

    def make_truncate(self, kind, files, folders):
        return [kind, self.some(files), self.size()]

    def make_rename(self, kind, files, folders):
        to = self.some(files) if self.random.random() < 0.3 else self.fresh(folders)
        return [kind, self.some(files), to]

    def make_rename_folder(self, kind, files, folders):
        return ["rename", self.some(folders[1:]), self.fresh_folder(folders)]

    def make_unlink(self, kind, files, folders):
        return [kind, self.some(files + folders[1:2])]

    def make_mkdir(self, kind, files, folders):
        return [kind, self.fresh_folder(folders)]

    def make_rmdir(self, kind, files, folders):
        return [kind, self.some(folders[1:] + files[:1])]

    def make_list(self, kind, files, folders):
        return [kind, self.some(folders)]

    def make_stat(self, kind, files, folders):
        return [kind, self.some(files + folders)]

    def make_chmod(self, kind, files, folders):
        return [kind, self.some(files), 0o600 | self.random.randrange(0o100)]

    def make_utime(self, kind, files, folders):
        return [kind, self.some(files), self.random.randrange(10 ** 17, 10 ** 18),
                self.random.randrange(10 ** 17, 10 ** 18)]

    def make_set_attribute(self, kind, files, folders):
        return [kind, self.some(files), "x%d" % self.random.randrange(3), self.random.choice([0, 1, 900]),
                self.seed(), self.random.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])]

    def make_get_attribute(self, kind, files, folders):
        return [kind, self.some(files), "x%d" % self.random.randrange(3)]

    make_remove_attribute = make_get_attribute

    def make_attributes(self, kind, files, folders):
        return [kind, self.some(files)]

    make_settle = make_attributes
