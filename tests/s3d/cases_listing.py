"""Odd keys, and listings of them."""

import hashlib
import os
import re

from s3d_client import ACCESS, BUCKET, Client, ODD_KEYS, check, crc64, equal, md5, one, refused

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
    client.put("p/below", b"1")
    client.put("p", b"odd")
    client.delete("p/below")
    client.put("p", b"plain now")
    with open(server.path(BUCKET, "p"), "rb") as file:
        equal(file.read(), b"plain now")
    check(not os.path.exists(server.path(".s3d", BUCKET, "odd", "p")), "its old data stayed")


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
