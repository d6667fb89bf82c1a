"""A small OpenAI-compatible server around a transformers model, for tests: ``openai_server.py MODEL``.

It prints its port, then serves the same model at several addresses: ``/plain/v1``, ``/silent/v1`` (gives no
log-probabilities), ``/refusing/v1`` (refuses to be asked for them), ``/faulty/v1`` (30 % of the calls fail,
in nine ways), ``/broken/v1`` (always fails), ``/slow/v1`` (always stalls), ``/other/v1`` (answers with
something else) and ``/locked/v1`` (wants the key $LOCKED_WITH, or "the-key"). With a second argument it takes
that port.
``GET /stats`` tells what each was asked.
"""

import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Lock
from typing import Any, ClassVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Json = dict[str, Any]
FAULT_SHARE = 0.3
FAULTS = ("429", "500", "503", "dropped", "torn", "stalled", "page", "nothing", "half")
WRONG: dict[str, Any] = {  # sent with status 200
    "page": "<html>Service unavailable</html>",
    "nothing": {"choices": []},
    "half": {"choices": [{"index": 0, "message": {"content": 7}}]},
}
STALL = 5.0  # seconds; the test's client waits for less


class TooLong(Exception):
    pass


class Model:
    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.context = self.model.config.max_position_embeddings
        self.lock = Lock()

    def chat_tokens(self, asked: Json) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            asked["messages"],
            tokenize=False,
            add_generation_prompt=asked.get("add_generation_prompt", True),
            continue_final_message=asked.get("continue_final_message", False),
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    @torch.inference_mode()
    def generate(self, prompt: list[int], asked: Json) -> tuple[str, str, int]:
        """The text, why it ended, and its tokens."""
        if len(prompt) + asked["max_tokens"] > self.context:
            raise TooLong
        tokens = torch.tensor([prompt])
        options: Json = {"do_sample": False}
        if temperature := asked.get("temperature", 1.0):
            options = {
                "do_sample": True,
                "temperature": temperature,
                "top_p": asked.get("top_p", 1.0),
                "top_k": 0,
            }
        with self.lock:
            torch.manual_seed(asked.get("seed", 0))
            new = self.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=asked["max_tokens"], **options
            )[0, len(prompt) :].tolist()
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        finish = "stop" if new[-1] == self.tokenizer.eos_token_id else "length"
        for stop in asked.get("stop") or []:
            if stop in text:
                text, finish = text[: text.index(stop)], "stop"
        return text, finish, len(new)

    @torch.inference_mode()
    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """[tokens, vocabulary]: of what may follow each token."""
        with self.lock:
            return self.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)

    def decode(self, token: int) -> str:
        return self.tokenizer.decode([token])


def chat(model: Model, asked: Json, silent: bool) -> Json:
    prompt = model.chat_tokens(asked)
    text, finish, tokens = model.generate(prompt, asked)
    choice: Json = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if asked.get("logprobs") and not silent:
        values, likeliest = model.logprobs(prompt)[-1].topk(asked["top_logprobs"])
        listed = [
            {"token": model.decode(int(token)), "logprob": float(value), "bytes": None}
            for value, token in zip(values, likeliest, strict=True)
        ]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    return answer("chat.completion", choice, prompt, tokens)


def completion(model: Model, asked: Json, silent: bool) -> Json:
    prompt = asked["prompt"]
    text, finish, tokens = model.generate(prompt, asked)
    choice: Json = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    if asked.get("echo"):
        choice["text"] = model.tokenizer.decode(prompt) + text
        if not silent:
            after = model.logprobs(prompt)
            mine = [float(after[place, token]) for place, token in enumerate(prompt[1:])]
            choice["logprobs"] = {
                "tokens": [model.decode(token) for token in prompt],
                "token_logprobs": [None, *mine],
                "top_logprobs": None,
                "text_offset": [],
            }
    return answer("text_completion", choice, prompt, tokens)


def answer(kind: str, choice: Json, prompt: list[int], tokens: int) -> Json:
    usage = {
        "prompt_tokens": len(prompt),
        "completion_tokens": tokens,
        "total_tokens": len(prompt) + tokens,
        "prompt_tokens_details": {"cached_tokens": len(prompt) // 2},
    }
    return {"id": "1", "object": kind, "created": 0, "model": "tiny", "choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as real servers do
    model: Model
    stats: ClassVar[defaultdict[str, Counter[str]]] = defaultdict(Counter)
    faults = random.Random(0)
    next_fault = cycle(FAULTS)
    lock = Lock()

    def do_GET(self) -> None:
        self.reply(200, self.stats)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        address, _, endpoint = self.path.lstrip("/").partition("/v1/")
        stats = self.stats[address]
        with self.lock:
            stats["calls"] += 1
            stats["now"] += 1
            stats["most at once"] = max(stats["most at once"], stats["now"])
            fault = ""
            if address == "faulty" and self.faults.random() < FAULT_SHARE:
                fault = next(self.next_fault)
        try:
            self.serve(address, endpoint, asked, fault)
        finally:
            with self.lock:
                stats["now"] -= 1

    def serve(self, address: str, endpoint: str, asked: Json, fault: str) -> None:
        self.stats[address][fault or "no fault"] += 1
        if fault == "dropped":
            self.connection.close()
        elif wrong := self.wrong(address, asked, fault):
            self.fail(*wrong)
        else:
            time.sleep(STALL if fault == "stalled" or address == "slow" else 0)
            fault = "half" if address == "other" else fault
            serve = {"chat/completions": chat, "completions": completion}[endpoint]
            try:
                answered = serve(self.model, asked, silent=address in {"silent", "refusing"})
            except TooLong:
                context = f"This model's maximum context length is {self.model.context} tokens"
                self.fail(400, f"{context}; your key is {self.key}")
            else:
                self.reply(200, WRONG.get(fault, answered), torn=fault == "torn")

    def wrong(self, address: str, asked: Json, fault: str) -> tuple[int, str] | None:
        if fault.isdecimal():
            return int(fault), "try again"
        if address == "broken":
            return 500, "out of memory"
        if address == "locked" and self.key != os.environ.get("LOCKED_WITH", "the-key"):
            return 401, f"Incorrect API key provided: {self.key}"
        if asked["model"] != "tiny":
            return 404, "no such model"
        if address == "refusing" and asked.get("logprobs"):
            return 400, "logprobs are not supported"
        return None

    @property
    def key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def fail(self, status: int, message: str) -> None:
        headers = {"Retry-After": "0.05"} if status == 429 else {}
        self.reply(status, {"error": {"message": message, "type": "error"}}, headers)

    def reply(
        self, status: int, body: Any, headers: dict[str, str] | None = None, torn: bool = False
    ) -> None:
        page = isinstance(body, str)
        kind = "text/html" if page else "application/json"
        content = body.encode() if page else json.dumps(body).encode()
        content = content[: len(content) // 2] if torn else content
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that stopped waiting is no news."""


def main() -> None:
    Handler.model = Model(sys.argv[1])
    server = Server(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
