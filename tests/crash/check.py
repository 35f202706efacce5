"""What a mount shows and what a bucket holds, held against the ledger."""
import errno
import hashlib
import os
import urllib.parse

import ledger as ledgers
from rig import BUCKET, PREFIX, Failure, wait_for
from workload import TOP


def read_tree(daemon, refused=None):
    """({path: (bytes, state)}, {folders}) below the workload's folder."""
    top = os.path.join(daemon.mount, TOP)
    found, folders = {}, set()

    def refuse(error):
        raise Failure("listing %s: %s" % (error.filename, error.strerror))
    if not os.path.isdir(top):
        return found, folders
    for folder, _, names in os.walk(top, onerror=refuse):
        inside = os.path.relpath(folder, top)
        folders.add("" if inside == "." else inside)
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), top)
            found[path] = read_file(daemon, os.path.join(top, path), refused)
    return found, folders


def read_file(daemon, path, refused):
    state, pieces = daemon.state_of(path), []
    try:
        with open(path, "rb", buffering=0) as file:
            while True:
                pieces.append(file.read(1 << 20))
                if not pieces[-1]:
                    return b"".join(pieces), state
    except OSError as error:
        if error.errno == errno.EIO and state in ledgers.IN_DOUBT:
            return None, state  # shown, kept, and never zeros in place of what is missing
        why = "reading %s (state %s): %s" % (path, state, error.strerror)
        if error.errno != errno.EIO or refused is None:
            raise Failure(why) from None
        refused.append(why)
        return ledgers.Part(b"".join(pieces)), state


def judge_tree(ledger, daemon, power_cut=False, refused=None):
    """Is what the mount shows a moment that it may show? Goes on from that one. An empty folder whose
    objects are just being removed is shown as long as its listing is not there: nothing is hidden on
    doubt. refused: a list; the disk may fail while files are read, errors of that are put there, and
    what came before them is judged."""
    why = []

    def is_right():
        why[:] = wrong_in(ledger, daemon, power_cut, refused)
        return not why or any(not line.endswith("too much") for line in why[1:])
    try:
        wait_for(10, "empty folders to be hidden", is_right)
    except Failure as failure:
        raise Failure("%s: %s" % (failure, why)) from None
    if why:
        raise Failure("the tree is at no moment of the ledger; compared with that after \"%s\":\n  %s"
                      % (why[0], "\n  ".join(why[1:9])))


def wrong_in(ledger, daemon, power_cut, refused):
    """[]; or the name of the nearest moment, and the differences."""
    found, folders = read_tree(daemon, refused)
    chain = ledger.chain()
    best = None
    for number in range(len(chain) - 1, first_moment(ledger, power_cut) - 1, -1):
        following = chain[number + 1] if number + 1 < len(chain) else None
        moment = chain[number]
        own, own_folders = found, folders
        if power_cut:
            own, own_folders = without_foreign(ledger, moment, found, folders)
        wrong = ledgers.differences(moment, following, own, own_folders,
                                    lambda path: (power_cut and not moment.files[path].durable)
                                    or (ledger.cut_off_may_lack and not moment.files[path].whole))
        if not wrong:
            if not refused:
                ledger.settle_on(moment, own)
            return []
        if best is None or len(wrong) < len(best) - 1:
            best = [moment.name] + wrong
    return best


def first_moment(ledger, power_cut):
    """The oldest one that may be seen: the last; after a power cut, the last whose records were synced."""
    first = len(ledger.moments) - 1
    while power_cut and first > 0 and not ledger.moments[first].synced:
        first -= 1
    return first


def without_foreign(ledger, moment, found, folders):
    """Objects whose records a power cut took are shown as what they are: in the bucket."""
    foreign = {path for path, (data, state) in found.items()
               if state in ("", "foreign")
               and ledgers.digest(data) in ledger.versions.get(path, ())}

    def only_foreign(folder):
        inside = [path for path in found if not folder or path.startswith(folder + "/")]
        return bool(inside) and all(path in foreign for path in inside)
    return ({path: what for path, what in found.items() if path not in foreign},
            {folder for folder in folders if folder in moment.folders or not only_foreign(folder)})


# ---- the bucket: s3d's plain files, no client in between ----

def bucket_files(server):
    top = os.path.join(server.root, BUCKET, TOP)
    files = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, top)] = file.read()
    return files


def check_versions(ledger, server):
    """I3 and I4: every object that ever stood under any key was a whole version of that file."""
    kept = os.path.join(server.root, ".s3d", BUCKET, "versions")
    if not os.path.isdir(kept):
        return
    with open(os.path.join(kept, "versions.tsv")) as rows:
        for row in rows:
            name, key = row.rstrip("\n").split("\t")
            key = urllib.parse.unquote(key)
            if not key.startswith(TOP + "/"):
                raise Failure("an object outside of what was written: %s" % key)
            with open(os.path.join(kept, name), "rb") as file:
                sha = hashlib.sha256(file.read()).hexdigest()
            if sha not in ledger.versions.get(key[len(TOP) + 1:], ()):
                raise Failure("%s held an object (%s…) that was never a whole version" % (key, sha[:8]))


def check_requests(server):
    """I4: no request names a key or a prefix elsewhere."""
    for row in server.log():
        asked = [row[4]] if row[4] != "-" else urllib.parse.parse_qs(row[5]).get("prefix", [""])
        if not urllib.parse.unquote(asked[0]).startswith(PREFIX):
            raise Failure("a request outside of the mount: %s %s %s" % (row[2], row[4], row[5]))


def open_uploads(server):
    """(the keys of those that got a part, of those that got none)"""
    folder = os.path.join(server.root, ".s3d", BUCKET, "uploads")
    used = {urllib.parse.parse_qs(row[5]).get("uploadId", [""])[0]
            for row in server.log() if row[2] == "UploadPart"}
    keys = [], []
    for upload in os.listdir(folder) if os.path.isdir(folder) else []:
        try:
            with open(os.path.join(folder, upload, "upload.tsv")) as file:
                keys[upload not in used].append(urllib.parse.unquote(file.readline().split("\t")[0]))
        except FileNotFoundError:
            pass  # it was just ended
    return keys


def judge_uploads(server, daemon, power_cut):
    """How many are left whose id never got here. That is told, each time, but where the power cut took
    the record that one was begun."""
    try:  # one whose file is not to be sent any more (lost) is looked at within a minute
        wait_for(90, "all uploads in parts", lambda: not open_uploads(server)[0])
    except Failure:
        raise Failure("a multipart upload with parts was left open: %s" % open_uploads(server)[0]) from None
    unknown = open_uploads(server)[1]
    with open(daemon.log_path, errors="replace") as log:
        lines = log.read().splitlines()
    for key in set(unknown):
        told = sum("%s: an upload may have been left open on the server" % key in line for line in lines)
        if told < unknown.count(key) and not power_cut:
            raise Failure("%d multipart uploads of %s were left open, and the log names %d"
                          % (unknown.count(key), key, told))
    return len(unknown)


def is_held(path):
    """The name of a file that is still being copied, as rsync makes them."""
    return os.path.basename(path).startswith(".")


def judge_bucket(ledger, server, daemon, power_cut=False):
    """When nothing is on its way: I2, I3, and that every whole file has arrived. Returns how many
    multipart uploads were left that nobody can know of (begun, but their id never got here)."""
    check_versions(ledger, server)
    check_requests(server)
    objects = bucket_files(server)
    for path, version in ledger.files.items():
        state = daemon.state_of(os.path.join(TOP, path))
        want = "held" if is_held(path) else "verified"
        have = objects.get(path)
        if version.whole and state != want:
            raise Failure("%s is %s, should be %s" % (path, state or "only in the bucket", want))
        if state == "verified" and (not version.whole or have != version.data):
            raise Failure("%s is verified, should be %r, but the bucket holds %s"
                          % (path, version, "nothing" if have is None else repr(ledgers.Version(have))))
        if state == "held" and have is not None:
            raise Failure("%s is held, but in the bucket" % path)
    # a file in doubt keeps its last good version in the bucket, also under the name it had
    kept = set().union(*(ledger.versions_of_file(path) for path, version in ledger.files.items()
                         if not version.whole))
    for path in sorted(set(objects) - set(ledger.files)):
        known = ledger.versions.get(path, ()) if power_cut else ()
        if ledgers.digest(objects[path]) not in kept | set(known):
            raise Failure("an object is left of %s, which is gone" % path)
    return judge_uploads(server, daemon, power_cut)
