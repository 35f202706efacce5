#!/usr/bin/python3
"""Tests of s3d, the scripted S3 server, over the wire.

Usage: test_s3d.py PATH-OF-S3D [NAME-PART...]

Prints `ok - name` or `not ok - name` per test; ends with 1 if one failed. The client here signs by
itself (Signature Version 4 from the specification) and speaks through sockets, so that it can also
send what no library would.
"""

import base64
import contextlib
import datetime
import filecmp
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zlib

S3D = None
TESTS = []
DEADLINE_S = 20
ACCESS, SECRET, REGION, BUCKET = "AKIDEXAMPLE", "wJalrXUtnFEMI+bPxRfiCY", "us-east-1", "testb"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
ODD_KEYS = [
    "a b/c+d%e~f/ü.tif", "a//b", "/leading", "trailing/", ".", "..", "x/./y", "x/../y", "x/..",
    "both", "both/below", "quote'\"&<>", "tab\there", "line\nbreak", "cr\rhere", "ctl\x01here",
    "per%20cent", "plus+plus", "star*(paren)!", "tilde~", "l" * 300, "深/層.tiff", "\U0001f52c",
    "question?mark#hash", "semi;colon=equal@at:colon,comma$", "back\\slash", "[bracket]{brace}|^`",
]


def test(function):
    TESTS.append(function)
    return function


def equal(got, want, what=""):
    if got != want:
        raise AssertionError("%sgot %r, want %r" % (what and what + ": ", got, want))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_for(predicate, what):
    """The predicate's first true value; polls with a deadline."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = predicate()
        if value:
            return value
        threading.Event().wait(0.01)
    raise AssertionError("waited in vain for " + what)


def crc_tables():
    tables = {}
    for name, poly in (("crc64nvme", 0x9A6C9329AC4BC9B5), ("crc32c", 0x82F63B78)):
        table = []
        for byte in range(256):
            for _ in range(8):
                byte = (byte >> 1) ^ (poly if byte & 1 else 0)
            table.append(byte)
        tables[name] = table
    return tables


CRC_TABLES = crc_tables()


def checksum(kind, data):
    """Base64 as in x-amz-checksum-<kind>."""
    if kind in ("sha1", "sha256"):
        raw = hashlib.new(kind, data).digest()
    elif kind == "crc32":
        raw = struct.pack(">I", zlib.crc32(data))
    else:
        width = 8 if kind == "crc64nvme" else 4
        ones = (1 << 8 * width) - 1
        crc, table = ones, CRC_TABLES[kind]
        for byte in data:
            crc = (crc >> 8) ^ table[(crc ^ byte) & 255]
        raw = (crc ^ ones).to_bytes(width, "big")
    return base64.b64encode(raw).decode()


def crc64(data):
    return {"x-amz-checksum-crc64nvme": checksum("crc64nvme", data)}


def md5(data):
    return hashlib.md5(data).hexdigest()


# --- the server ---


class Server:
    def __init__(self, *args, root=None, keys=True):
        self.dir = tempfile.mkdtemp(prefix="s3d-test-")
        self.root = root or os.path.join(self.dir, "root")
        self.script = os.path.join(self.dir, "faults")
        self.log_path = os.path.join(self.dir, "requests.tsv")
        self.args = list(args) + (["--key", ACCESS + ":" + SECRET] if keys else [])
        self.errors = os.path.join(self.dir, "stderr")
        self.start()

    def start(self):
        port_file = os.path.join(self.dir, "port")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(port_file)
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                [S3D, "--listen", "127.0.0.1:0", "--port-file", port_file, "--root", self.root,
                 "--bucket", BUCKET, "--fault-script", self.script,
                 "--request-log", self.log_path] + self.args, stderr=errors)
        wait_for(lambda: os.path.exists(port_file) or self.process.poll() is not None, "port")
        check(self.process.poll() is None, "server ended: " + self.stderr())
        with open(port_file) as file:
            self.port = int(file.read())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def stderr(self):
        with open(self.errors) as file:
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        text = self.stderr()
        shutil.rmtree(self.dir)
        if exc[0] is None:
            equal(code, 0, "exit status of the server (%s)" % text)
            check("Sanitizer" not in text and "runtime error" not in text, text)

    def faults(self, *lines):
        with open(self.script + ".new", "w") as file:
            file.write("# test\n" + "".join(line + "\n" for line in lines))
        os.rename(self.script + ".new", self.script)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def put_file(self, key, data):
        path = self.path(BUCKET, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def log(self, operation=None):
        with open(self.log_path) as file:
            lines = file.read().splitlines()
        names = lines[0].lstrip("#").split("\t")
        rows = [dict(zip(names, line.split("\t"))) for line in lines[1:]]
        return [row for row in rows if operation in (None, row["operation"])]

    def admin(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request(method, path)
        reply = connection.getresponse()
        equal(reply.status, 200)
        return json.loads(reply.read())

    def stats(self):
        return self.admin("GET", "/_s3d/stats")

    def temporaries(self):
        return os.listdir(self.path(".s3d", "tmp"))


# --- the client ---


def quote(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def amz_date(skew_s=0):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=skew_s)
    return now.strftime("%Y%m%dT%H%M%SZ")


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signer:
    def __init__(self, access=ACCESS, secret=SECRET, token=None, region=REGION):
        self.access, self.secret, self.token, self.region = access, secret, token, region

    def scope(self, date):
        return "%s/%s/s3/aws4_request" % (date[:8], self.region)

    def key(self, date):
        key = mac(("AWS4" + self.secret).encode(), date[:8])
        for part in (self.region, "s3", "aws4_request"):
            key = mac(key, part)
        return key

    def signature(self, date, method, path, query, headers, names, payload):
        canonical = "\n".join(
            [method, path, "&".join(sorted("%s=%s" % (quote(k), quote(v)) for k, v in query))]
            + ["%s:%s" % (n, " ".join(headers[n].split())) for n in names]
            + ["", ";".join(names), payload])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", date, self.scope(date),
                             hashlib.sha256(canonical.encode()).hexdigest()])
        return hmac.new(self.key(date), to_sign.encode(), hashlib.sha256).hexdigest()

    def sign(self, method, path, query, headers, payload, date, unsigned=()):
        headers["x-amz-date"] = date
        headers["x-amz-content-sha256"] = payload
        if self.token:
            headers["x-amz-security-token"] = self.token
        lower = {name.lower(): value for name, value in headers.items()}
        names = sorted(name for name in lower
                       if name not in unsigned and name not in ("expect", "content-length"))
        signature = self.signature(date, method, path, query, lower, names, payload)
        headers["Authorization"] = (
            "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s"
            % (self.access, self.scope(date), ";".join(names), signature))
        return signature

    def presign(self, server, method, key, expires=60, date=None):
        date = date or amz_date()
        path = "/" + quote(BUCKET + "/" + key, "-_.~/")
        host = "127.0.0.1:%d" % server.port
        query = [("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                 ("X-Amz-Credential", "%s/%s" % (self.access, self.scope(date))),
                 ("X-Amz-Date", date), ("X-Amz-Expires", str(expires)),
                 ("X-Amz-SignedHeaders", "host")]
        signature = self.signature(date, method, path, query, {"host": host}, ["host"],
                                   "UNSIGNED-PAYLOAD")
        return path + "?" + urllib.parse.urlencode(query + [("X-Amz-Signature", signature)])


class Reply:
    def __init__(self, response, body):
        self.status, self.body = response.status, body
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.etag = self.headers.get("etag", "").strip('"')

    @property
    def code(self):
        found = re.search(rb"<Code>(.*?)</Code>", self.body)
        return found.group(1).decode() if found else ""

    def xml(self):
        return ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", self.body))

    def text(self, name):
        return self.xml().findtext(name)


class Client:
    """One request per connection, unless `keep` is given."""

    def __init__(self, server, signer=None, host=None):
        self.server = server
        self.signer = signer or Signer()
        self.host = host or "127.0.0.1:%d" % server.port

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=DEADLINE_S)

    def head_bytes(self, method, key, query=(), headers=(), body=b"", payload=None, date=None,
                   path=None, unsigned=(), length=None):
        """The request's head as it goes over the wire, and the signature."""
        query = list(query.items() if isinstance(query, dict) else query)
        path = path or "/" + quote(BUCKET + ("/" + key if key is not None else ""), "-_.~/")
        headers = dict(headers)
        headers["Host"] = self.host
        if payload is None:
            payload = hashlib.sha256(body).hexdigest()
        signature = None
        if self.signer.access:
            signature = self.signer.sign(method, path, query, headers, payload,
                                         date or amz_date(), unsigned)
        if body or method in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body) if length is None else length)
        target = path + ("?" + "&".join("%s=%s" % (quote(k), quote(v)) for k, v in query)
                         if query else "")
        lines = ["%s %s HTTP/1.1" % (method, target)]
        lines += ["%s: %s" % item for item in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode(), signature

    def open(self, method, key, **options):
        """A socket on which the head was sent."""
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE_S)
        sock.sendall(self.head_bytes(method, key, **options)[0])
        return sock

    @staticmethod
    def receive(sock, method):
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        return Reply(response, response.read())

    def call(self, method, key=None, query=(), headers=(), body=b"", **options):
        with self.open(method, key, query=query, headers=headers, body=body, **options) as sock:
            sock.sendall(body)
            return self.receive(sock, method)

    def put(self, key, body=b"", headers=(), **options):
        return self.call("PUT", key, headers=headers, body=body, **options)

    def get(self, key, **options):
        return self.call("GET", key, **options)

    def head(self, key, **options):
        return self.call("HEAD", key, **options)

    def delete(self, key, **options):
        return self.call("DELETE", key, **options)

    def list(self, decode=True, **query):
        query = {name.replace("_", "-"): str(value) for name, value in query.items()}
        reply = self.call("GET", None, query={"list-type": "2", **query})
        equal(reply.status, 200, reply.body.decode(errors="replace"))
        page = reply.xml()
        keys = [(element.findtext("Key"), int(element.findtext("Size")))
                for element in page.iter("Contents")]
        prefixes = [element.findtext("Prefix") for element in page.iter("CommonPrefixes")]
        if decode and query.get("encoding-type") == "url":
            keys = [(urllib.parse.unquote_plus(key), size) for key, size in keys]
            prefixes = [urllib.parse.unquote_plus(prefix) for prefix in prefixes]
        return page, [key for key, _ in keys], prefixes

    def list_all(self, **query):
        keys, prefixes, pages, token = [], [], 0, {}
        while True:
            page, some, below = self.list(encoding_type="url", **query, **token)
            keys, prefixes, pages = keys + some, prefixes + below, pages + 1
            equal(int(page.findtext("KeyCount")), len(some) + len(below))
            if page.findtext("IsTruncated") == "false":
                check(page.findtext("NextContinuationToken") is None, "token on the last page")
                return keys, prefixes, pages
            token = {"continuation_token": page.findtext("NextContinuationToken")}

    # multipart

    def create(self, key, headers=()):
        reply = self.call("POST", key, query={"uploads": ""}, headers=headers)
        equal(reply.status, 200, reply.code)
        return reply.text("UploadId")

    def part(self, key, upload, number, body, headers=()):
        return self.put(key, body, headers, query={"uploadId": upload, "partNumber": str(number)})

    def complete(self, key, upload, parts, headers=()):
        body = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % "".join(
            "<Part><PartNumber>%d</PartNumber><ETag>\"%s\"</ETag></Part>" % part for part in parts)
        return self.call("POST", key, query={"uploadId": upload}, headers=headers,
                         body=body.encode())


def one(server_args=(), **options):
    """Runs the test with a server and a client of its own."""
    def decorate(function):
        def run():
            with Server(*server_args, **options) as server:
                return function(server, Client(server))
        run.__name__ = function.__name__
        TESTS.append(run)
        return run
    return decorate


def refused(reply, status, code):
    equal((reply.status, reply.code), (status, code))


def expect_reset(action):
    try:
        action()
    except ConnectionResetError:
        return
    raise AssertionError("no RST")


# --- objects ---


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
    """Of many writers with If-None-Match exactly one wins."""
    replies = []
    threads = [threading.Thread(target=lambda n=n: replies.append(
        (client.put("k", b"%d" % n, {"if-none-match": "*"}).status, b"%d" % n)))
        for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [body for status, body in replies if status == 200]
    equal(sorted(status for status, _ in replies), [200] + 15 * [412])
    equal(client.get("k").body, won[0])


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


# --- signatures ---


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
    body = b"<Delete><Object><Key>outside</Key></Object><Object><Key>in/side/k</Key></Object></Delete>"
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
    if lead:
        headers.update(lead)
    return client.put(key, body, headers, payload=kind, date=date)


@one()
def chunked_signed(server, client):
    chunks = [os.urandom(65536), os.urandom(65536), os.urandom(17)]
    reply = chunked_put(client, "k", chunks)
    equal(reply.status, 200)
    reply = client.get("k")
    equal(reply.body, b"".join(chunks))
    check("content-encoding" not in reply.headers, "aws-chunked was kept")
    refused(chunked_put(client, "bad", [b"abc" * 9], spoil=lambda b: b.replace(b"abcabc", b"abcabd", 1)),
            403, "SignatureDoesNotMatch")
    refused(chunked_put(client, "bad", [b"abc"], spoil=lambda b: b[:-20]), 400, "IncompleteBody")
    refused(chunked_put(client, "bad", [b"abc"], spoil=lambda b: b.replace(b";chunk-sig", b";chunk-xig")),
            400, "InvalidRequest")
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
    body = ("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a</Key></Object>"
            "<Object><Key>b&amp;&lt;c</Key></Object><Object><Key>none</Key></Object></Delete>")
    reply = client.call("POST", None, query={"delete": ""}, body=body.encode())
    equal([e.text for e in reply.xml().iter("Key")], ["a", "b&<c", "none"])
    equal(client.list()[1], ["d"])
    body = "<Delete><Quiet>true</Quiet><Object><Key>d</Key></Object></Delete>"
    reply = client.call("POST", None, query={"delete": ""}, body=body.encode())
    equal(len(reply.xml()), 0)
    equal(client.list()[1], [])
    refused(client.call("POST", None, query={"delete": ""}, body=b"<Delete>"), 400, "MalformedXML")


# --- keys and listings ---


@one()
def odd_keys_round_trip(server, client):
    for key in ODD_KEYS:
        data = key.encode() + b"!"
        equal(client.put(key, data, crc64(data)).status, 200, key)
    for key in ODD_KEYS:
        equal(client.get(key).body, key.encode() + b"!", key)
    keys, _, pages = client.list_all()
    equal(keys, sorted(ODD_KEYS, key=lambda k: k.encode()))
    equal(pages, 1)
    server.stop()
    server.start()
    client = Client(server)
    equal(client.list_all()[0], keys)
    for key in ODD_KEYS:
        equal(client.get(key).body, key.encode() + b"!", key)
        equal(client.delete(key).status, 204)
    equal(client.list_all()[0], [])
    equal(os.listdir(server.path(BUCKET)), [])
    equal(os.listdir(server.path(".s3d", BUCKET, "odd")), [])


@one()
def odd_keys_on_disk(server, client):
    """The places s3d_store.c promises."""
    for key in ("a b+%ü~.tif", "a//b", "x/../y", ".", "dir/", "both", "both/below", "n" * 256,
                "m" * 300 + "ü/"):
        client.put(key, b"data of " + key.encode()[:20])
    for key, place in (("a b+%ü~.tif", (BUCKET, "a b+%ü~.tif")),
                       ("a//b", (".s3d", BUCKET, "odd", "a%2F%2Fb")),
                       ("x/../y", (".s3d", BUCKET, "odd", "x%2F..%2Fy")),
                       (".", (".s3d", BUCKET, "odd", "%2E")),
                       ("dir/", (".s3d", BUCKET, "odd", "dir%2F")),
                       ("both", (BUCKET, "both")),
                       ("both/below", (".s3d", BUCKET, "odd", "both%2Fbelow")),
                       ("n" * 256, (".s3d", BUCKET, "odd",
                                    "=" + hashlib.sha256(b"n" * 256).hexdigest()))):
        with open(server.path(*place), "rb") as file:
            equal(file.read(), b"data of " + key.encode()[:20], key)
    check(not os.path.exists(server.path("y")), "a key escaped from its bucket")


@one()
def listing_pages(server, client):
    keys = sorted(ODD_KEYS + ["p/%03d" % n for n in range(25)], key=lambda k: k.encode())
    for key in keys:
        client.put(key, b"1")
    for size in (1, 2, 7, 1000):
        got, _, pages = client.list_all(max_keys=size)
        equal(got, keys)
        equal(pages, -(-len(keys) // size))
    for prefix in ("p/", "p/01", "a", "trailing/", "nothing", "both/"):
        want = [key for key in keys if key.startswith(prefix)]
        equal(client.list_all(prefix=prefix, max_keys=3)[0], want, prefix)
    for after in ("p/005", "p/", "zzz", "", "a b/c+d%e~f/ü.tif"):
        want = [key for key in keys if key.encode() > after.encode()]
        equal(client.list_all(start_after=after, max_keys=10)[0], want, after)
    equal(client.list_all(prefix="p/", start_after="p/020")[0], ["p/02%d" % n for n in range(1, 5)])
    page, some, _ = client.list(max_keys=0)
    equal((some, page.findtext("IsTruncated")), ([], "false"))
    refused(client.call("GET", None, query={"list-type": "2", "continuation-token": "x"}), 400,
            "InvalidArgument")
    refused(client.call("GET", None, query={"list-type": "2", "max-keys": "x"}), 400,
            "InvalidArgument")


def rolled_up(keys, prefix, delimiter):
    entries = []
    for key in sorted(keys, key=lambda k: k.encode()):
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix))
        entry = key if at < 0 else key[:at + len(delimiter)]
        if entry not in entries:
            entries.append(entry)
    return entries


@one()
def listing_delimiter(server, client):
    keys = ODD_KEYS + ["p/%d/%d" % (a, b) for a in range(6) for b in range(3)] + ["p/0", "p0"]
    for key in keys:
        client.put(key, b"1")
    for prefix in ("", "p/", "p/1", "a/", "x/", "both", "both/", "/"):
        for delimiter in ("/", "//", "1/", "ü"):
            want = rolled_up(keys, prefix, delimiter)
            for size in (1, 3, 1000):
                got, prefixes, _ = client.list_all(prefix=prefix, delimiter=delimiter,
                                                   max_keys=size)
                equal(sorted(got + prefixes, key=lambda k: k.encode()), want,
                      (prefix, delimiter, size))
    _, got, prefixes = client.list(prefix="p/", delimiter="/", start_after="p/3/")
    equal((got, prefixes), ([], ["p/4/", "p/5/"]))
    _, got, prefixes = client.list(prefix="p/", delimiter="/", start_after="p/3/1")
    equal((got, prefixes), ([], ["p/3/", "p/4/", "p/5/"]))


@one()
def listing_encoding(server, client):
    client.put("a b+c%~ü*(x)/d'\"", b"1")
    page, keys, _ = client.list(decode=False, encoding_type="url", prefix="a b", delimiter="(",
                                start_after="a ")
    equal(page.findtext("CommonPrefixes/Prefix"), "a+b%2Bc%25%7E%C3%BC*%28")
    equal(page.findtext("Prefix"), "a+b")
    equal(page.findtext("Delimiter"), "%28")
    equal(page.findtext("StartAfter"), "a+")
    page, keys, _ = client.list(decode=False, encoding_type="url")
    equal(keys, ["a+b%2Bc%25%7E%C3%BC*%28x%29/d%27%22"])
    page, keys, _ = client.list()
    equal(keys, ["a b+c%~ü*(x)/d'\""])
    equal(page.findtext("Contents/ETag"), '"%s"' % md5(b"1"))
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z",
                       page.findtext("Contents/LastModified")), "LastModified")
    client.put("ctl\x01", b"1")
    check(b"<Key>ctl&#x1;</Key>" in client.call("GET", None, query={"list-type": "2"}).body,
          "control character")
    equal(client.list(fetch_owner="true", encoding_type="url")[0].findtext("Contents/Owner/ID"),
          ACCESS)


@one()
def listing_v1(server, client):
    keys = ["a", "b/1", "b/2", "c/1", "d"]
    for key in keys:
        client.put(key, b"1")
    got, marker = [], ""
    while True:
        page = client.call("GET", None, query={"max-keys": "2", "marker": marker}).xml()
        got += [e.findtext("Key") for e in page.iter("Contents")]
        check(page.findtext("NextMarker") is None, "NextMarker without a delimiter")
        if page.findtext("IsTruncated") == "false":
            break
        marker = got[-1]
    equal(got, keys)
    got, marker = [], ""
    while True:
        page = client.call("GET", None, query={"max-keys": "1", "delimiter": "/",
                                               "marker": marker}).xml()
        got += [e.text for e in page.iter("Key")]
        got += [e.findtext("Prefix") for e in page.iter("CommonPrefixes")]
        if page.findtext("IsTruncated") == "false":
            break
        marker = page.findtext("NextMarker")
    equal(got, ["a", "b/", "c/", "d"])


@one(["--page-size", "3"])
def page_size(server, client):
    for n in range(8):
        client.put("k%d" % n, b"1")
    keys, _, pages = client.list_all()
    equal((len(keys), pages), (8, 3))


# --- the store ---


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
    server.put_file("f/found", b"1")
    equal(client.head("f/found").etag, md5(b"1"))
    equal(client.list(prefix="f/")[1], ["f/found"])
    server.put_file("d/kept", b"tampered")
    refused(client.put("d/kept", b"x", {"if-match": '"%s"' % md5(b"kept")}), 412,
            "PreconditionFailed")
    server.put_file("g", b"1")
    refused(client.put("g", b"x", {"if-none-match": "*"}), 412, "PreconditionFailed")


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
    equal(client.put("a/b", data, crc64(data)).status, 200)
    reply = client.get("a/b", headers={"range": "bytes=10-19"})
    equal((reply.status, reply.body), (206, b"\0" * 10))
    equal(int(client.head("a/b").headers["content-length"]), len(data))
    upload = client.create("m")
    parts = [(n, client.part("m", upload, n, b"x" * (5 << 20)).etag) for n in (1, 2)]
    equal(client.complete("m", upload, parts).status, 200)
    equal(client.list()[1], ["a/b", "m"])
    equal(os.listdir(server.path(BUCKET)), [])
    server.stop()
    server.start()
    equal(Client(server).list()[1], ["a/b", "m"])


# --- multipart ---


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
    equal(client.complete("k", upload, [(1, md5(data[100:300])), (2, reply2.text("ETag").strip('"'))],
                          crc64(whole)).status, 200)
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


# --- faults ---


@one()
def fault_status(server, client):
    server.faults('PutObject n=2 status=503 code=SlowDown message="Slow down, please"')
    equal(client.put("k", b"1").status, 200)
    reply = client.put("k", b"2")
    refused(reply, 503, "SlowDown")
    equal(reply.text("Message"), "Slow down, please")
    equal(client.get("k").body, b"1")
    equal(client.put("k", b"3").status, 200)
    equal(server.stats()["faults_applied"], 1)


@one()
def fault_counts(server, client):
    def statuses(rule, times=8):
        server.faults(rule)
        return [client.put("k", b"1").status for _ in range(times)]

    ok, bad = 200, 500
    equal(statuses("PutObject n=3-5 status=500"), [ok, ok, bad, bad, bad, ok, ok, ok])
    equal(statuses("PutObject n=2+ times=2 status=500"), [ok, bad, bad, ok, ok, ok, ok, ok])
    equal(statuses("PutObject every=3 status=500"), [ok, ok, bad, ok, ok, bad, ok, ok])
    equal(statuses("PutObject always status=500", 3), [bad] * 3)
    equal(statuses("Put* always status=500", 1), [bad])
    equal(statuses("* times=1 status=500", 2), [bad, ok])
    equal(statuses("GetObject always status=500", 2), [ok, ok])
    equal(statuses("PutObject key=other/* always status=500", 2), [ok, ok])
    server.faults("PutObject key=a*/?.tif always status=500")
    equal([client.put(key).status for key in ("ab/c/d.tif", "ab/cd.tif", "ab/c.tif")],
          [bad, ok, bad])


@one()
def fault_counters_outlive_edits(server, client):
    server.faults("PutObject n=3 status=500")
    equal(client.put("k", b"1").status, 200)
    server.faults("GetObject always status=503", "PutObject n=3 status=500")
    equal(client.put("k", b"1").status, 200)
    equal(client.put("k", b"1").status, 500)
    server.faults("PutObject n=3 status=501")
    equal(client.put("k", b"1").status, 200)
    server.faults()
    equal(client.get("k").status, 200)


@one()
def fault_bad_lines(server, client):
    server.faults("PutObject n=x status=500", "PutObject", "PutObject nonsense", "PutObject every=0 status=500",
                  "PutObject status=", "PutObject at=nowhere status=500", "PutObject reset-before=1",
                  "PutObject n=1 status=500")
    equal(client.put("k", b"1").status, 500)
    equal(server.stats()["fault_script_bad_lines"], 7)
    check("nonsense" in server.stderr(), "not reported")


@one()
def fault_delay(server, client):
    server.faults("PutObject n=1 delay=300")
    start = time.monotonic()
    equal(client.put("k", b"1").status, 200)
    check(time.monotonic() - start >= 0.3, "no delay")
    check(int(server.log("PutObject")[0]["duration_ms"]) >= 300, "not in the log")


@one(["--delay-ms", "200"])
def option_delay(server, client):
    start = time.monotonic()
    equal(client.put("k", b"1").status, 200)
    check(0.2 <= time.monotonic() - start < 2, "not 200 ms")


@one()
def fault_reset_before(server, client):
    server.faults("PutObject n=1 reset-before", "PutObject n=2 reset-before at=headers",
                  "PutObject n=3 reset-before at=mid-body after=100000")
    for _ in range(3):
        expect_reset(lambda: client.put("k", b"1" * 200000))
    equal(client.get("k").status, 404)
    equal([(row["status"], row["code"]) for row in server.log("PutObject")], [("0", "Reset")] * 3)
    equal(client.put("k", b"2").status, 200)
    equal(server.temporaries(), [])


@one()
def fault_reset_after(server, client):
    server.faults("PutObject n=1 reset-after", "DeleteObject n=1 reset-after")
    expect_reset(lambda: client.put("k", b"1"))
    equal(client.get("k").body, b"1")
    expect_reset(lambda: client.delete("k"))
    equal(client.get("k").status, 404)


@one()
def fault_cut_body(server, client):
    client.put("k", b"x" * 300000)
    server.faults("GetObject n=1 cut-body=100000", "ListObjectsV2 n=1 cut-body=50",
                  "GetObject n=2 cut-body=0")
    for length, call in ((100000, lambda: client.get("k")),
                         (50, lambda: client.list()), (0, lambda: client.get("k"))):
        try:
            call()
        except http.client.IncompleteRead as error:
            equal(len(error.partial), length)
        else:
            raise AssertionError("body was not cut")
    equal(client.get("k").body, b"x" * 300000)


@one(["--min-part-size", "1"])
def fault_empty_body(server, client):
    upload = client.create("k")
    etag = client.part("k", upload, 1, b"1").etag
    server.faults("CompleteMultipartUpload n=1 empty-body no-apply",
                  "CompleteMultipartUpload n=2 empty-body", "ListObjectsV2 n=1 empty-body")
    for there in (404, 200):
        reply = client.complete("k", upload, [(1, etag)])
        equal((reply.status, reply.body), (200, b""))
        equal(client.get("k").status, there)
    reply = client.call("GET", None, query={"list-type": "2"})
    equal((reply.status, reply.body), (200, b""))


@one()
def fault_stall(server, client):
    client.put("k", b"x" * 1000)
    server.faults("GetObject n=1 stall=300 after=400", "GetObject n=2 stall=forever after=10",
                  "PutObject n=1 stall=300 after=1000", "PutObject n=2 stall=forever after=1000",
                  "PutObject n=3 stall=300 of=response")
    start = time.monotonic()
    equal(client.get("k").body, b"x" * 1000)
    check(time.monotonic() - start >= 0.3, "GET did not stall")
    with client.open("GET", "k") as sock:
        got = b""
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < 10:
            got += sock.recv(4096)
        equal(got.split(b"\r\n\r\n", 1)[1], b"x" * 10)
        sock.settimeout(0.2)
        try:
            equal(sock.recv(1), None)
        except socket.timeout:
            pass
    start = time.monotonic()
    equal(client.put("k", b"y" * 2000).status, 200)
    check(time.monotonic() - start >= 0.3, "PUT did not stall")
    with client.open("PUT", "k", body=b"z" * 2000) as sock:
        sock.sendall(b"z" * 2000)
        sock.settimeout(0.2)
        try:
            equal(sock.recv(1), None)
        except socket.timeout:
            pass
    wait_for(lambda: [r for r in server.log("PutObject") if r["status"] == "0"], "its end")
    equal(client.get("k").body, b"y" * 2000)
    start = time.monotonic()
    equal(client.put("k", b"w").status, 200)
    check(time.monotonic() - start >= 0.3, "reply did not stall")


@one()
def fault_stall_ends_with_server(server, client):
    server.faults("PutObject always hold=%s/never" % server.dir, "GetObject always stall=forever")
    with client.open("PUT", "k", body=b"1") as put, client.open("GET", "k") as get:
        put.sendall(b"1")
        wait_for(lambda: server.stats()["current_requests"] == 2, "both to hang")
        start = time.monotonic()
        equal(server.stop(), 0)
        check(time.monotonic() - start < 5, "slow to stop")
        get.close()
    check(not os.path.exists(server.path(BUCKET, "k")), "a held PUT was applied")


@one()
def fault_hold(server, client):
    gate = os.path.join(server.dir, "gate%d")
    server.faults("PutObject n=1 hold=%s" % (gate % 1),
                  "PutObject n=2 hold=%s at=after-apply" % (gate % 2),
                  "PutObject n=3 hold=%s at=mid-body after=150000" % (gate % 3),
                  "PutObject n=4 hold=%s" % (gate % 4))
    for number, seen in ((1, 404), (2, 200), (3, 404)):
        key, replies = "k%d" % number, []
        thread = threading.Thread(target=lambda k=key: replies.append(client.put(k, b"1" * 300000)))
        thread.start()
        wait_for(lambda: server.stats()["current_requests"] == 1, "the hold")
        if seen == 200:
            wait_for(lambda k=key: client.get(k).status == 200, "what was applied")
        equal(client.get(key).status, seen)
        equal(replies, [])
        with open(gate % number, "w"):
            pass
        thread.join(DEADLINE_S)
        equal(replies[0].status, 200)
        equal(client.get(key).status, 200)
    with client.open("PUT", "k4", body=b"1") as sock:
        sock.sendall(b"1")
        wait_for(lambda: server.stats()["current_requests"] == 1, "the hold")
    with open(gate % 4, "w"):
        pass
    wait_for(lambda: client.get("k4").status == 200, "a PUT whose client had left")


@one(["--min-part-size", "1"])
def fault_200_error(server, client):
    client.put("s", b"1")
    upload = client.create("k")
    etag = client.part("k", upload, 1, b"1").etag
    server.faults("CompleteMultipartUpload n=1 200-error code=InternalError leading-space",
                  "CopyObject n=1 200-error code=SlowDown", "CopyObject n=2 200-error apply")
    reply = client.complete("k", upload, [(1, etag)])
    refused(reply, 200, "InternalError")
    check(reply.body.startswith(b"  \n"), "no leading space")
    equal(int(reply.headers["content-length"]), len(reply.body))
    equal(client.get("k").status, 404)
    equal(client.complete("k", upload, [(1, etag)]).status, 200)
    source = {"x-amz-copy-source": BUCKET + "/s"}
    refused(client.put("c", headers=source), 200, "SlowDown")
    equal(client.get("c").status, 404)
    refused(client.put("c", headers=source), 200, "InternalError")
    equal(client.get("c").body, b"1")


@one(["--min-part-size", "1"])
def fault_tags(server, client):
    data = b"data"
    server.faults("PutObject n=1 no-etag", "PutObject n=2 no-checksum", "PutObject n=3 wrong-etag",
                  "PutObject n=4 wrong-checksum", "HeadObject n=1 wrong-etag wrong-checksum",
                  "ListObjectsV2 n=1 no-etag", "ListObjectsV2 n=2 wrong-etag",
                  "CompleteMultipartUpload n=1 wrong-etag wrong-checksum",
                  "CompleteMultipartUpload n=2 no-etag no-checksum")
    want = (md5(data), checksum("crc64nvme", data))

    def tags(reply):
        return reply.etag, reply.headers.get("x-amz-checksum-crc64nvme", "")

    replies = [tags(client.put("k", data, crc64(data))) for _ in range(4)]
    equal(replies[0], ("", want[1]))
    equal(replies[1], (want[0], ""))
    for got, wrong in ((replies[2], (True, False)), (replies[3], (False, True)),
                       (tags(client.head("k", headers={"x-amz-checksum-mode": "ENABLED"})),
                        (True, True))):
        equal((got[0] != want[0], got[1] != want[1]), wrong, got)
        equal((len(got[0]), len(got[1])), (32, 12))
    equal(client.list()[0].findtext("Contents/ETag"), None)
    equal(len(client.list()[0].findtext("Contents/ETag")), 34)
    equal(client.list()[0].findtext("Contents/ETag"), '"%s"' % want[0])
    for spoilt in (True, False):
        upload = client.create("m")
        etag = client.part("m", upload, 1, data).etag
        reply = client.complete("m", upload, [(1, etag)])
        got = (reply.text("ETag"), reply.text("ChecksumCRC64NVME"))
        good = ('"%s-1"' % md5(hashlib.md5(data).digest()), want[1])
        if spoilt:
            check(got[0] != good[0] and got[1] != good[1] and None not in got, got)
        else:
            equal(got, (None, None))
        equal(client.head("m").etag, good[0].strip('"'))


@one()
def fault_wrong_length(server, client):
    client.put("k", b"x" * 1000)
    server.faults("HeadObject n=1 wrong-content-length", "HeadObject n=2 wrong-content-length=-1",
                  "GetObject n=1 wrong-content-length=5")
    equal([client.head("k").headers["content-length"] for _ in range(3)], ["1007", "999", "1000"])
    try:
        client.get("k")
    except http.client.IncompleteRead as error:
        equal((len(error.partial), error.expected), (1000, 5))
    else:
        raise AssertionError("length was right")


@one()
def fault_bad_xml(server, client):
    client.put("k", b"1")
    server.faults("ListObjectsV2 n=1 garbage-xml", "ListObjectsV2 n=2 huge-xml=5000000",
                  "ListObjectsV2 n=3 entity-bomb", "PutObject n=1 status=500 garbage-xml")

    def listing():
        reply = client.call("GET", None, query={"list-type": "2"})
        equal(reply.status, 200)
        return reply

    try:
        listing().xml()
        raise AssertionError("not garbage")
    except ElementTree.ParseError:
        pass
    reply = listing()
    check(5000000 <= len(reply.body) < 5001000, "huge: %d" % len(reply.body))
    check(len(reply.xml().findall("Contents")) > 90000, "huge, but empty")
    body = listing().body
    check(body.count(b"<!ENTITY") == 30 and b"&e29;" in body, "no bomb")
    equal(client.list()[1], ["k"])
    reply = client.put("k", b"2")
    check(reply.status == 500 and b"<Code>" not in reply.body, "no garbage in the error")
    equal(client.get("k").body, b"1")


@one()
def fault_tokens(server, client):
    for n in range(6):
        client.put("k%d" % n, b"1")
    server.faults("ListObjectsV2 n=2 repeat-token", "ListObjectsV2 n=4 repeat-token",
                  "ListObjectsV2 n=6 missing-token")
    token = client.list(max_keys=2)[0].findtext("NextContinuationToken")
    page, keys, _ = client.list(max_keys=2, continuation_token=token)
    equal((page.findtext("NextContinuationToken"), page.findtext("IsTruncated"), keys),
          (token, "true", ["k2", "k3"]))
    equal(client.list(max_keys=2, continuation_token=token)[1], ["k2", "k3"])
    page, keys, _ = client.list(max_keys=2)
    again = client.list(max_keys=2, continuation_token=page.findtext("NextContinuationToken"))
    equal((keys, again[1]), (["k0", "k1"], ["k0", "k1"]))
    page, keys, _ = client.list()
    equal((page.findtext("IsTruncated"), page.findtext("NextContinuationToken"), len(keys)),
          ("true", None, 6))


@one()
def fault_redirect(server, client):
    server.faults("PutObject n=1 redirect=http://127.0.0.1:1/x",
                  "PutObject n=2 redirect=http://other.example/ status=301")
    reply = client.put("k", b"1")
    refused(reply, 307, "TemporaryRedirect")
    equal(reply.headers["location"], "http://127.0.0.1:1/x")
    reply = client.put("k", b"1")
    refused(reply, 301, "PermanentRedirect")
    equal(client.get("k").status, 404)


@one()
def fault_skew(server, client):
    server.faults("GetObject n=1 skew-date=3600", "GetObject n=2 skew-date=-3600")
    for offset in (3600, -3600):
        reply = client.get("k")
        refused(reply, 403, "RequestTimeTooSkewed")
        date = datetime.datetime.strptime(reply.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        check(abs((date - now).total_seconds() - offset) < 10, date)
        check(reply.text("ServerTime").startswith(date.strftime("%Y-%m-%dT%H:")), "ServerTime")
    server.faults("GetObject always skew-date=3600")
    refused(client.get("k", date=amz_date(3600)), 404, "NoSuchKey")


@one()
def fault_expire_token(server, client):
    server.faults("PutObject n=1 expire-token")
    refused(client.put("k", b"1"), 400, "ExpiredToken")
    equal(client.put("k", b"1").status, 200)


@one()
def fault_at_headers(server, client):
    server.faults("PutObject n=1 status=503 code=SlowDown at=headers")
    with client.open("PUT", "k", body=b"x" * 1000) as sock:
        refused(client.receive(sock, "PUT"), 503, "SlowDown")
    equal(server.log("PutObject")[0]["bytes_in"], "0")


@one()
def fault_apply(server, client):
    server.faults("PutObject n=1 status=500 apply", "PutObject n=2 status=409 code=ConditionalRequestConflict")
    refused(client.put("k", b"1"), 500, "InternalError")
    equal(client.get("k").body, b"1")
    refused(client.put("k", b"2", {"if-match": md5(b"1")}), 409, "ConditionalRequestConflict")
    equal(client.get("k").body, b"1")


# --- log, command line ---


@one()
def request_log(server, client):
    server.faults("PutObject n=2 status=503 code=SlowDown")
    client.put("a b/ü", b"data", {"x-amz-acl": "private", "content-type": "t/x",
                                  "if-none-match": "*", **crc64(b"data")})
    client.put("k", b"x", {"if-match": '"e"'}, payload="UNSIGNED-PAYLOAD")
    client.get("a b/ü", headers={"range": "bytes=1-2"})
    rows = server.log()
    equal(len(rows), 3)
    first, second, third = rows
    want = {"operation": "PutObject", "bucket": BUCKET, "key": "a%20b/%C3%BC", "query": "-",
            "status": "200", "code": "-", "bytes_in": "4", "bytes_out": "0", "acl": "private",
            "content_type": "t/x", "if_match": "-", "if_none_match": "*", "payload": "sha256",
            "checksum": "CRC64NVME=" + checksum("crc64nvme", b"data"), "fault": "-", "range": "-"}
    equal({name: first[name] for name in want}, want)
    check(abs(int(first["time_ms"]) / 1000 - time.time()) < 60, "time_ms")
    equal((second["status"], second["code"], second["fault"], second["payload"],
           second["if_match"]),
          ("503", "SlowDown", "status=503 code=SlowDown", "unsigned", '"e"'))
    equal((third["operation"], third["status"], third["bytes_out"], third["range"]),
          ("GetObject", "206", "2", "bytes=1-2"))
    stats = server.stats()
    equal(stats["requests"], {"PutObject": {"200": 1, "503": 1}, "GetObject": {"206": 1}})
    equal((stats["current_requests"], stats["max_requests"]), (0, 1))
    check(SECRET not in str(rows) and "Signature" not in str(rows), "secrets in the log")


@test
def command_line():
    def run(*args):
        return subprocess.run([S3D, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=DEADLINE_S, text=True)

    shown = run("--help")
    equal(shown.returncode, 0)
    for option in ("listen", "port-file", "root", "key", "bucket", "region", "fault-script",
                   "request-log", "require-acl", "crc64nvme", "conditions", "delay-ms", "sink",
                   "etag", "page-size", "min-part-size"):
        check("--%s " % option in shown.stdout, option)
    with tempfile.TemporaryDirectory() as root:
        for args in ((), ("--root",), ("--root", root, "x"), ("--root", root, "--key", "only"),
                     ("--root", root, "--listen", "nowhere"), ("--root", root, "--delay-ms", "x"),
                     ("--root", root, "--page-size", "1001"), ("--root", root, "--nonsense"),
                     ("--root", root, "--crc64nvme", "maybe")):
            equal(run(*args).returncode, 2, args)
        equal(run("--root", root + "/a/b").returncode, 1)
        equal(run("--root", root, "--bucket", "B d").returncode, 1)
    with Server() as server:
        taken = run("--root", server.dir + "/r2", "--listen", "127.0.0.1:%d" % server.port)
        equal(taken.returncode, 1)
        check("cannot listen" in taken.stderr, taken.stderr)


# --- real clients ---


def tool_environment(server):
    environment = {k: v for k, v in os.environ.items()
                   if not k.upper().endswith("_PROXY") and not k.startswith(("AWS_", "RCLONE_"))}
    environment.update({
        "HOME": server.dir, "LC_ALL": "C.UTF-8", "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true", "RCLONE_CONFIG_S3D_TYPE": "s3",
        "RCLONE_CONFIG_S3D_PROVIDER": "Other", "RCLONE_CONFIG_S3D_ENV_AUTH": "true",
        "RCLONE_CONFIG_S3D_REGION": REGION,
        "RCLONE_CONFIG_S3D_ENDPOINT": "http://127.0.0.1:%d" % server.port})
    return environment


def tool(server, *command):
    done = subprocess.run(command, env=tool_environment(server), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, text=True)
    check(done.returncode == 0, "%s: %s" % (" ".join(command), done.stdout))
    return done.stdout


def sample_tree(folder):
    names = ["empty.txt", "plate 1/r01c01f01p01-ch1sk1fk1fl1.tiff", "plate 1/a+b%~ü.tiff",
             "plate 1/sub/Index.idx.xml", "big.bin"]
    for n, name in enumerate(names):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.urandom(20 << 20 if name == "big.bin" else n * 1000))
    return names


def same_trees(a, b):
    compared = filecmp.dircmp(a, b)
    check(not (compared.left_only or compared.right_only or compared.funny_files),
          "%s and %s differ: %s %s" % (a, b, compared.left_only, compared.right_only))
    _, wrong, errors = filecmp.cmpfiles(a, b, compared.common_files, shallow=False)
    equal(wrong + errors, [])
    for name in compared.common_dirs:
        same_trees(os.path.join(a, name), os.path.join(b, name))


@one(["--require-acl", "bucket-owner-full-control"])
def aws_cli(server, client):
    if not os.access("/usr/bin/aws", os.X_OK):
        return "SKIP no /usr/bin/aws"
    source, back = server.dir + "/source", server.dir + "/back"
    names = sample_tree(source)
    s3 = ("/usr/bin/aws", "--endpoint-url", "http://127.0.0.1:%d" % server.port, "s3")
    acl = ("--acl", "bucket-owner-full-control")
    target = "s3://%s/x/" % BUCKET
    tool(server, *s3, "cp", "--recursive", *acl, source, target)
    same_trees(source, server.path(BUCKET, "x"))
    check(server.log("CompleteMultipartUpload"), "big.bin was not sent in parts")
    puts = len(server.log("PutObject")) + len(server.log("UploadPart"))
    tool(server, *s3, "sync", *acl, source, target)
    equal(len(server.log("PutObject")) + len(server.log("UploadPart")), puts)
    tool(server, *s3, "sync", target, back)
    same_trees(source, back)
    listed = tool(server, *s3, "ls", "--recursive", target)
    equal(sorted(line[31:] for line in listed.splitlines()), sorted("x/" + n for n in names))
    listed = tool(server, *s3, "ls", target)
    check("PRE plate 1/" in listed and "big.bin" in listed, listed)
    tool(server, *s3, "cp", *acl, target + "big.bin", target + "copied.bin")
    check(server.log("UploadPartCopy") or server.log("CopyObject"), "no copy")
    same_trees(source, back)
    check(filecmp.cmp(source + "/big.bin", server.path(BUCKET, "x/copied.bin"), False), "copy")
    os.unlink(source + "/big.bin")
    tool(server, *s3, "sync", "--delete", *acl, source, target)
    same_trees(source, server.path(BUCKET, "x"))
    tool(server, *s3, "mb", "s3://another")
    check("another" in tool(server, *s3, "ls"), "mb")
    tool(server, *s3, "rm", "--recursive", "s3://%s" % BUCKET)
    equal(client.list()[1], [])
    equal([row for row in server.log() if row["status"] not in ("200", "204", "206")], [])


@one()
def rclone(server, client):
    if not os.access("/usr/bin/rclone", os.X_OK):
        return "SKIP no /usr/bin/rclone"
    source, back = server.dir + "/source", server.dir + "/back"
    names = sample_tree(source)
    target = "s3d:%s/y" % BUCKET
    tool(server, "/usr/bin/rclone", "copy", "--s3-chunk-size", "5M", "--s3-upload-cutoff", "5M",
         source, target)
    same_trees(source, server.path(BUCKET, "y"))
    equal(len(server.log("UploadPart")), 4)
    checked = tool(server, "/usr/bin/rclone", "check", "--download", source, target)
    check("0 differences found" in checked, checked)
    checked = tool(server, "/usr/bin/rclone", "check", source, target)
    check("0 differences found" in checked, checked)
    listed = tool(server, "/usr/bin/rclone", "lsl", target)
    equal(len([l for l in listed.splitlines() if "NOTICE" not in l]), len(names))
    tool(server, "/usr/bin/rclone", "copy", target, back)
    same_trees(source, back)
    tool(server, "/usr/bin/rclone", "delete", target)
    equal(client.list()[1], [])


def main():
    global S3D
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    S3D = os.path.abspath(sys.argv[1])
    failed = 0
    for function in TESTS:
        if sys.argv[2:] and not any(part in function.__name__ for part in sys.argv[2:]):
            continue
        name = "s3d: " + function.__name__.replace("_", " ")
        start = time.monotonic()
        try:
            skipped = function()
        except Exception:
            failed += 1
            print("not ok - " + name)
            print("".join("# " + line for line in traceback.format_exc().splitlines(True)))
        else:
            print("ok - %s # %s" % (name, skipped or "%.1f s" % (time.monotonic() - start)))
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
