"""Files changed by hand, restarts, many keys, the sink."""

import base64
import os

from s3d_client import (
    BUCKET, Client, DEADLINE_S, check, checksum, crc64, equal, md5, one, refused, wait_for)

@one()
def files_changed_by_hand(server, client):
    client.put("d/kept", b"kept")
    client.put("d/changed", b"before", {"x-amz-meta-a": "1"})
    client.put("d/removed", b"gone")
    client.put("d/removed2", b"gone")
    server.put_file("d/changed", b"after it")
    os.unlink(server.path(BUCKET, "d/removed"))
    os.unlink(server.path(BUCKET, "d/removed2"))
    server.put_file("e/added", b"new")
    reply = client.get("d/changed")
    equal((reply.body, reply.etag), (b"after it", md5(b"after it")))
    check("x-amz-meta-a" not in reply.headers, "metadata of the old content")
    equal(client.head("d/removed").status, 404)
    equal(client.list()[1], ["d/changed", "d/kept"])
    server.admin("POST", "/_s3d/rescan")
    equal(client.list()[1], ["d/changed", "d/kept", "e/added"])
    reply = client.head("e/added", headers={"x-amz-checksum-mode": "ENABLED"})
    equal(reply.headers["x-amz-checksum-crc64nvme"], checksum("crc64nvme", b"new"))
    os.unlink(server.path(BUCKET, "e/added"))
    equal(server.admin("POST", "/_s3d/rescan")["buckets"][BUCKET]["objects"], 2)
    server.put_file("f/found", b"1")
    equal(client.head("f/found").etag, md5(b"1"))
    equal(client.list(prefix="f/")[1], ["f/found"])
    server.put_file("d/kept", b"tampered")
    refused(client.put("d/kept", b"x", {"if-match": '"%s"' % md5(b"kept")}), 412,
            "PreconditionFailed")
    server.put_file("g", b"1")
    refused(client.put("g", b"x", {"if-none-match": "*"}), 412, "PreconditionFailed")


@one(["--keep-versions", "--min-part-size", "1"])
def versions_are_kept(server, client):
    def versions():
        folder = server.path(".s3d", BUCKET, "versions")
        with open(os.path.join(folder, "versions.tsv")) as rows:
            rows = [row.rstrip("\n").split("\t") for row in rows]
        found = []
        for name, key in rows:
            with open(os.path.join(folder, name), "rb") as data:
                found.append((key, data.read()))
        return found
    client.put("d/a b", b"one")
    client.put("d/a b", b"two")
    refused(client.put("d/a b", b"no", {"if-none-match": "*"}), 412, "PreconditionFailed")
    client.delete("d/a b")
    want = [("d/a%20b", b"one"), ("d/a%20b", b"two")]
    equal(versions(), want)
    equal(server.stop(), 0)
    server.start()
    client = Client(server)
    upload = client.create("m")
    parts = [(n, client.part("m", upload, n, b"part%d" % n).etag) for n in (1, 2)]
    equal(versions(), want)
    client.complete("m", upload, parts)
    client.put("c", headers={"x-amz-copy-source": BUCKET + "/m"})
    equal(versions(), want + [("m", b"part1part2"), ("c", b"part1part2")])


@one()
def restart_keeps_everything(server, client):
    client.put("a/b", b"1", {"x-amz-meta-x": "ü ", "x-amz-acl": "bucket-owner-full-control"})
    client.put("a/c", b"2")
    client.delete("a/c")
    client.put("a/d", b"3")
    before = client.head("a/b").headers
    for _ in range(30):
        client.put("a/e", b"again and again")
    equal(server.stop(), 0)
    server.put_file("a/f", b"while it was down")
    os.unlink(server.path(BUCKET, "a/d"))
    server.start()
    client = Client(server)
    after = client.head("a/b").headers
    for name in ("etag", "last-modified", "x-amz-meta-x"):
        equal(after[name], before[name])
    check(b"s3d-bucket-owner" in client.get("a/b", query={"acl": ""}).body, "ACL")
    equal(client.list()[1], ["a/b", "a/e", "a/f"])
    with open(server.path(".s3d", BUCKET, "objects.tsv")) as file:
        check(len(file.readlines()) < 10, "metadata were not compacted")


@one()
def killed_server(server, client):
    """What was answered is there, what was not leaves nothing."""
    client.put("a", b"1", {"x-amz-meta-x": "2"})
    with client.open("PUT", "b", length=1000000, payload="UNSIGNED-PAYLOAD") as sock:
        sock.sendall(b"x" * 500000)
        wait_for(server.temporaries, "the upload to begin")
        upload = client.create("m")
        client.part("m", upload, 1, b"first")
        server.process.kill()
        server.process.wait(DEADLINE_S)
    with open(server.path(".s3d", BUCKET, "objects.tsv"), "a") as file:
        file.write("P\tcut-off\t0\t1")
    with open(server.path(".s3d", BUCKET, "uploads", upload, "parts.tsv"), "a") as file:
        file.write("7\t1")
    server.start()
    client = Client(server)
    equal(client.list()[1], ["a"])
    equal(client.head("a").headers["x-amz-meta-x"], "2")
    equal(server.temporaries(), [])
    client.put("c", b"3", {"x-amz-meta-x": "4"})
    client.part("m", upload, 2, b"second")
    server.stop()
    server.start()
    client = Client(server)
    equal(client.list()[1], ["a", "c"])
    equal(client.head("c").headers.get("x-amz-meta-x"), "4")
    numbers = [e.text for e in client.get("m", query={"uploadId": upload}).xml().iter("PartNumber")]
    equal(numbers, ["1", "2"])


@one()
def many_keys(server, client):
    for a in range(20):
        os.makedirs(server.path(BUCKET, "p/%02d" % a))
        for b in range(250):
            with open(server.path(BUCKET, "p/%02d/%03d" % (a, b)), "w"):
                pass
    equal(server.admin("POST", "/_s3d/rescan")["buckets"][BUCKET]["objects"], 5000)
    keys, _, pages = client.list_all()
    equal((len(keys), pages, keys == sorted(keys)), (5000, 5, True))
    keys, prefixes, pages = client.list_all(delimiter="/", prefix="p/")
    equal((keys, len(prefixes), pages), ([], 20, 1))


@one(["--sink"])
def sink(server, client):
    data = os.urandom(70000)
    reply = client.put("a/b", data, crc64(data))
    equal((reply.status, reply.etag[32:]), (200, "-1"))
    equal(client.put("with-md5", data, {"content-md5": base64.b64encode(bytes.fromhex(md5(data))).decode()}).etag, md5(data))
    client.delete("with-md5")
    reply = client.get("a/b", headers={"range": "bytes=10-19"})
    equal((reply.status, reply.body), (206, b"\0" * 10))
    equal(int(client.head("a/b").headers["content-length"]), len(data))
    upload = client.create("m")
    parts = [(n, client.part("m", upload, n, b"x" * (5 << 20)).etag) for n in (1, 2)]
    equal(client.complete("m", upload, parts).status, 200)
    equal(client.list()[1], ["a/b", "m"])
    equal(os.listdir(server.path(BUCKET)), [])
    client.put("deleted", b"1")
    client.delete("deleted")
    server.stop()
    server.start()
    equal(Client(server).list()[1], ["a/b", "m"])
