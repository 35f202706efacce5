/*
 * The states of one file version: the only list of them. FILE_STATE(id, name, exit, what, remedy)
 *
 *   name    as shown in status, status.json and user.cpgfs.state
 *   exit    what `cpgfs wait`/`status` conclude from a file in this state: 0 done, 2 pending,
 *           3 needs a person (held is judged by its kind: see enum held_kind)
 *   what    for people
 *   remedy  what to do about it ("" if nothing)
 *
 * The transitions stand in src/store/store_states.c, and are checked there.
 */
FILE_STATE(OPEN, "open", 2, "being written", "")
FILE_STATE(CLOSED, "closed", 2, "closed, waiting until nobody changes it any more", "")
FILE_STATE(SETTLED, "settled", 2, "quiet; its checksums are being computed", "")
FILE_STATE(QUEUED, "queued", 2, "waiting for a transfer", "")
FILE_STATE(SENDING, "sending", 2, "being sent", "")
FILE_STATE(UPLOADED, "uploaded", 2, "the server proved that it holds these bytes", "")
FILE_STATE(VERIFIED, "verified", 0, "a later listing showed it with our size and content tag", "")
FILE_STATE(HELD, "held", 3, "kept here because of its name",
	"rename it in the mount (`cpgfs rename-clean` renames folders)")
FILE_STATE(INCOMPLETE, "incomplete", 3, "its writer was cut off",
	"copy it again, or `cpgfs accept` it as it is")
FILE_STATE(TORN, "torn", 3, "a power cut or the cache disk may have damaged it",
	"copy it again, or `cpgfs accept` it as it is")
FILE_STATE(LOST, "lost", 3, "its bytes vanished from the cache directory", "copy it again")
FILE_STATE(UNKNOWN, "unknown", 2, "sent, but the answer was lost: the bucket is being asked", "")
FILE_STATE(CONFLICT, "conflict", 3, "the bucket holds something else under this key",
	"`cpgfs accept` replaces the object, `cpgfs discard` drops the local file")
FILE_STATE(FAILED, "failed", 3, "it cannot be sent", "see the reason, then `cpgfs retry`")
FILE_STATE(GONE, "gone", 0, "verified once, no longer in the bucket", "")
FILE_STATE(MOVING, "moving", 2, "renamed here; the bucket has to follow", "")
FILE_STATE(DELETING, "deleting", 0, "deleted here; the object will follow",
	"`cpgfs undelete` takes it back")
