"""Starts s3d, and speaks S3 to it.

Signs by itself (Signature Version 4 from the specification) and speaks through sockets, so that it
can also send what no library would.
"""

import base64
import contextlib
import datetime
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
import tempfile
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zlib

S3D = None  # the server's path; set by test_s3d.py
TESTS = []
DEADLINE_S = 20
ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI+bPxRfiCY"
REGION = "us-east-1"
BUCKET = "testb"
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
    def __init__(self, access=ACCESS, secret=SECRET, token=None, region=REGION, service="s3"):
        self.access, self.secret, self.token, self.region = access, secret, token, region
        self.service = service

    def scope(self, date):
        return "%s/%s/%s/aws4_request" % (date[:8], self.region, self.service)

    def key(self, date):
        key = mac(("AWS4" + self.secret).encode(), date[:8])
        for part in (self.region, self.service, "aws4_request"):
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
    except http.client.RemoteDisconnected as error:  # is a ConnectionResetError, but means FIN
        raise AssertionError("closed, not reset") from error
    except ConnectionResetError:
        return
    raise AssertionError("no RST")
