"""The real clients: aws, rclone."""

import filecmp
import os
import subprocess

from s3d_client import ACCESS, BUCKET, REGION, SECRET, check, equal, one

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
        os.utime(path, (1600000000, 1600000000))  # older than its object by whole seconds
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
