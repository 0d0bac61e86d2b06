"""The HTTP side: the forms of v0.20's REST, SSE, metrics and errors."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlc_llm.cli.serve import FAULT

TOKEN_S = 0.002
"""A sleep, so that streams take time. Nothing is computed here."""
EOS_AFTER = 5
NO_STREAM = "Value error, stream must be set to True when stream_options is present"


class Engine:
    """Counts what it is asked, as the real one's metrics do."""

    def __init__(self, asked: argparse.Namespace, config: dict[str, Any]) -> None:
        self.asked = asked
        given = asked.overrides
        self.ctx = given.context_window_size or config["context_window_size"]
        self.k = given.spec_draft_length or 0 if asked.speculative_mode != "disable" else 0
        self.room = min(given.max_num_sequence or 1, given.prefill_chunk_size or config["prefill_chunk_size"])
        if FAULT == "draft-too-long":
            self.room = self.k
        self.draft_count = [0] * (self.k + 1)
        self.accept_count = [0] * (self.k + 1)
        self.prefill_tokens_sum = 0
        self.completion_tokens_sum = 0

    def step(self, left: int) -> int:
        """Tokens of one step; speculation accepts all drafts but the last."""
        if not self.k:
            return 1
        if self.k + 1 > self.room:
            limit = "static_cast<int64_t>(engine_config_->max_num_sequence), engine_config_->prefill_chunk_size"
            raise RuntimeError(
                f"InternalError: Check failed: total_verify_length <= std::min({limit}) ({self.k + 1} vs. {self.room}) "
                f": {self.k + 1} {self.room}"
            )
        if self.asked.device == "cpu":
            raise RuntimeError(
                f"InternalError: Check failed: request_ids.size() == num_samples (1 vs. {self.k + 1}) : "
            )
        accepted = max(self.k, 1)
        for j in range(self.k + 1):
            self.draft_count[j] += 1
            self.accept_count[j] += j < accepted
        return min(accepted, left)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, form: str, *words: Any) -> None:
        print(f"INFO:     127.0.0.1:1 - {form % words}", file=sys.stderr)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.metrics()
        elif self.allowed():
            model = {"id": self.engine.asked.model, "created": 1, "object": "model", "owned_by": "MLC-LLM"}
            self.answer(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        chat = self.path == "/v1/chat/completions"
        if chat and "stream_options" in asked and not asked.get("stream"):
            self.answer(422, {"detail": [{"type": "value_error", "loc": ["body"], "msg": NO_STREAM}]})
        elif (asked.get("debug_config") or {}).get("special_request") == "query_engine_metrics":
            self.begin()
            self.event(chunk(chat, [], {"prompt_tokens": 0, "completion_tokens": 0, "extra": self.totals()}))
            self.end()
        else:
            self.generate(asked, chat)

    def allowed(self) -> bool:
        given = self.headers.get("Authorization", "").replace("Bearer ", "")
        key = self.engine.asked.api_key
        if key is not None and given != key:
            self.answer(401, {"detail": "Invalid API Key"})
            return False
        return True

    def generate(self, asked: dict[str, Any], chat: bool) -> None:
        prompt = asked.get("prompt") if not chat else " ".join(message["content"] for message in asked["messages"])
        count = len(prompt) if isinstance(prompt, list) else len(prompt.split()) + 4 * len(asked.get("messages", ()))
        if asked.get("stream") and count == self.engine.ctx:
            # Neither refused nor answered: the real one says "length", and its usage is a dummy.
            self.begin()
            self.event(chunk(chat, [choice(chat, "", "length")], None))
            self.event(chunk(chat, [], {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}))
            self.end()
            return
        if count > self.engine.ctx or FAULT == "refuses":
            limit = self.engine.ctx
            message = f"Request prompt has {count} tokens in total, larger than the model input length limit {limit}."
            # The real one writes JSON, and that text as JSON again.
            self.answer(400, json.dumps({"object": "error", "message": message, "code": 400}))
            return
        debug = asked.get("debug_config") or {}
        wanted = asked.get("max_tokens") or 10**6
        many = min(wanted, self.engine.ctx - count)
        if not debug.get("ignore_eos"):
            many = min(many, EOS_AFTER)
        began = time.monotonic()
        time.sleep(TOKEN_S)
        first = time.monotonic() - began
        if not asked.get("stream"):
            whole = {"finish_reason": "length", "index": 0, "text": "a" * many}
            self.answer(200, {"choices": [whole], "usage": {"prompt_tokens": count, "completion_tokens": many}})
            return
        self.begin()
        done = 0
        try:
            while done < many:
                new = 1 if not done else self.engine.step(many - done)
                time.sleep(TOKEN_S * new)
                done += new
                if FAULT == "dies-midway" and done > 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                ended = not debug.get("ignore_eos") and many == EOS_AFTER < wanted
                finish = None if done < many else ("stop" if ended else "length")
                self.event(chunk(chat, [choice(chat, " ö" * new, finish)], None))
        except RuntimeError as error:
            # Only the model's thread ends; whoever waits for an answer waits on.
            print("Exception in thread Thread-1 (background_loop):", file=sys.stderr)
            print("Traceback (most recent call last):", file=sys.stderr)
            print(f"tvm.error.{error}", file=sys.stderr, flush=True)
            time.sleep(3600)
        # As the real one: the first token is counted once for each model.
        done += bool(self.engine.k)
        usage: dict[str, Any] = {"prompt_tokens": count, "completion_tokens": done, "total_tokens": count + done}
        self.engine.prefill_tokens_sum += count
        self.engine.completion_tokens_sum += done
        if self.engine.asked.enable_debug and FAULT != "no-times":
            usage["extra"] = self.times(count, done, first, time.monotonic() - began)
        if (asked.get("stream_options") or {}).get("include_usage"):
            self.event(chunk(chat, [], usage))
        self.end()

    def times(self, count: int, done: int, first: float, total: float) -> dict[str, Any]:
        extra = {"prompt_tokens": count, "completion_tokens": done, "prefill_tokens": count, "jump_forward_tokens": 0}
        decoded = 0 if self.engine.k or FAULT == "no-decode-rate" else done - 1
        rates = {"decode_tokens_per_s": decoded / (total - first)} if decoded else {}
        return {
            **extra,
            "decode_tokens": decoded,
            "prefill_tokens_per_s": count / first,
            **rates,
            "end_to_end_latency_s": total,
            "ttft_s": first,
            "inter_token_latency_s": total / done,
        }

    def totals(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "prefill_tokens_sum": self.engine.prefill_tokens_sum,
            "completion_tokens_sum": self.engine.completion_tokens_sum,
        }
        if self.engine.k:
            found["spec_decode"] = {"draft_count": self.engine.draft_count, "accept_count": self.engine.accept_count}
        return found

    def metrics(self) -> None:
        lines = [f"{name}\t{value}" for name, value in self.totals().items() if not isinstance(value, dict)]
        data = "\n".join(
            ["# NOTE: these metrics count token in the unit of serving model's tokenization", *lines]
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, body: Any) -> None:
        self.piece(f"data: {json.dumps(body)}\n\n".encode())

    def end(self) -> None:
        self.piece(b"data: [DONE]\n\n")
        self.piece(b"")

    def piece(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def choice(chat: bool, text: str, finish: str | None) -> dict[str, Any]:
    common = {"finish_reason": finish, "index": 0, "logprobs": None}
    # A chat's chunk has the role each time.
    nothing = {"name": None, "tool_calls": None, "tool_call_id": None}
    return {**common, "delta": {"content": text, "role": "assistant", **nothing}} if chat else {**common, "text": text}


def chunk(chat: bool, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    kind = {"system_fingerprint": "", "object": "chat.completion.chunk"} if chat else {"object": "text_completion"}
    return {"id": "1", "choices": choices, "created": 1, "model": None, **kind, "usage": usage}


def serve(asked: argparse.Namespace, config: dict[str, Any]) -> None:
    """As uvicorn: its lines, its end on SIGINT, its words where the port is taken."""
    Handler.engine = Engine(asked, config)
    print("INFO:     Started server process [1]\nINFO:     Waiting for application startup.", file=sys.stderr)
    print("INFO:     Application startup complete.", file=sys.stderr, flush=True)
    try:
        server = ThreadingHTTPServer((asked.host, asked.port), Handler)
    except OSError as error:
        print(
            f"ERROR:    [Errno {error.errno}] error while attempting to bind on address "
            f"('{asked.host}', {asked.port}): address already in use",
            file=sys.stderr,
        )
        sys.exit(3)
    print(
        f"INFO:     Uvicorn running on http://{asked.host}:{asked.port} (Press CTRL+C to quit)",
        file=sys.stderr,
        flush=True,
    )
    server.daemon_threads = True
    signal.signal(signal.SIGINT, lambda number, frame: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
