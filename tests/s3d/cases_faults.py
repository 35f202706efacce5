"""Every fault of the script."""

import datetime
import hashlib
import http.client
import os
import socket
import threading
import time
import xml.etree.ElementTree as ElementTree

from s3d_client import (
    BUCKET, DEADLINE_S, amz_date, check, checksum, crc64, equal, expect_reset, md5, one,
    refused, wait_for)

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
    server.faults("PutObject n=x status=500", "PutObject", "PutObject nonsense",
                  "PutObject every=0 status=500", "PutObject status=",
                  "PutObject at=nowhere status=500", "PutObject reset-before=1",
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
        wait_for(lambda n=number: os.path.exists(gate % n + ".held"), "the hold")
        equal(server.stats()["current_requests"], 1)
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
                  "ListObjectsV2 n=3 entity-bomb", "PutObject n=1 status=500 garbage-xml",
                  "ListObjectsV2 n=5 nul-xml")

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
    check(bytes(8) in listing().body, "no NUL bytes")
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


@one(["--min-part-size", "1"])
def fault_part_markers(server, client):
    upload = client.create("k")
    for number in (1, 2, 3):
        client.part("k", upload, number, b"x")
    server.faults("ListParts n=2-3 repeat-token", "ListParts n=4 missing-token")

    def page(marker):
        reply = client.call("GET", "k", query={"uploadId": upload, "max-parts": "1",
                                               "part-number-marker": marker}).xml()
        return [reply.findtext(name) for name in
                ("Part/PartNumber", "NextPartNumberMarker", "IsTruncated")]

    equal(page("1"), ["2", "2", "true"])
    equal(page("1"), ["2", "1", "true"])
    equal(page("2"), ["3", "2", "true"])
    equal(page("2"), ["3", None, "true"])


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
    server.faults("PutObject n=1 status=500 apply",
                  "PutObject n=2 status=409 code=ConditionalRequestConflict")
    refused(client.put("k", b"1"), 500, "InternalError")
    equal(client.get("k").body, b"1")
    refused(client.put("k", b"2", {"if-match": md5(b"1")}), 409, "ConditionalRequestConflict")
    equal(client.get("k").body, b"1")
