"""A client of the tests' S3 server (s3_server.py) that knows nothing of our code."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from uuid import uuid4

import boto3
from botocore.config import Config
from upath import UPath

from features.places import place

SECRET = "only-the-server-may-see-this"


class S3:
    """The server, and how to reach it."""

    def __init__(self, port: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            region_name="us-east-1",
            config=Config(connect_timeout=5, read_timeout=10),
        )
        self.client.create_bucket(Bucket="bucket")

    def prefix(self) -> UPath:
        """A place that nobody has used."""
        found = place(f"s3://bucket/{uuid4().hex}/store")
        assert isinstance(found, UPath)
        return found

    def upload(self, path: Path) -> UPath:
        """What lies in a folder, under a new prefix."""
        target = self.prefix().parent / path.name
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file():
                key = target / file.relative_to(path).as_posix() if file != path else target
                self.write(key, file.read_bytes())
        return target

    def write(self, path: UPath, data: bytes) -> None:
        bucket, _, key = path.path.partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, path: UPath) -> list[str]:
        bucket, _, key = path.path.partition("/")
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=f"{key}/").get("Contents", [])
        return [each["Key"].removeprefix(f"{key}/") for each in found]

    def log(self) -> list[str]:
        """Requests since the last call."""
        with urllib.request.urlopen(f"{self.url}/-/log", timeout=10) as reply:
            return list(json.load(reply))

    def fault(self, kind: str, method: str, match: str) -> None:
        fault = json.dumps({"kind": kind, "method": method, "match": match}).encode()
        urllib.request.urlopen(f"{self.url}/-/fault", fault, timeout=10).close()
