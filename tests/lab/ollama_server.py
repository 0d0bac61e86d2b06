"""Stands in for ``ollama``: its documented API, strictly, and nothing that could pass for a measurement.

``--version``, ``serve`` (on ``OLLAMA_HOST``) and ``create NAME -f MODELFILE``. An endpoint, a field or an
option that the documentation does not have is an error. Each token takes one second by its own account.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

COMMON = {"model", "stream", "options", "keep_alive", "format", "think"}
FIELDS = {
    "/api/generate": COMMON | {"prompt", "suffix", "images", "system", "template", "raw", "context"},
    "/api/chat": COMMON | {"messages", "tools"},
    "/api/create": {"model", "files", "parameters", "stream"},
}
OPTIONS = {"num_ctx", "num_predict", "num_thread", "temperature", "seed"}
SECOND = 10**9
WORDS = ("synthetic ", "answer ", "of ", "a ", "stand-in ")


class Handler(BaseHTTPRequestHandler):
    models: ClassVar[set[str]] = set()

    def log_message(self, format: str, *args: object) -> None:
        print(f"level=INFO msg=request {format % args}", file=sys.stderr, flush=True)

    def do_GET(self) -> None:
        if self.path == "/api/tags":
            self.answer(200, {"models": [{"name": f"{name}:latest"} for name in sorted(self.models)]})
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        problem = mistake(self.path, body, self.models)
        if problem:
            self.answer(404 if "not found" in problem else 400, {"error": problem})
        elif self.path == "/api/create":
            self.models.add(body["model"])
            self.answer(200, {"status": "success"})
        else:
            self.generate(body)

    def generate(self, body: Mapping[str, Any]) -> None:
        chat = self.path == "/api/chat"
        texts = [message["content"] for message in body["messages"]] if chat else [body.get("prompt", "")]
        count = body["options"].get("num_predict", 16)
        about = {"model": body["model"], "created_at": "2026-01-01T00:00:00.000000Z"}
        if not any(texts):
            self.answer(200, {**about, "response": "", "done": True, "done_reason": "load"})
            return
        words = [WORDS[i % len(WORDS)] for i in range(count)]
        read = sum(len(text.split()) for text in texts)
        end = {
            "done": True, "done_reason": "length", "total_duration": (read + count) * SECOND, "load_duration": 0,
            "prompt_eval_count": read, "prompt_eval_duration": read * SECOND,
            "eval_count": count, "eval_duration": count * SECOND,
        }  # fmt: skip

        def piece(text: str) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": text}} if chat else {"response": text}

        if body.get("stream", True):
            self.stream([*({**about, **piece(word), "done": False} for word in words), {**about, **piece(""), **end}])
        else:
            self.answer(200, {**about, **piece("".join(words)), **end})

    def answer(self, status: int, document: Mapping[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, documents: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        for document in documents:
            self.wfile.write(json.dumps(document).encode() + b"\n")


def mistake(path: str, body: Mapping[str, Any], models: set[str]) -> str:
    """What is wrong with a request; empty: nothing."""
    if path not in FIELDS:
        return "path not found"
    if unknown := (body.keys() - FIELDS[path]) | (body.get("options", {}).keys() - OPTIONS):
        return f"unknown fields: {', '.join(sorted(unknown))}"
    if "model" not in body or (path == "/api/chat" and not body.get("messages")):
        return "model and messages are required"
    return "" if path == "/api/create" or body["model"] in models else f"model '{body['model']}' not found"


def serve() -> None:
    host, _, port = os.environ["OLLAMA_HOST"].partition(":")
    print('level=INFO msg="inference compute" id=cpu library=cpu name=cpu', file=sys.stderr)
    print(f"level=INFO msg=turbo level={min(2, int(os.environ.get('OLLAMA_TURBO', '0')))}", file=sys.stderr, flush=True)
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


def create(name: str, modelfile: Path) -> None:
    source = modelfile.read_text().removeprefix("FROM ").rstrip("\n")
    if Path(source).read_bytes()[:4] != b"GGUF":
        sys.exit(f"Error: no GGUF file: {source}")
    host, _, port = os.environ["OLLAMA_HOST"].partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    try:
        connection.request("POST", "/api/create", json.dumps({"model": name}), {"Content-Type": "application/json"})
    except OSError:
        sys.exit("Error: could not connect to ollama server, run 'ollama serve' to start it")
    if connection.getresponse().status != 200:
        sys.exit("Error: the model was not created")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version="ollama version is 0.0.0-stand-in")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    creating = commands.add_parser("create")
    creating.add_argument("name")
    creating.add_argument("-f", dest="file", type=Path, required=True)
    asked = parser.parse_args()
    serve() if asked.command == "serve" else create(asked.name, asked.file)


if __name__ == "__main__":
    main()
