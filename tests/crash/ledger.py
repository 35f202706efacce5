"""The independent ledger: what every path must hold, kept by the one who writes, outside cpgfs.

An operation is begun, and ended when its last system call returned. Between two operations the tree is
known exactly. While one is under way it may be seen before or after, and the files that it writes (not:
renames or truncates) may be in between, if they are shown as such and never reach the bucket.
"""
import hashlib

from rig import IN_DOUBT


def digest(data):
    """data None: it could not be read."""
    return hashlib.sha256(data).hexdigest() if data is not None else "unreadable"


class Part(bytes):
    """What could be read of a file before an error."""


class Version:
    """What a file holds: whole (a writer closed it) or cut off (its writer was killed)."""

    def __init__(self, data, whole=True, durable=False):
        self.data, self.whole, self.durable = data, whole, durable
        self.sha = digest(self.data)

    def __repr__(self):
        if self.data is None:
            return self.sha
        return "%s… (%d bytes%s)" % (self.sha[:8], len(self.data), "" if self.whole else ", cut off")


class Moment:
    """The tree after an operation."""

    def __init__(self, name, files, folders, writes, synced):
        self.name, self.files, self.folders = name, files, folders
        self.writes = writes    # paths that the operation leading here changes not at once
        self.synced = synced    # everything recorded before is durable now


class Ledger:
    def __init__(self):
        self.files, self.folders = {}, set()
        self.moments = [Moment("start", {}, set(), set(), True)]
        self.pending = None
        self.cut_off_may_lack = False  # may bytes be missing of what no close spoke of?
        self.versions = {}      # path -> digests of all whole versions that ever stood there
        self.former = {}        # path -> the paths that its file had before

    def begin(self, name, files, folders, writes=(), synced=False):
        """An operation that will lead to this tree."""
        self.pending = Moment(name, files, folders, set(writes), synced)
        self.note(files)
        for path in set(files) - set(self.files):
            for old, version in self.files.items():
                if version is files[path] and old not in files:
                    self.former[path] = {old} | self.former.get(old, set())

    def versions_of_file(self, path):
        return set().union(*(self.versions.get(name, ()) for name in {path} | self.former.get(path, set())))

    def note(self, files):
        for path, version in files.items():
            if version.whole:
                self.versions.setdefault(path, set()).add(version.sha)

    def end(self):
        self.moments.append(self.pending)
        self.files, self.folders = dict(self.pending.files), set(self.pending.folders)
        self.pending = None

    def chain(self):
        """All moments, the one under way, too."""
        return self.moments + ([self.pending] if self.pending else [])

    def settle_on(self, moment, found):
        """From now on this is the truth (after a crash): moment, with what was found where it writes."""
        files = dict(moment.files)
        for path, (data, state) in found.items():
            if path not in files or files[path].sha != digest(data) or state in IN_DOUBT:
                files[path] = Version(data, whole=state not in IN_DOUBT)
        for path in list(files):
            if path not in found:
                del files[path]
        self.files, self.folders = files, set(moment.folders)
        self.moments, self.pending = [Moment("recovered", files, self.folders, set(), True)], None


def differences(moment, following, found, folders, doubtful):
    """Why what was found (path -> (data, state)) is not this moment. following: the next operation,
    which may be under way. doubtful(path): may this file be torn?"""
    loose = following.writes if following else set()
    wrong = []
    for path in sorted(set(moment.files) | set(found)):
        want, have = moment.files.get(path), found.get(path)
        if path in loose and is_between(want, have):
            continue
        if want is None:
            wrong.append("%s: should not be there (%s)" % (path, have[1]))
        elif have is None:
            wrong.append("%s: is missing, should hold %r" % (path, want))
        elif have[1] in ("torn", "lost") and doubtful(path):
            continue
        elif not want.whole and have[1] in IN_DOUBT and doubtful(path):
            continue
        elif isinstance(have[0], Part) and want.data is not None and want.data.startswith(have[0]):
            continue
        elif digest(have[0]) != want.sha:
            wrong.append("%s: holds %r in state %s, should hold %r"
                         % (path, Version(have[0]), have[1], want))
        elif (have[1] in IN_DOUBT) == want.whole:
            wrong.append("%s: is %s, but %s" % (path, have[1], "whole" if want.whole else "cut off"))
    loose_folders = set() if following is None else set(following.folders) ^ set(moment.folders)
    for folder in sorted(set(moment.folders) ^ set(folders)):
        if folder not in loose_folders or len(loose_folders) > 1:
            wrong.append("folder %s: %s" % (folder, "missing" if folder in moment.folders else "too much"))
    return wrong


def is_between(want, have):
    """A file that is being written: not there yet, as it was, or visibly unfinished."""
    if have is None:
        return want is None
    if have[1] in IN_DOUBT:
        return True
    return want is not None and digest(have[0]) == want.sha
