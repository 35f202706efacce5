"""Objects, conditions, ranges, ACLs, copies, buckets, requests that are refused."""

import os
import socket
import threading

from s3d_client import (
    ACCESS, BUCKET, Client, DEADLINE_S, Signer, check, checksum, crc64, equal, md5, one,
    refused, wait_for)

@one()
def put_get_head_delete(server, client):
    data = os.urandom(100000)
    reply = client.put("plate/a.tif", data, {"content-type": "image/tiff",
                                             "x-amz-meta-mtime": "1.5", **crc64(data)})
    equal(reply.status, 200)
    equal(reply.etag, md5(data))
    equal(reply.headers["x-amz-checksum-crc64nvme"], checksum("crc64nvme", data))
    equal(reply.headers["x-amz-checksum-type"], "FULL_OBJECT")
    with open(server.path(BUCKET, "plate/a.tif"), "rb") as file:
        equal(file.read(), data)
    reply = client.get("plate/a.tif")
    equal((reply.status, reply.body), (200, data))
    equal(reply.headers["content-type"], "image/tiff")
    equal(reply.headers["x-amz-meta-mtime"], "1.5")
    check("x-amz-checksum-crc64nvme" not in reply.headers, "checksum without being asked")
    reply = client.head("plate/a.tif", headers={"x-amz-checksum-mode": "ENABLED"})
    equal((reply.status, reply.body), (200, b""))
    equal(int(reply.headers["content-length"]), len(data))
    equal(reply.headers["x-amz-checksum-crc64nvme"], checksum("crc64nvme", data))
    equal(client.delete("plate/a.tif").status, 204)
    equal(client.delete("plate/a.tif").status, 204)
    refused(client.get("plate/a.tif"), 404, "NoSuchKey")
    reply = client.head("plate/a.tif")
    equal((reply.status, reply.body), (404, b""))
    check(not os.path.exists(server.path(BUCKET, "plate")), "empty folder left behind")
    equal(server.temporaries(), [])


@one()
def empty_object(server, client):
    equal(client.put("empty").etag, md5(b""))
    equal(os.path.getsize(server.path(BUCKET, "empty")), 0)
    reply = client.get("empty")
    equal((reply.status, reply.body, reply.headers["content-length"]), (200, b"", "0"))


@one()
def stored_headers(server, client):
    headers = {"cache-control": "no-cache", "content-disposition": "attachment",
               "content-encoding": "gzip", "content-language": "de", "x-amz-meta-Two": "x  y"}
    client.put("k", b"1", headers)
    reply = client.head("k")
    for name, value in headers.items():
        equal(reply.headers[name.lower()], value)
    client.put("k", b"1")
    reply = client.head("k")
    check("cache-control" not in reply.headers, "header survived the overwrite")
    equal(reply.headers["content-type"], "binary/octet-stream")


@one()
def keep_alive(server, client):
    connection = client.connect()
    connection.connect()
    for i in range(20):
        connection.sock.sendall(client.head_bytes("PUT", "k%d" % i, body=b"abc")[0] + b"abc")
        equal(client.receive(connection.sock, "PUT").status, 200)
    connection.sock.sendall(client.head_bytes("GET", "nothing")[0])
    equal(client.receive(connection.sock, "GET").status, 404)
    equal(len({row["connection"] for row in server.log()}), 1)
    equal(len(server.log()), 21)


@one()
def refused_body_keeps_connection(server, client):
    """An error by the headers must not cost the client the answer, nor the connection."""
    body = os.urandom(3 << 20)
    wrong = Client(server, Signer(secret="wrong"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
        sock.sendall(wrong.head_bytes("PUT", "k", body=body)[0] + body)
        refused(client.receive(sock, "PUT"), 403, "SignatureDoesNotMatch")
        sock.sendall(client.head_bytes("PUT", "k", body=b"x")[0] + b"x")
        equal(client.receive(sock, "PUT").status, 200)


@one()
def expect_continue(server, client):
    with client.open("PUT", "k", body=b"abc", headers={"Expect": "100-continue"}) as sock:
        equal(sock.recv(25), b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"abc")
        equal(client.receive(sock, "PUT").status, 200)
    wrong = Client(server, Signer(secret="wrong"))
    with wrong.open("PUT", "k", body=b"abc", headers={"Expect": "100-continue"}) as sock:
        refused(client.receive(sock, "PUT"), 403, "SignatureDoesNotMatch")


@one()
def ranges(server, client):
    data = bytes(range(256)) * 40
    client.put("k", data)
    for text, want in (("bytes=0-0", data[:1]), ("bytes=5-9", data[5:10]),
                       ("bytes=10000-", data[10000:]), ("bytes=-7", data[-7:]),
                       ("bytes=-99999", data), ("bytes=10200-99999", data[10200:])):
        reply = client.get("k", headers={"range": text})
        equal((reply.status, reply.body), (206, want), text)
        start = len(data) - len(want) if text.startswith("bytes=-") else int(text[6:].split("-")[0])
        equal(reply.headers["content-range"],
              "bytes %d-%d/%d" % (start, start + len(want) - 1, len(data)))
    for text in ("bytes=5-4", "lines=1-2", "bytes=0-1,4-5", "bytes=x-"):
        reply = client.get("k", headers={"range": text})
        equal((reply.status, reply.body), (200, data), text)
    refused(client.get("k", headers={"range": "bytes=10240-"}), 416, "InvalidRange")
    client.put("empty")
    refused(client.get("empty", headers={"range": "bytes=0-"}), 416, "InvalidRange")


@one()
def conditional_get(server, client):
    etag = client.put("k", b"abc").etag
    equal(client.get("k", headers={"if-match": '"%s"' % etag}).status, 200)
    refused(client.get("k", headers={"if-match": '"other"'}), 412, "PreconditionFailed")
    reply = client.get("k", headers={"if-none-match": '"%s"' % etag})
    equal((reply.status, reply.body, reply.etag), (304, b"", etag))
    equal(client.get("k", headers={"if-none-match": '"other"'}).status, 200)
    equal(client.head("k", headers={"if-match": '"other"'}).status, 412)


@one()
def conditional_put(server, client):
    once = {"if-none-match": "*"}
    etag = client.put("k", b"1", once).etag
    refused(client.put("k", b"2", once), 412, "PreconditionFailed")
    refused(client.put("k", b"2", {"if-match": '"bad"'}), 412, "PreconditionFailed")
    refused(client.put("none", b"2", {"if-match": '"bad"'}), 404, "NoSuchKey")
    equal(client.get("k").body, b"1")
    equal(client.put("k", b"2", {"if-match": '"%s"' % etag}).status, 200)
    refused(client.delete("k", headers={"if-match": '"%s"' % etag}), 412, "PreconditionFailed")
    equal(client.delete("k", headers={"if-match": '"%s"' % md5(b"2")}).status, 204)
    equal(server.temporaries(), [])


@one()
def conditional_put_race(server, client):
    """Of many writers with If-None-Match exactly one wins, though all begin at once."""
    for number in range(20):
        key, gate, replies = "k%d" % number, os.path.join(server.dir, "gate%d" % number), []
        server.faults("PutObject always hold=" + gate)

        def put(body, key=key, replies=replies):
            replies.append((client.put(key, body, {"if-none-match": "*"}).status, body))

        threads = [threading.Thread(target=put, args=(b"%d" % n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        wait_for(lambda: server.stats()["current_requests"] == 16, "all to be held")
        with open(gate, "w"):
            pass
        for thread in threads:
            thread.join()
        won = [body for status, body in replies if status == 200]
        equal(sorted(status for status, _ in replies), [200] + 15 * [412])
        equal(client.get(key).body, won[0])


@one(["--conditions", "off"])
def conditions_off(server, client):
    client.put("k", b"1")
    equal(client.put("k", b"2", {"if-none-match": "*"}).status, 200)
    equal(client.delete("k", headers={"if-match": '"bad"'}).status, 204)


@one(["--conditions", "put", "--min-part-size", "1"])
def conditions_put(server, client):
    client.put("k", b"1")
    equal(client.put("k", b"2", {"if-none-match": "*"}).status, 412)
    upload = client.create("k")
    etag = client.part("k", upload, 1, b"3").etag
    equal(client.complete("k", upload, [(1, etag)], {"if-none-match": "*"}).status, 200)
    equal(client.delete("k", headers={"if-match": '"bad"'}).status, 204)


@one()
def concurrent_puts_of_a_key(server, client):
    """Readers only ever see one writer's whole object."""
    bodies = [bytes([65 + n]) * 300000 for n in range(4)]
    client.put("k", bodies[0])
    stop = threading.Event()
    wrong = []

    def read():
        while not stop.is_set():
            reply = client.get("k")
            if reply.body not in bodies or reply.etag != md5(reply.body):
                wrong.append(reply.status)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=lambda b=b: [client.put("k", b) for _ in range(10)])
               for b in bodies]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    equal(wrong, [])
    equal(len(server.log("PutObject")), 41)


@one()
def broken_upload_leaves_nothing(server, client):
    with client.open("PUT", "k", length=1000000, payload="UNSIGNED-PAYLOAD") as sock:
        sock.sendall(b"x" * 500000)
        wait_for(server.temporaries, "the upload to begin")
    wait_for(lambda: not server.temporaries(), "the temporary file to go")
    equal(client.get("k").status, 404)
    row = wait_for(lambda: server.log("PutObject"), "the log line")[0]
    equal((row["status"], row["code"]), ("0", "ClientClosed"))


@one()
def request_errors(server, client):
    refused(client.call("GET", None, path="/nobucket/k"), 404, "NoSuchBucket")
    refused(client.put("k" * 1025, b"x"), 400, "KeyTooLongError")
    equal(client.put("k" * 1024, b"x").status, 200)
    refused(client.call("GET", None, path="/%s/%%ff" % BUCKET), 400, "InvalidURI")
    refused(client.call("GET", None, path="/%s/%%zz" % BUCKET), 400, "InvalidURI")
    refused(client.call("GET", None, path="/%s/a%%00b" % BUCKET), 400, "InvalidURI")
    refused(client.call("GET", "k", query={"torrent": ""}), 501, "NotImplemented")
    refused(client.call("PATCH", "k"), 405, "MethodNotAllowed")
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)
    with raw:
        head = client.head_bytes("PUT", "k", payload="UNSIGNED-PAYLOAD")[0]
        head = head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        raw.sendall(head + b"3\r\nabc\r\n0\r\n\r\n")
        refused(client.receive(raw, "PUT"), 411, "MissingContentLength")


@one()
def buckets(server, client):
    equal(client.call("HEAD", None).status, 200)
    equal(client.call("PUT", None, path="/second").status, 200)
    refused(client.call("PUT", None, path="/second"), 409, "BucketAlreadyOwnedByYou")
    refused(client.call("PUT", None, path="/b%20d"), 400, "InvalidBucketName")
    names = [e.text for e in client.call("GET", None, path="/").xml().iter("Name")]
    equal(sorted(names), ["second", BUCKET])
    equal(client.call("HEAD", None, path="/third").status, 404)
    equal(client.call("GET", None, query={"location": ""}).xml().text, None)
    os.mkdir(server.path("byhand"))
    server.admin("POST", "/_s3d/rescan")
    equal(client.call("HEAD", None, path="/byhand").status, 200)


@one()
def virtual_hosted(server, client):
    hosted = Client(server, host=BUCKET + ".s3.example.org:%d" % server.port)
    equal(hosted.call("PUT", None, path="/a%20b/c", body=b"x").status, 200)
    equal(client.get("a b/c").body, b"x")
    equal(hosted.call("GET", None, path="/", query={"list-type": "2"}).xml().findtext("Name"),
          BUCKET)


# --- ACL and copy ---


@one(["--require-acl", "bucket-owner-full-control"])
def require_acl(server, client):
    full = {"x-amz-acl": "bucket-owner-full-control"}
    refused(client.put("k", b"1"), 403, "AccessDenied")
    refused(client.put("k", b"1", {"x-amz-acl": "private"}), 403, "AccessDenied")
    refused(client.call("POST", "k", query={"uploads": ""}), 403, "AccessDenied")
    equal(client.put("k", b"1", full).status, 200)
    refused(client.put("c", headers={"x-amz-copy-source": BUCKET + "/k"}), 403, "AccessDenied")
    equal(client.put("c", headers={"x-amz-copy-source": BUCKET + "/k", **full}).status, 200)
    upload = client.create("m", full)
    etag = client.part("m", upload, 1, b"2").etag
    equal(client.complete("m", upload, [(1, etag)]).status, 200)
    for key in ("k", "c", "m"):
        grants = {(g.findtext(".//ID"), g.findtext("Permission"))
                  for g in client.get(key, query={"acl": ""}).xml().iter("Grant")}
        equal(grants, {(ACCESS, "FULL_CONTROL"), ("s3d-bucket-owner", "FULL_CONTROL")})
    equal(len(client.list()[1]), 3)


@one()
def acl_without_header(server, client):
    client.put("k", b"1")
    acl = client.get("k", query={"acl": ""}).xml()
    equal([e.text for e in acl.iter("ID")], [ACCESS, ACCESS])
    refused(client.get("none", query={"acl": ""}), 404, "NoSuchKey")


@one()
def copy_object(server, client):
    data = os.urandom(3000)
    etag = client.put("a b/ü+", data, {"x-amz-meta-a": "1", "content-type": "t/x"}).etag
    source = {"x-amz-copy-source": "/" + BUCKET + "/a%20b/%C3%BC%2B"}
    reply = client.put("copy", headers=source)
    equal((reply.status, reply.text("ETag").strip('"')), (200, etag))
    equal(reply.text("ChecksumCRC64NVME"), checksum("crc64nvme", data))
    reply = client.get("copy")
    equal((reply.body, reply.headers["x-amz-meta-a"], reply.headers["content-type"]),
          (data, "1", "t/x"))
    client.put("copy", headers={**source, "x-amz-metadata-directive": "REPLACE",
                                "x-amz-meta-b": "2"})
    reply = client.head("copy")
    check("x-amz-meta-a" not in reply.headers, "metadata kept")
    equal(reply.headers["x-amz-meta-b"], "2")
    refused(client.put("copy", headers={**source, "x-amz-copy-source-if-match": '"no"'}), 412,
            "PreconditionFailed")
    equal(client.put("copy", headers={**source, "x-amz-copy-source-if-match": etag}).status, 200)
    refused(client.put("copy", headers={"x-amz-copy-source": BUCKET + "/none"}), 404, "NoSuchKey")
    refused(client.put("copy", headers={"x-amz-copy-source": "nob/none"}), 404, "NoSuchBucket")
    refused(client.put("copy", headers={**source, "if-none-match": "*"}), 412,
            "PreconditionFailed")
    equal(client.put("a b/ü+", headers={**source, "x-amz-metadata-directive": "REPLACE"}).status,
          200)
    equal(client.get("a b/ü+").body, data)


@one()
def delete_objects(server, client):
    for key in ("a", "b&<c", "d"):
        client.put(key, b"1")
    body = ("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            "<Object><Key>a</Key></Object><Object><Key>b&amp;&lt;c</Key></Object>"
            "<Object><Key>none</Key></Object></Delete>")
    reply = client.call("POST", None, query={"delete": ""}, body=body.encode())
    equal([e.text for e in reply.xml().iter("Key")], ["a", "b&<c", "none"])
    equal(client.list()[1], ["d"])
    body = "<Delete><Quiet>true</Quiet><Object><Key>d</Key></Object></Delete>"
    reply = client.call("POST", None, query={"delete": ""}, body=body.encode())
    equal(len(reply.xml()), 0)
    equal(client.list()[1], [])
    refused(client.call("POST", None, query={"delete": ""}, body=b"<Delete>"), 400, "MalformedXML")
