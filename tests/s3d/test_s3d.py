#!/usr/bin/python3
"""Tests of s3d, the scripted S3 server, over the wire.

Usage: test_s3d.py PATH-OF-S3D [NAME-PART...]

Prints `ok - name` or `not ok - name` per test; ends with 1 if one failed.
"""

import os
import sys
import time
import traceback

sys.dont_write_bytecode = True

import s3d_client  # noqa: E402
# Importing a file of cases registers them.
import cases_faults  # noqa: E402,F401
import cases_listing  # noqa: E402,F401
import cases_multipart  # noqa: E402,F401
import cases_objects  # noqa: E402,F401
import cases_server  # noqa: E402,F401
import cases_services  # noqa: E402,F401
import cases_signatures  # noqa: E402,F401
import cases_store  # noqa: E402,F401
import cases_tools  # noqa: E402,F401


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    s3d_client.S3D = os.path.abspath(sys.argv[1])
    failed = 0
    for function in s3d_client.TESTS:
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
