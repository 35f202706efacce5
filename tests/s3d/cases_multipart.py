"""Multipart uploads."""

import hashlib
import os

from s3d_client import BUCKET, Client, check, checksum, crc64, equal, md5, one, refused

@one(["--min-part-size", "10"])
def multipart(server, client):
    pieces = [os.urandom(n) for n in (1000, 10, 2345)]
    data = b"".join(pieces)
    upload = client.create("m/p", {"x-amz-checksum-algorithm": "CRC64NVME",
                                   "x-amz-checksum-type": "FULL_OBJECT",
                                   "content-type": "image/tiff", "x-amz-meta-mtime": "9"})
    equal(server.stats()["buckets"][BUCKET]["open_uploads"], 1)
    parts = []
    for number, piece in ((7, pieces[2]), (1, b"replaced later"), (2, pieces[1]), (1, pieces[0])):
        reply = client.part("m/p", upload, number, piece, crc64(piece))
        equal((reply.status, reply.etag), (200, md5(piece)))
        equal(reply.headers["x-amz-checksum-crc64nvme"], checksum("crc64nvme", piece))
    equal(client.get("m/p").status, 404)
    equal(client.list()[1], [])
    server.stop()
    server.start()
    client = Client(server)
    parts = [(number, md5(piece)) for number, piece in zip((1, 2, 7), pieces)]
    reply = client.complete("m/p", upload, parts, {
        **crc64(data), "x-amz-checksum-type": "FULL_OBJECT", "x-amz-mp-object-size": str(len(data)),
        "if-none-match": "*"})
    equal(reply.status, 200, reply.code)
    etag = md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)) + "-3"
    equal(reply.text("ETag").strip('"'), etag)
    equal(reply.text("ChecksumCRC64NVME"), checksum("crc64nvme", data))
    with open(server.path(BUCKET, "m/p"), "rb") as file:
        equal(file.read(), data)
    reply = client.head("m/p", headers={"x-amz-checksum-mode": "ENABLED"})
    equal((reply.etag, reply.headers["x-amz-meta-mtime"], reply.headers["content-type"]),
          (etag, "9", "image/tiff"))
    equal(reply.headers["x-amz-checksum-crc64nvme"], checksum("crc64nvme", data))
    reply = client.get("m/p", headers={"x-amz-checksum-mode": "ENABLED", "range": "bytes=0-9"})
    equal((reply.status, reply.body), (206, data[:10]))
    check("x-amz-checksum-crc64nvme" not in reply.headers, "the whole's checksum on a range")
    reply = client.get("m/p", query={"partNumber": "2"})
    equal((reply.status, reply.body, reply.headers["x-amz-mp-parts-count"]), (206, pieces[1], "3"))
    refused(client.complete("m/p", upload, parts), 404, "NoSuchUpload")
    equal(os.listdir(server.path(".s3d", BUCKET, "uploads")), [])
    equal(server.stats()["buckets"][BUCKET]["open_uploads"], 0)
    equal(client.put("copy", headers={"x-amz-copy-source": BUCKET + "/m/p"}).text("ETag"),
          '"%s"' % md5(data))


@one(["--min-part-size", "10"])
def multipart_errors(server, client):
    upload = client.create("k")
    a = client.part("k", upload, 1, b"a" * 10).etag
    b = client.part("k", upload, 2, b"b" * 9).etag
    c = client.part("k", upload, 3, b"c" * 5).etag
    refused(client.complete("k", upload, [(2, b), (1, a)]), 400, "InvalidPartOrder")
    refused(client.complete("k", upload, [(1, a), (1, a)]), 400, "InvalidPartOrder")
    refused(client.complete("k", upload, [(1, b)]), 400, "InvalidPart")
    refused(client.complete("k", upload, [(1, a), (4, a)]), 400, "InvalidPart")
    refused(client.complete("k", upload, [(1, a), (2, b), (3, c)]), 400, "EntityTooSmall")
    good = [(1, a), (2, b)]
    data = b"a" * 10 + b"b" * 9
    refused(client.complete("k", upload, good, {"x-amz-mp-object-size": "20"}), 400,
            "InvalidRequest")
    refused(client.complete("k", upload, good, crc64(b"wrong")), 400, "BadDigest")
    refused(client.complete("k", upload, []), 400, "MalformedXML")
    refused(client.call("POST", "k", query={"uploadId": upload}, body=b"<x"), 400, "MalformedXML")
    refused(client.complete("other", upload, good), 404, "NoSuchUpload")
    refused(client.complete("k", "no", good), 404, "NoSuchUpload")
    refused(client.part("k", "no", 1, b"x"), 404, "NoSuchUpload")
    for number in (0, 10001):
        refused(client.part("k", upload, number, b"x"), 400, "InvalidArgument")
    refused(client.part("k", upload, 1, b"x", crc64(b"y")), 400, "BadDigest")
    client.put("k", b"there")
    refused(client.complete("k", upload, good, {"if-none-match": "*"}), 412,
            "PreconditionFailed")
    equal(client.get("k").body, b"there")
    equal(client.complete("k", upload, good, {"if-match": md5(b"there"), **crc64(data)}).status,
          200)
    equal(client.get("k").body, data)
    upload = client.create("z", {"x-amz-checksum-algorithm": "CRC64NVME"})
    refused(client.part("z", upload, 1, b"x"), 400, "InvalidRequest")
    refused(client.part("z", upload, 1, b"x", {"x-amz-checksum-crc32": checksum("crc32", b"x")}),
            400, "InvalidRequest")
    equal(client.delete("z", query={"uploadId": upload}).status, 204)
    refused(client.delete("z", query={"uploadId": upload}), 404, "NoSuchUpload")
    equal(server.temporaries(), [])


@one()
def multipart_default_minimum(server, client):
    upload = client.create("k")
    small = client.part("k", upload, 1, b"x" * ((5 << 20) - 1)).etag
    last = client.part("k", upload, 2, b"y").etag
    refused(client.complete("k", upload, [(1, small), (2, last)]), 400, "EntityTooSmall")
    big = client.part("k", upload, 1, b"x" * (5 << 20)).etag
    equal(client.complete("k", upload, [(1, big), (2, last)]).status, 200)
    equal(os.path.getsize(server.path(BUCKET, "k")), (5 << 20) + 1)


@one(["--min-part-size", "1"])
def upload_part_copy(server, client):
    data = os.urandom(1000)
    etag = client.put("source", data).etag
    upload = client.create("k")
    where = {"uploadId": upload, "partNumber": "1"}
    source = {"x-amz-copy-source": BUCKET + "/source"}
    reply = client.put("k", headers={**source, "x-amz-copy-source-range": "bytes=100-299",
                                     "x-amz-copy-source-if-match": etag}, query=where)
    equal((reply.status, reply.text("ETag").strip('"')), (200, md5(data[100:300])))
    where["partNumber"] = "2"
    reply2 = client.put("k", headers=source, query=where)
    for header in ("bytes=0-1000", "bytes=5-4", "0-3", "bytes=-5"):
        refused(client.put("k", headers={**source, "x-amz-copy-source-range": header},
                           query=where), 400, "InvalidArgument")
    refused(client.put("k", headers={**source, "x-amz-copy-source-if-match": "no"}, query=where),
            412, "PreconditionFailed")
    whole = data[100:300] + data
    parts = [(1, md5(data[100:300])), (2, reply2.text("ETag").strip('"'))]
    equal(client.complete("k", upload, parts, crc64(whole)).status, 200)
    equal(client.get("k").body, whole)


@one()
def list_parts_and_uploads(server, client):
    first = client.create("a b")
    second = client.create("a b")
    third = client.create("c/d")
    for number in (1, 3, 5, 10000):
        client.part("a b", first, number, b"%d" % number, crc64(b"%d" % number))
    marker, numbers, pages = "0", [], 0
    while True:
        page = client.get("a b", query={"uploadId": first, "max-parts": "3",
                                        "part-number-marker": marker}).xml()
        pages += 1
        for part in page.iter("Part"):
            number = int(part.findtext("PartNumber"))
            numbers.append(number)
            equal(part.findtext("ETag"), '"%s"' % md5(b"%d" % number))
            equal(part.findtext("ChecksumCRC64NVME"), checksum("crc64nvme", b"%d" % number))
        if page.findtext("IsTruncated") == "false":
            break
        marker = page.findtext("NextPartNumberMarker")
    equal((numbers, pages), ([1, 3, 5, 10000], 2))
    refused(client.get("a b", query={"uploadId": "no"}), 404, "NoSuchUpload")
    query, seen = {"uploads": "", "max-uploads": "1"}, []
    while True:
        page = client.call("GET", None, query=query).xml()
        seen += [(u.findtext("Key"), u.findtext("UploadId")) for u in page.iter("Upload")]
        if page.findtext("IsTruncated") == "false":
            break
        query["key-marker"] = page.findtext("NextKeyMarker")
        query["upload-id-marker"] = page.findtext("NextUploadIdMarker")
    equal(sorted(seen), sorted([("a b", first), ("a b", second), ("c/d", third)]))
    page = client.call("GET", None, query={"uploads": "", "prefix": "c/"}).xml()
    equal([u.findtext("UploadId") for u in page.iter("Upload")], [third])
