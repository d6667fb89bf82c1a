"""Critique-revision chains a second: the vllm engine against one client a chain of a vLLM server.

    .venv-vllm/bin/python benchmarks/vllm_chains.py [--chains 48] [--tokens 32] [--runs 5] > result.json

Needs the environment of ``make test-vllm``, and VLLM_CPU_KVCACHE_SPACE on a CPU. Both sides run the same
chains (answer, then two rounds of critique and revision, few-shot) with the same sampling settings and seeds,
on the same model in the same number type, with the same vLLM settings. The peer does what the public recipe
of record does: each chain is a coroutine that sends every turn's whole chat over HTTP, all at once. It is
measured against a server with prefix caching, one that also keeps a core for itself (vLLM's own default;
the vllm engine needs none), and one without prefix caching. Before every run the prefix caches of both sides
are emptied; the side that is not measured is idle. Only one server is there at a time.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import openai
import side_by_side

from solon import constitution, models
from solon.config import Critique, EngineSettings
from solon.inference.engine import Chain, ChoiceScores, Completion, Engine, Question, Request, T, Usage
from solon.inference.vllm_engine import VLLMEngine
from solon.prompts.dialogue import assistant
from solon.sources import data
from solon.stages import critique

SERVERS = {  # whether it caches prefixes, and how many CPU cores it keeps from the model
    "with prefix caching": (True, 0),
    "with prefix caching and a core of its own": (True, 1),
    "without prefix caching": (False, 0),
}


class ClientAChain(Engine):
    """Every chain a coroutine with requests of its own to the server at ``address``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.usage = Usage()

    def run_chains(self, chains: Iterable[Chain[T]]) -> Iterator[T]:
        yield from asyncio.run(self._all(list(chains)))

    async def _all(self, chains: list[Chain[T]]) -> list[T]:
        limits = openai.DefaultAsyncHttpxClient(timeout=None)
        async with openai.AsyncOpenAI(
            base_url=f"{self.address}/v1", api_key="none", http_client=limits
        ) as client:
            return await asyncio.gather(*(self._run(client, chain) for chain in chains))

    async def _run(self, client: openai.AsyncOpenAI, chain: Chain[T]) -> T:
        request = next(chain)
        while True:
            messages = [*request.messages, *([assistant(request.prefill)] if request.prefill else [])]
            answer = await client.chat.completions.create(
                model="served",
                messages=messages,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
            )
            [choice] = answer.choices
            self.usage.requests += 1
            generated = answer.usage.completion_tokens
            self.usage.tokens_generated += generated
            self.usage.tokens_naive += answer.usage.prompt_tokens
            finish = "length" if choice.finish_reason == "length" else "stop"
            text = Completion(
                request.id, choice.message.content or "", finish, answer.usage.completion_tokens
            )
            try:
                request = chain.send(text)
            except StopIteration as end:
                return end.value

    def forget(self) -> None:
        """Empty the server's prefix cache."""
        urllib.request.urlopen(f"{self.address}/reset_prefix_cache", data=b"").close()

    def submit(self, request: Request) -> None:
        raise NotImplementedError

    def poll(self) -> list[Completion]:
        raise NotImplementedError

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        raise NotImplementedError

    def close(self) -> None:
        pass


@contextmanager
def serve(engine: VLLMEngine, caching: bool, reserved: int) -> Iterator[ClientAChain]:
    """A server with the settings of the engine, but for prefix caching and the CPU cores kept for itself."""
    config = engine.vllm_config
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "model": config.model_config.model,
        "served-model-name": "served",
        "host": "127.0.0.1",
        "port": port,
        "dtype": engine.dtype,
        "max-model-len": config.model_config.max_model_len,
        "max-num-seqs": config.scheduler_config.max_num_seqs,
        "max-num-batched-tokens": config.scheduler_config.max_num_batched_tokens,
        "block-size": config.cache_config.block_size,
    }
    flags = ["disable-log-stats", "disable-uvicorn-access-log"]
    flags += ["enable-prefix-caching" if caching else "no-enable-prefix-caching"]
    if not config.scheduler_config.enable_chunked_prefill:
        flags.append("no-enable-chunked-prefill")
    if config.model_config.enforce_eager:
        flags.append("enforce-eager")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += [f"--{name}={value}" for name, value in options.items()] + [f"--{flag}" for flag in flags]
    # The server of development mode takes the order to empty its cache.
    environment = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_NUM_OF_RESERVED_CPU": str(reserved)}
    process = subprocess.Popen(command, stdout=sys.stderr, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with status {process.returncode}")
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except OSError:
                time.sleep(1)
        yield ClientAChain(address)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--eager", action="store_true", help="compile nothing: starts a minute sooner")
    parser.add_argument("--model", default="smollm2")
    asked = parser.parse_args()
    settings = Critique(rounds=asked.rounds, max_tokens=asked.tokens, attempts=1)
    law = constitution.load("harmless")
    prompts = data.select(data.prompts("packaged", "red-team"), "train", asked.chains, 0)

    def run(engine: Engine) -> int:
        start = time.perf_counter()
        made = len(list(critique.revise(engine, prompts, law, settings, seed=0)))
        print(f"{type(engine).__name__}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        return made

    found: dict[str, object] = {}
    chosen = EngineSettings(kind="vllm", batch_size=asked.batch, vllm={"enforce_eager": asked.eager})
    with VLLMEngine(models.resolve(asked.model), chosen) as ours:
        run(ours)  # the first run of both is a warm-up
        for name, (caching, reserved) in SERVERS.items():
            with serve(ours, caching, reserved) as theirs:
                run(theirs)

                def forget(theirs: ClientAChain = theirs) -> None:
                    ours.forget()
                    theirs.forget()

                ours.usage, theirs.usage = Usage(), Usage()
                found[name] = side_by_side.compare(
                    forget, lambda: run(ours), lambda theirs=theirs: run(theirs), asked.runs
                ) | {
                    "tokens": {
                        side: {
                            "generated": engine.usage.tokens_generated // asked.runs,
                            "prompts": engine.usage.tokens_naive // asked.runs,
                        }
                        for side, engine in (("ours", ours), ("theirs", theirs))
                    },
                    "computed_by_ours": ours.usage.tokens_computed // asked.runs,
                }
    side_by_side.show(
        benchmark="critique-revision chains/s, vllm engine",
        asked=vars(asked),
        dtype=ours.dtype,
        peer="one client a chain of a vLLM server, all chains at once, the whole chat each turn",
        **found,
    )


if __name__ == "__main__":
    main()
