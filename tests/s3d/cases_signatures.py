"""Signature Version 4, checksums, aws-chunked bodies."""

import base64
import hashlib
import os
import re
import socket

from s3d_client import (
    BUCKET, Client, DEADLINE_S, EMPTY_SHA256, Reply, Signer, amz_date, check, checksum, crc64,
    equal, mac, one, refused)

@one()
def signature_errors(server, client):
    refused(Client(server, Signer(secret="wrong")).get("k"), 403, "SignatureDoesNotMatch")
    refused(Client(server, Signer(access="OTHER")).get("k"), 403, "InvalidAccessKeyId")
    refused(Client(server, Signer(region="eu-west-1")).get("k"), 400,
            "AuthorizationHeaderMalformed")
    refused(client.get("k", date=amz_date(-16 * 60)), 403, "RequestTimeTooSkewed")
    refused(client.get("k", date=amz_date(16 * 60)), 403, "RequestTimeTooSkewed")
    refused(client.get("k", date=amz_date(14 * 60)), 404, "NoSuchKey")
    refused(client.get("k", headers={"x-amz-acl": "private"}, unsigned=("x-amz-acl",)), 403,
            "AccessDenied")
    refused(client.get("k", unsigned=("host",)), 403, "AccessDenied")
    refused(client.get("k", payload="nonsense"), 400, "InvalidArgument")
    refused(Client(server, Signer(token="T")).get("k"), 400, "InvalidToken")
    refused(Client(server, Signer(access=None)).get("k"), 403, "AccessDenied")
    body = b"abc"
    refused(client.put("k", body, payload=hashlib.sha256(b"abd").hexdigest()), 400,
            "XAmzContentSHA256Mismatch")
    equal(client.put("k", body, payload="UNSIGNED-PAYLOAD").status, 200)
    head = client.head_bytes("GET", "k")[0]
    for old, new in ((b"AWS4-HMAC-SHA256 C", b"AWS4-HMAC-SHA512 C"), (b"Credential=", b"X="),
                     (b"Signature=", b"Sig="), (b"x-amz-date: ", b"x-amz-other: ")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
            sock.sendall(head.replace(old, new))
            refused(client.receive(sock, "GET"), 400, "AuthorizationHeaderMalformed")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
        sock.sendall(re.sub(rb"x-amz-content-sha256: \w+\r\n", b"", head))
        refused(client.receive(sock, "GET"), 400, "InvalidRequest")


@one()
def signature_covers_all(server, client):
    """A change of any signed thing on the way is noticed."""
    head = client.head_bytes("PUT", "k", headers={"x-amz-meta-a": "1"},
                             query={"x-id": "PutObject"}, body=b"x")[0]
    for old, new in ((b"PUT /testb/k", b"PUT /testb/l"), (b"meta-a: 1", b"meta-a: 2"),
                     (b"x-id=PutObject", b"x-id=PutObjecs")):
        check(old in head, "test is wrong")
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
            sock.sendall(head.replace(old, new) + b"x")
            refused(client.receive(sock, "PUT"), 403, "SignatureDoesNotMatch")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
        sock.sendall(head + b"y")
        refused(client.receive(sock, "PUT"), 400, "XAmzContentSHA256Mismatch")
    equal(client.list()[1], [])


@one(["--key", "TEMP:secret:the/token+=", "--key", "LIMITED:s2@testb/in/side/",
      "--key", "ELSEWHERE:s3@otherb"])
def tokens_and_limits(server, client):
    temp = Client(server, Signer("TEMP", "secret", "the/token+="))
    equal(temp.put("in/side/k", b"1").status, 200)
    refused(Client(server, Signer("TEMP", "secret", "wrong")).get("k"), 400, "InvalidToken")
    refused(Client(server, Signer("TEMP", "secret")).get("k"), 400, "InvalidToken")
    client.put("outside", b"1")
    limited = Client(server, Signer("LIMITED", "s2"))
    equal(limited.get("in/side/k").body, b"1")
    for reply in (limited.get("outside"), limited.put("in/sidex", b"2"),
                  limited.delete("outside"), limited.call("GET", None, query={"list-type": "2"}),
                  limited.call("GET", None, query={"list-type": "2", "prefix": "in/sid"}),
                  limited.call("PUT", None, path="/newb"),
                  limited.put("in/side/c", headers={"x-amz-copy-source": BUCKET + "/outside"}),
                  Client(server, Signer("ELSEWHERE", "s3")).get("outside")):
        refused(reply, 403, "AccessDenied")
    equal(limited.list(prefix="in/side/")[1], ["in/side/k"])
    body = (b"<Delete><Object><Key>outside</Key></Object>"
            b"<Object><Key>in/side/k</Key></Object></Delete>")
    reply = limited.call("POST", None, query={"delete": ""}, body=body)
    equal([e.text for e in reply.xml().iter("Code")], ["AccessDenied"])
    equal(client.list()[1], ["outside"])


@one(keys=False)
def without_keys_all_is_let_in(server, client):
    anonymous = Client(server, Signer(access=None))
    equal(anonymous.put("k", b"1").status, 200)
    equal(client.get("k").body, b"1")


@one()
def presigned(server, client):
    client.put("a b+c", b"data")

    def fetch(target):
        connection = client.connect()
        connection.request("GET", target)
        response = connection.getresponse()
        return Reply(response, response.read())

    target = Signer().presign(server, "GET", "a b+c")
    equal(fetch(target).body, b"data")
    refused(fetch(target[:-1] + ("0" if target[-1] != "0" else "1")), 403,
            "SignatureDoesNotMatch")
    refused(fetch(Signer().presign(server, "GET", "a b+c", 5, amz_date(-60))), 403, "AccessDenied")
    refused(fetch(Signer(secret="x").presign(server, "GET", "a b+c")), 403,
            "SignatureDoesNotMatch")


# --- checksums and chunked bodies ---


@one()
def checksum_headers(server, client):
    data = os.urandom(5000)
    for kind in ("crc32", "crc32c", "sha1", "sha256", "crc64nvme"):
        name = "x-amz-checksum-" + kind
        reply = client.put("k-" + kind, data, {name: checksum(kind, data)})
        equal((reply.status, reply.headers[name]), (200, checksum(kind, data)))
        reply = client.head("k-" + kind, headers={"x-amz-checksum-mode": "ENABLED"})
        equal(reply.headers[name], checksum(kind, data))
        refused(client.put("bad", data, {name: checksum(kind, data + b"x")}), 400, "BadDigest")
        refused(client.put("bad", data, {name: "AAAA"}), 400, "InvalidRequest")
    good = base64.b64encode(hashlib.md5(data).digest()).decode()
    equal(client.put("k", data, {"content-md5": good}).status, 200)
    bad = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    refused(client.put("bad", data, {"content-md5": bad}), 400, "BadDigest")
    refused(client.put("bad", data, {"content-md5": "x"}), 400, "InvalidDigest")
    equal(client.get("bad").status, 404)
    equal(server.temporaries(), [])


@one()
def crc64_of_many_sizes(server, client):
    """Every way through the server's CRC: by table, folded, and what is left after folding."""
    for size in (0, 1, 15, 16, 17, 63, 64, 127, 128, 129, 191, 192, 193, 1000, 4096, 70001):
        data = os.urandom(size)
        equal(client.put("k", data, crc64(data)).status, 200, size)


@one(["--crc64nvme", "off"])
def crc64nvme_off(server, client):
    reply = client.put("k", b"data", crc64(b"wrong"))
    equal(reply.status, 200)
    check("x-amz-checksum-crc64nvme" not in reply.headers, "echoed")
    reply = client.head("k", headers={"x-amz-checksum-mode": "ENABLED"})
    check("x-amz-checksum-crc64nvme" not in reply.headers, "shown")
    upload = client.create("m", {"x-amz-checksum-algorithm": "CRC64NVME",
                                 "x-amz-checksum-type": "FULL_OBJECT"})
    reply = client.part("m", upload, 1, b"data", crc64(b"wrong"))
    check("x-amz-checksum-crc64nvme" not in reply.headers, "echoed for a part")
    reply = client.complete("m", upload, [(1, reply.etag)], crc64(b"wrong"))
    equal(reply.status, 200)
    check(b"Checksum" not in reply.body, "in the reply to Complete")
    check(b"Checksum" not in client.call("GET", None, query={"list-type": "2"}).body, "listed")


def chunked_put(client, key, chunks, trailer=None, sign=True, spoil=None, lead=None):
    """An aws-chunked upload; `spoil` changes the encoded body."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if sign else "STREAMING-UNSIGNED-PAYLOAD"
    headers = {"x-amz-decoded-content-length": str(sum(map(len, chunks))),
               "content-encoding": "aws-chunked"}
    if trailer:
        kind += "-TRAILER"
        headers["x-amz-trailer"] = trailer[0]
    headers.update(lead or {})
    date = amz_date()
    _, previous = client.head_bytes("PUT", key, headers=headers, payload=kind, date=date)
    body = b""
    for chunk in list(chunks) + [b""]:
        line = "%x" % len(chunk)
        if sign:
            to_sign = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, client.signer.scope(date),
                                 previous, EMPTY_SHA256, hashlib.sha256(chunk).hexdigest()])
            previous = mac(client.signer.key(date), to_sign).hex()
            line += ";chunk-signature=" + previous
        body += line.encode() + b"\r\n" + chunk + (b"\r\n" if chunk else b"")
    if trailer:
        body += ("%s:%s\r\n" % trailer).encode()
        if sign:
            to_sign = "\n".join([
                "AWS4-HMAC-SHA256-TRAILER", date, client.signer.scope(date), previous,
                hashlib.sha256(("%s:%s\n" % trailer).encode()).hexdigest()])
            body += ("x-amz-trailer-signature:%s\r\n"
                     % mac(client.signer.key(date), to_sign).hex()).encode()
    body += b"\r\n"
    if spoil:
        body = spoil(body)
    return client.put(key, body, headers, payload=kind, date=date)


@one()
def chunked_signed(server, client):
    chunks = [os.urandom(65536), os.urandom(65536), os.urandom(17)]
    reply = chunked_put(client, "k", chunks)
    equal(reply.status, 200)
    reply = client.get("k")
    equal(reply.body, b"".join(chunks))
    check("content-encoding" not in reply.headers, "aws-chunked was kept")
    refused(chunked_put(client, "bad", [b"abc" * 9],
                        spoil=lambda b: b.replace(b"abcabc", b"abcabd", 1)),
            403, "SignatureDoesNotMatch")
    refused(chunked_put(client, "bad", [b"abc"], spoil=lambda b: b[:-20]), 400, "IncompleteBody")
    refused(chunked_put(client, "bad", [b"abc"],
                        spoil=lambda b: b.replace(b";chunk-sig", b";chunk-xig")),
            400, "InvalidRequest")
    for length in ("26", "28"):
        refused(chunked_put(client, "bad", [b"abc" * 9],
                            lead={"x-amz-decoded-content-length": length}), 400,
                "IncompleteBody")
    equal(client.get("bad").status, 404)


@one()
def chunked_trailers(server, client):
    chunks = [b"hello ", b"world" * 1000]
    data = b"".join(chunks)
    for sign in (True, False):
        for kind in ("crc64nvme", "crc32", "sha256"):
            name = "x-amz-checksum-" + kind
            reply = chunked_put(client, "k", chunks, (name, checksum(kind, data)), sign)
            equal((reply.status, reply.headers.get(name)), (200, checksum(kind, data)))
            refused(chunked_put(client, "bad", chunks, (name, checksum(kind, b"x")), sign), 400,
                    "BadDigest")
    equal(client.get("k").body, data)
    name = "x-amz-checksum-crc32"
    refused(chunked_put(client, "bad", chunks, (name, checksum("crc32", data)), True,
                        lambda b: b.replace(b"trailer-signature:", b"trailer-signature:0")),
            403, "SignatureDoesNotMatch")
    refused(chunked_put(client, "bad", chunks, (name, checksum("crc32", data)), False,
                        lambda b: b.replace(b"hello ", b"hello")), 400, "InvalidRequest")
    refused(chunked_put(client, "bad", chunks, (name, checksum("crc32", data)), False,
                        lambda b: b.replace(b"x-amz-checksum-crc32:", b"x-other:")),
            400, "InvalidRequest")
    equal(client.get("bad").status, 404)
