"""Puts one object into an S3 bucket and exits with 0 if the server accepts it: an open port does not mean that it will.

usage: signed_put.py ENDPOINT BUCKET        credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
Signature: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API reference.
"""

import datetime
import hashlib
import hmac
import os
import sys
import urllib.parse
import urllib.request

endpoint, bucket = sys.argv[1:]
access, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
path, body, region = f"/{bucket}/ready", b"ready", "us-east-1"
host = urllib.parse.urlparse(endpoint).netloc
time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
digest = hashlib.sha256(body).hexdigest()
headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": time}
signed = ";".join(headers)
request = "\n".join(["PUT", path, "", *(f"{name}:{value}" for name, value in headers.items()), "", signed, digest])
scope = f"{time[:8]}/{region}/s3/aws4_request"
text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
key = ("AWS4" + secret).encode()
for part in [*scope.split("/"), text]:
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()
headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature={key.hex()}"
put = urllib.request.Request(endpoint + path, body, headers, method="PUT")
urllib.request.urlopen(put, timeout=5).close()
