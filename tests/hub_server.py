"""A stand-in for the Hugging Face hub: the part of its API that ``huggingface_hub`` goes through to upload.

What it is sent it keeps in a folder, as a repository would be: ``ROOT/models/OWNER/NAME/...``. It lets nobody
in without the token, takes weights by Git LFS as the hub does, and refuses contents whose hash or size is not
the one announced.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_standInStandInStandIn0123456789"


class Hub(ThreadingHTTPServer):
    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.private: dict[str, bool] = {}  # by "models/OWNER/NAME"
        self.objects: dict[str, bytes] = {}  # LFS objects by their SHA-256
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repository: str) -> dict[str, bytes]:
        folder = self.root / repository
        return {
            str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_PUT(self) -> None:
        content, digest = self.body(), self.path.rpartition("/")[2]
        self.server.asked.append(f"PUT {self.path}")
        if hashlib.sha256(content).hexdigest() != digest:
            return self.answer({"error": "not the content announced"}, 400)
        self.server.objects[digest] = content
        return self.answer({})

    def do_GET(self) -> None:
        self.admit(b"")

    def do_POST(self) -> None:
        self.admit(self.body())

    def admit(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            self.respond(path, body)
        else:
            self.answer({"error": "Invalid credentials"}, 401)

    def respond(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if found := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(preupload|commit|revision)/main)?", path
        ):
            return self.repository(f"{found[1]}/{found[2]}", found[3], body)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body))
        if path.startswith("/lfs/verify/"):
            known = self.server.objects.get(json.loads(body)["oid"], b"")
            return self.answer({}, 200 if len(known) == json.loads(body)["size"] else 422)
        return self.answer({"error": "no such address"}, 404)

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.server.address}/{name.removeprefix('models/')}"}
        if name in self.server.private:
            return self.answer({"error": "You already created this model repo", **address}, 409)
        self.server.private[name] = asked.get("visibility") == "private"
        return self.answer(address)

    def repository(self, name: str, doing: str | None, body: bytes) -> None:
        if name not in self.server.private:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        folder = self.server.root / name
        if doing in {None, "revision"}:
            private = self.server.private[name]
            repository = name.partition("/")[2]
            return self.answer(
                {"id": repository, "private": private, "sha": "0" * 40, "tags": [], "siblings": []}
            )
        if doing == "preupload":
            return self.answer({"files": [self.mode(folder, file) for file in json.loads(body)["files"]]})
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                continue
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif (content := self.server.objects.get(value["oid"], b"")) == b"":
                return self.answer({"error": f"{value['path']} was not uploaded"}, 400)
            (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / value["path"]).write_bytes(content)
        address = f"{self.server.address}/{name.removeprefix('models/')}"
        return self.answer(
            {"commitUrl": f"{address}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}
        )

    def mode(self, folder: Path, file: dict[str, Any]) -> dict[str, Any]:
        """How it is to be sent, and the hash of what is there already under its name."""
        large = file["path"].endswith(".safetensors")
        there = (folder / file["path"]).read_bytes() if (folder / file["path"]).exists() else None
        digest = None
        if there is not None:
            blob = b"blob %d\0%b" % (len(there), there)
            digest = hashlib.sha256(there).hexdigest() if large else hashlib.sha1(blob).hexdigest()
        return {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "oid": digest,
        }

    def batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for each in asked["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.server.objects:
                upload, verify = (
                    f"{self.server.address}/lfs/{what}/{each['oid']}" for what in ("put", "verify")
                )
                answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(answer)
        self.answer({"transfer": "basic", "objects": objects})


@contextmanager
def running(root: Path) -> Iterator[Hub]:
    with Hub(root) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
