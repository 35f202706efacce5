"""STS, Access Grants, SSO, container and instance credentials; what they give out."""

import json
import os
import re
import subprocess
import urllib.parse

from s3d_client import (
    ACCESS, BUCKET, Client, SECRET, Signer, Server, check, equal, one, refused, test, wait_for)
from cases_tools import tool_environment

DATA_ACCESS = "/v20180820/accessgrantsinstance/dataaccess"
ROLES = "/latest/meta-data/iam/security-credentials/"


class Services(Server):
    """With a script of services, and a key that may do nothing but ask for grants."""

    def __init__(self, *lines):
        self.lines = []
        super().__init__("--key", "BASE:base/secret@nowhere/")
        self.set(*lines)

    def start(self):
        self.services = os.path.join(self.dir, "services")
        self.args += [] if "--services" in self.args else ["--services", self.services]
        super().start()

    def set(self, *lines):
        with open(self.services + ".new", "w") as file:
            file.write("".join(line + "\n" for line in lines))
        os.rename(self.services + ".new", self.services)

    def sts(self, signer=None, **fields):
        signer = signer or Signer(service="sts")
        fields = {"Version": "2011-06-15", "RoleSessionName": "me", **fields}
        return Client(self, signer).call(
            "POST", None, path="/", body=urllib.parse.urlencode(fields).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"})

    def grant(self, target, permission="READWRITE", duration="43200", account="123456789012",
              signer=None):
        query = {"target": target, "permission": permission, "durationSeconds": duration,
                 "privilege": "Default"}
        return Client(self, signer or Signer("BASE", "base/secret")).call(
            "GET", None, path=DATA_ACCESS, query=query, headers={"x-amz-account-id": account})


def signer_of(reply):
    equal(reply.status, 200, reply.body.decode())
    found = dict(re.findall(r"<(AccessKeyId|SecretAccessKey|SessionToken)>([^<]*)<",
                            reply.body.decode()))
    return Signer(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


@test
def roles_are_assumed():
    role = "arn:aws:iam::123456789012:role/up"
    with Services("role %s external=x by=%s" % (role, ACCESS)) as server:
        refused(server.sts(Action="AssumeRole", RoleArn=role), 403, "AccessDenied")
        refused(server.sts(Action="AssumeRole", RoleArn=role + "2", ExternalId="x"), 403,
                "AccessDenied")
        refused(server.sts(Signer("BASE", "base/secret", service="sts"), Action="AssumeRole",
                           RoleArn=role, ExternalId="x"), 403, "AccessDenied")
        refused(server.sts(Signer("NOBODY", "s", service="sts"), Action="AssumeRole",
                           RoleArn=role, ExternalId="x"), 403, "InvalidClientTokenId")
        refused(server.sts(Signer(secret="wrong", service="sts"), Action="AssumeRole",
                           RoleArn=role, ExternalId="x"), 403, "SignatureDoesNotMatch")
        refused(server.sts(Signer(), Action="AssumeRole", RoleArn=role, ExternalId="x"), 400,
                "AuthorizationHeaderMalformed")  # of service s3
        signer = signer_of(server.sts(Action="AssumeRole", RoleArn=role, ExternalId="x"))
        client = Client(server, signer)
        equal(client.put("k", b"1").status, 200)
        refused(Client(server, Signer(signer.access, signer.secret)).get("k"), 400, "InvalidToken")
        refused(Client(server, Signer(signer.access, signer.secret, "other")).get("k"), 400,
                "InvalidToken")
        # the role's credentials may assume the next role
        server.set("role next by=" + signer.access)
        signer.service = "sts"
        signer_of(server.sts(signer, Action="AssumeRole", RoleArn="next"))


@test
def a_form_is_signed_with_its_body():
    with Services("role up") as server:
        body = b"Action=AssumeRole&RoleSessionName=me&RoleArn=up"
        client = Client(server, Signer(service="sts"))
        for sent, code in ((body, ""), (body.replace(b"=up", b"=uq"), "XAmzContentSHA256Mismatch")):
            with client.open("POST", None, path="/", body=body) as sock:
                sock.sendall(sent)
                equal(client.receive(sock, "POST").code, code)


@test
def web_identity_needs_its_token():
    with Services("role up", "web-token abc") as server:
        unsigned = Signer(access=None)
        fields = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": "up"}
        refused(server.sts(unsigned, WebIdentityToken="abd", **fields), 400,
                "ExpiredTokenException")
        signer = signer_of(server.sts(unsigned, WebIdentityToken="abc", **fields))
        equal(Client(server, signer).put("k", b"1").status, 200)


@test
def credentials_expire():
    with Services("lifetime 1 told=3600", "role up") as server:
        reply = server.sts(Action="AssumeRole", RoleArn="up")
        client = Client(server, signer_of(reply))
        wait_for(lambda: client.get("k").code == "ExpiredToken", "the end of the credentials")
        server.set("lifetime 3600", "role up")
        client = Client(server, signer_of(server.sts(Action="AssumeRole", RoleArn="up")))
        refused(client.get("k"), 404, "NoSuchKey")


@test
def grants_limit_what_they_give():
    grant = "grant s3://%s/cpg0123/broad/*" % BUCKET
    with Services("account 123456789012", grant + " READ", grant + " READWRITE by=OTHER") as server:
        target = "s3://%s/cpg0123/broad/x/*" % BUCKET
        refused(server.grant(target), 403, "AccessDenied")
        refused(server.grant("s3://%s/cpg0123/*" % BUCKET, "READ"), 403, "AccessDenied")
        refused(server.grant(target, "READ", account="1"), 403, "AccessDenied")
        refused(server.grant(target, "READ", duration="43201"), 400, "InvalidRequest")
        refused(server.grant(target, "READ", signer=Signer("BASE", "wrong")), 403,
                "SignatureDoesNotMatch")
        reply = server.grant(target, "READ")
        equal(reply.text("MatchedGrantTarget"), "s3://%s/cpg0123/broad/*" % BUCKET)
        reader = Client(server, signer_of(reply))
        Client(server).put("cpg0123/broad/k", b"1")
        equal(reader.get("cpg0123/broad/k").body, b"1")
        equal(reader.list(prefix="cpg0123/broad/")[1], ["cpg0123/broad/k"])
        refused(reader.get("cpg0124/k"), 403, "AccessDenied")
        refused(reader.put("cpg0123/broad/l", b"1"), 403, "AccessDenied")
        server.set(grant)
        writer = Client(server, signer_of(server.grant(target)))
        equal(writer.put("cpg0123/broad/l", b"1").status, 200)
        refused(writer.put("cpg0123/other", b"1"), 403, "AccessDenied")
        server.set(grant + " matched=s3://%s/else/*" % BUCKET)
        equal(server.grant(target).text("MatchedGrantTarget"), "s3://%s/else/*" % BUCKET)
        refused(Client(server, Signer("BASE", "base/secret")).get("k"), 403, "AccessDenied")


def plain(server, method, path, headers=(), query=()):
    return Client(server, Signer(access=None)).call(method, None, path=path, headers=headers,
                                                    query=query)


def json_signer(values, access, secret, token):
    return Signer(values[access], values[secret], values[token])


@test
def machines_ask_about_themselves():
    with Services("container-token abc", "metadata-role worker", "sso-token xyz") as server:
        equal(plain(server, "GET", "/container/creds").status, 401)
        reply = plain(server, "GET", "/container/creds", {"Authorization": "abc"})
        signer = json_signer(json.loads(reply.body), "AccessKeyId", "SecretAccessKey", "Token")
        equal(Client(server, signer).put("k", b"1").status, 200)
        equal(plain(server, "GET", ROLES).status, 401)
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = {"X-aws-ec2-metadata-token": plain(server, "PUT", "/latest/api/token",
                                                   ttl).body.decode()}
        equal(plain(server, "GET", ROLES, token).body, b"worker")
        reply = plain(server, "GET", ROLES + "worker", token)
        signer = json_signer(json.loads(reply.body), "AccessKeyId", "SecretAccessKey", "Token")
        equal(Client(server, signer).get("k").body, b"1")
        equal(plain(server, "GET", ROLES + "other", token).status, 404)
        query = {"account_id": "1", "role_name": "r"}
        bearer = {"x-amz-sso_bearer_token": "xyy"}
        equal(plain(server, "GET", "/federation/credentials", bearer, query).status, 401)
        bearer["x-amz-sso_bearer_token"] = "xyz"
        reply = plain(server, "GET", "/federation/credentials", bearer, query)
        signer = json_signer(json.loads(reply.body)["roleCredentials"], "accessKeyId",
                             "secretAccessKey", "sessionToken")
        equal(Client(server, signer).get("k").body, b"1")


@one()
def services_are_off_unless_asked_for(server, client):
    equal(plain(server, "GET", ROLES).status, 403)
    equal(client.call("POST", None, path="/", body=b"Action=AssumeRole").status, 405)


@one(["--public"])
def anyone_may_read_what_is_public(server, client):
    client.put("k", b"1")
    nobody = Client(server, Signer(access=None))
    equal(nobody.get("k").body, b"1")
    equal(nobody.list()[1], ["k"])
    refused(nobody.put("l", b"1"), 403, "AccessDenied")
    refused(nobody.delete("k"), 403, "AccessDenied")
    refused(Client(server, Signer(secret="wrong")).get("k"), 403, "SignatureDoesNotMatch")


@test
def the_aws_tool_assumes_a_role():
    if not os.access("/usr/bin/aws", os.X_OK):
        return "skip: no /usr/bin/aws"
    with Services("role arn:aws:iam::123456789012:role/up") as server:
        environment = tool_environment(server)
        folder = os.path.join(server.dir, ".aws")
        os.mkdir(folder)
        with open(os.path.join(folder, "config"), "w") as file:
            file.write("[profile up]\nrole_arn = arn:aws:iam::123456789012:role/up\n"
                       "source_profile = keys\n[profile keys]\naws_access_key_id = %s\n"
                       "aws_secret_access_key = %s\n" % (ACCESS, SECRET))
        done = subprocess.run(
            ["/usr/bin/aws", "--endpoint-url", "http://127.0.0.1:%d" % server.port, "sts",
             "assume-role", "--role-arn", "arn:aws:iam::123456789012:role/up",
             "--role-session-name", "me", "--output", "json"],
            env=environment, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, done.stderr)
        keys = json.loads(done.stdout)["Credentials"]
        signer = json_signer(keys, "AccessKeyId", "SecretAccessKey", "SessionToken")
        equal(Client(server, signer).put("k", b"1").status, 200)
    return None
