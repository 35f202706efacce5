"""What a disk holds after a power cut: a folder rebuilt from the record of its changes.

The record (crash_shim.h) has every change in its order, and every sync. What was synced is there. Of the
rest a real disk keeps what it likes, and so do the variants:

  none     nothing of it
  pages    for each page of 4 KiB, what some moment since the last sync had written there
  sectors  the same for sectors of 512 bytes: torn pages
  all      everything (as after a kill)

A file's size and allocation are those of one moment; names (files made, renamed, removed) are kept up
to some moment for each folder, and are safe after fsync of the folder or syncfs only.
"""
import os
import struct

SECTOR, PAGE = 512, 4096
HEAD = struct.Struct("<BBHIQQQ")
MAGIC = 0x45525043
CREATE, WRITE, TRUNCATE, ALLOCATE, MKDIR, UNLINK, RENAME, SYNC, SYNC_DIR, SYNC_ALL = range(1, 11)
DSYNC = 1
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
VARIANTS = ("none", "pages", "sectors", "all")


def entries(path):
    """(op, flags, path, file, off, len, data) of each entry; the last may have been cut off."""
    with open(path, "rb") as record:
        while True:
            head = record.read(HEAD.size)
            if len(head) < HEAD.size:
                return
            op, flags, path_len, magic, file, off, length = HEAD.unpack(head)
            if magic != MAGIC:
                raise ValueError("the record is damaged at %d" % record.tell())
            name = record.read(path_len).decode()
            yield op, flags, name, file, off, length, record.read(length) if op == WRITE else b""


class Change:
    """One change of a file's bytes (data, or zeros) or of its size (to that, or at least that)."""

    def __init__(self, off=0, length=0, data=None, size=None, least=None, safe=False):
        self.off, self.length, self.data = off, length, data
        self.size, self.least, self.safe = size, least, safe

    def covers(self, sector):
        return self.off < (sector + 1) * SECTOR and sector * SECTOR < self.off + self.length


class File:
    def __init__(self):
        self.sectors, self.size = {}, 0  # what is on the disk for sure
        self.pending = []

    def put(self, sectors, change, wanted):
        """Make a change in the sectors that are wanted."""
        if change.data is None:  # zeros need a record only where there was something
            numbers = [n for n in sectors if change.covers(n)]
        else:
            numbers = range(change.off // SECTOR, (change.off + change.length + SECTOR - 1) // SECTOR)
        for number in numbers:
            if wanted(number):
                self.put_sector(sectors, change, number)

    @staticmethod
    def put_sector(sectors, change, number):
        start = number * SECTOR
        a, b = max(start, change.off), min(start + SECTOR, change.off + change.length)
        new = bytes(b - a) if change.data is None else change.data[a - change.off:b - change.off]
        if b - a < SECTOR:
            old = sectors.get(number, bytes(SECTOR))
            new = old[:a - start] + new + old[b - start:]
        sectors[number] = new

    def sync(self):
        self.sectors, self.size = self.all()
        self.pending = []

    def after(self, sizes, moment_of):
        """(sectors, size) with sizes as after so many pending changes; each sector's bytes as after
        moment_of(its number) of them."""
        sectors, size = dict(self.sectors), self.size
        for index, change in enumerate(self.pending):
            counts = index < sizes or change.safe
            if change.size is not None:
                if not counts:
                    break  # what came later went to other places of the disk
                if change.size < size:
                    self.put(sectors, Change(change.size, 1 << 62), lambda number: True)
                size = change.size
                continue
            self.put(sectors, change, lambda number, at=index: at < moment_of(number))
            if counts and change.least is not None:
                size = max(size, change.least)
        return sectors, size

    def all(self):
        return self.after(len(self.pending), lambda number: len(self.pending))

    def none(self):
        """Of what is pending, only what was safe when it returned."""
        return self.after(0, self.safe_moment) if self.has_safe() else (self.sectors, self.size)

    def has_safe(self):
        return any(change.safe for change in self.pending)

    def safe_moment(self, number):
        moments = [index + 1 for index, change in enumerate(self.pending)
                   if change.safe and change.covers(number)]
        return max(moments, default=0)

    def some(self, unit, source):
        """One of the states that a cut may leave."""
        chosen, count, has_safe = {}, len(self.pending), self.has_safe()

        def moment_of(number):
            place = number * SECTOR // unit
            if place not in chosen:
                chosen[place] = source.randint(0, count)
            return max(chosen[place], self.safe_moment(number) if has_safe else 0)
        return self.after(source.randint(0, count), moment_of)


def allocation(mode, off, length):
    """fallocate(2)"""
    changes = []
    if mode & (PUNCH_HOLE | ZERO_RANGE):
        changes.append(Change(off, length))
    if not mode & KEEP_SIZE:
        changes.append(Change(least=off + length))
    return changes


class Disk:
    """The state of the disk while the record is played."""

    def __init__(self):
        self.files = {}        # inode number -> File; the youngest with that number
        self.names = {}        # path -> File, or None for a folder: for sure
        self.now = {}          # the same as programs see it
        self.name_changes = []  # (folder, path, File/None, or "gone")

    def name(self, path, node):
        self.name_changes.append((os.path.dirname(path), path, node))
        self.name_now(self.now, path, node)

    @staticmethod
    def name_now(names, path, node):
        if node == "gone":
            names.pop(path, None)
        else:
            names[path] = node

    def play(self, entry):
        op, flags, path, number, off, length, data = entry
        if op == CREATE:
            self.files[number] = File()
            self.name(path, self.files[number])
        elif op == WRITE:
            self.files[number].pending.append(
                Change(off, length, data=data, least=off + length, safe=bool(flags & DSYNC)))
        elif op == TRUNCATE:
            self.files[number].pending.append(Change(size=length))
        elif op == ALLOCATE:
            self.files[number].pending.extend(allocation(flags, off, length))
        elif op == MKDIR:
            self.name(path, None)
        elif op == UNLINK:
            self.name(path, "gone")
        elif op == RENAME:
            old, new = path.split("\0")
            node = self.now[old]
            self.name(old, "gone")
            self.name(new, node)
        elif op == SYNC:
            self.files[number].sync()
        elif op == SYNC_DIR:
            self.sync_names(lambda folder: folder == path)
        elif op == SYNC_ALL:
            for file in self.files.values():
                file.sync()
            self.sync_names(lambda folder: True)

    def sync_names(self, chosen):
        for folder, path, node in self.name_changes:
            if chosen(folder):
                self.name_now(self.names, path, node)
        self.name_changes = [c for c in self.name_changes if not chosen(c[0])]

    def names_after_cut(self, variant, source):
        names = dict(self.names)
        if variant == "none":
            return names
        folders = {folder for folder, _, _ in self.name_changes}
        left = {f: sum(c[0] == f for c in self.name_changes) for f in folders}
        if variant != "all":
            left = {f: source.randint(0, n) for f, n in sorted(left.items())}
        for folder, path, node in self.name_changes:
            if left[folder] > 0:
                left[folder] -= 1
                self.name_now(names, path, node)
        return names

    @staticmethod
    def file_after_cut(file, variant, source):
        if variant in ("all", "none"):
            return file.all() if variant == "all" else file.none()
        return file.some(PAGE if variant == "pages" else SECTOR, source)

    def write_to(self, top, variant, source):
        """Make the folder as this cut leaves it."""
        names = self.names_after_cut(variant, source)
        for path, node in sorted(names.items()):
            place = os.path.join(top, path)
            if not os.path.isdir(os.path.dirname(place)):
                continue  # its folder is lost
            if node is None:
                os.makedirs(place, mode=0o700, exist_ok=True)
                continue
            sectors, size = self.file_after_cut(node, variant, source)
            with open(place, "wb") as out:
                for number in sorted(sectors):
                    if number * SECTOR < size:
                        out.seek(number * SECTOR)
                        out.write(sectors[number][:size - number * SECTOR])
                out.truncate(size)
            os.chmod(place, 0o600)


def replay(record):
    disk = Disk()
    for entry in entries(record):
        disk.play(entry)
    return disk


def compare(disk, top):
    """Where a folder differs from all that was recorded: changes that the shim did not see."""
    wrong = []
    for path, node in sorted(disk.now.items()):
        place = os.path.join(top, path)
        if node is None:
            if not os.path.isdir(place):
                wrong.append("%s: no folder" % path)
            continue
        sectors, size = node.all()
        have = os.path.getsize(place) if os.path.isfile(place) else -1
        if have != size:
            wrong.append("%s: %d bytes, %d recorded" % (path, have, size))
        elif data_of(place) != {n: s for n, s in sectors.items() if any(s)}:
            wrong.append("%s: other bytes than recorded" % path)
    for folder, folders, names in os.walk(top):
        for name in folders + names:
            path = os.path.relpath(os.path.join(folder, name), top)
            if path not in disk.now:
                wrong.append("%s: not recorded" % path)
    return wrong


def data_of(path):
    """{sector: bytes} of all that are not zeros."""
    found, at = {}, 0
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // SECTOR * SECTOR
            except OSError:
                return found  # a hole until the end
            block = os.pread(file.fileno(), 1 << 20, at)
            for start in range(0, len(block), SECTOR):
                sector = block[start:start + SECTOR]
                if any(sector):
                    found[(at + start) // SECTOR] = sector.ljust(SECTOR, b"\0")
            at += len(block)
    return found
