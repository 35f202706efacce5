"""The request log and the command line."""

import subprocess
import tempfile
import time

import s3d_client
from s3d_client import (
    BUCKET, DEADLINE_S, SECRET, Server, check, checksum, crc64, equal, one, test, wait_for)

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
    equal(stats["max_requests"], 1)
    wait_for(lambda: server.stats()["current_requests"] == 0, "the GET to end")
    check(SECRET not in str(rows) and "Signature" not in str(rows), "secrets in the log")


@test
def command_line():
    def run(*args):
        return subprocess.run([s3d_client.S3D, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=DEADLINE_S, text=True)

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
