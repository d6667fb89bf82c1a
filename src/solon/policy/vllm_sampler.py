"""The policy's answers during RL, sampled by vLLM, which is given the policy's weights before every step."""

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftModel
from torch.distributed.tensor import DTensor

from solon.errors import SolonError
from solon.inference.active import Active, Answer, continuing
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.precision import FOUR_BITS
from solon.inference.scoring import room
from solon.inference.vllm_workers import hand_over, open_workers, vllm_dtype
from solon.libraries.transformers import as_in_checkpoints
from solon.libraries.vllm import (
    RequestOutputKind,
    SamplingParams,
    can_sleep,
    current_platform,
    shut_down,
    tokens_input,
)
from solon.models import load_tokenizer, whole
from solon.policy.rollouts import DIVERGED, Rollout, number_type, plain_weights, seeds, written
from solon.policy.task import Task
from solon.training import processes as training


class VLLMSampler:
    """Samples what ``rollouts.Sampler`` does, by vLLM's own draws.

    Of several training processes the first runs one vLLM for all, on as many devices as
    ``engine.vllm.tensor_parallel_size`` says, and the others wait for its answers. Its workers start with the
    first step. Before each step they get all weights, adapters merged in, out of this process's memory;
    after it they give their memory back where vLLM can (on CUDA).

    Raises SolonError where vLLM cannot run the policy, or has not the memory for it.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._tokenizer = load_tokenizer(task.policy, role=task.role)
        settings = task.engine
        self._settings = settings.model_copy(
            update={"dtype": number_type() if settings.dtype in {"auto", FOUR_BITS} else settings.dtype}
        )
        self._dtype = vllm_dtype(self._settings)
        self._workers: Any = None
        self._end: Any = None

    def sample(self, model: Any, prompts: Sequence[Sequence[int]], step: int, process: int) -> list[Rollout]:
        """See ``rollouts.Sampler.sample``."""
        dialogue = DialogueTokens(self._tokenizer, model)
        own = seeds(self.task.seed, step, process * len(prompts), len(prompts))
        everyones = gather_object(list(zip(map(list, prompts), own, strict=True)))
        weights = plain_weights(model)
        answers: list[Any] = [None] * len(everyones)
        if training.is_first():
            network = model.get_base_model() if isinstance(model, PeftModel) else model
            self._wake(model, as_in_checkpoints(network, weights))
            answers = self._answers(everyones, step, dialogue)
            self._sleep()
        else:
            for _ in weights:  # all bring together what is shared out over them
                pass
        broadcast_object_list(answers)
        first = training.process() * len(prompts)
        return written(answers[first : first + len(prompts)], dialogue)

    def close(self) -> None:
        """End the workers."""
        if self._workers:
            self._end()
            self._workers = None

    def _wake(self, model: Any, weights: Any) -> None:
        if current_platform.device_type == "cuda":
            torch.cuda.empty_cache()
        if self._workers is None:
            self._workers = open_workers(
                whole(self.task.policy),
                self._settings,
                self._dtype,
                load_format="dummy",  # the weights come before the first answer
                logprobs_mode="processed_logprobs",  # of the distributions that are drawn from
                enable_sleep_mode=can_sleep(),
                gpu_memory_utilization=memory_share(self._settings.vllm.gpu_memory_utilization, model),
            )
            self._end = weakref.finalize(self, shut_down, self._workers)
            self._sleep()
        if can_sleep():
            self._workers.wake_up(["weights"])
        other = "set engine.kind to transformers"
        hand_over(self._workers, self.task.policy, weights, self._dtype, instead=other)
        if can_sleep():
            self._workers.wake_up(["kv_cache"])
        self._workers.reset_prefix_cache()  # it is of the weights before

    def _sleep(self) -> None:
        if can_sleep():
            self._workers.sleep(level=2)  # which keeps no weights

    def _answers(
        self, everyones: Sequence[tuple[list[int], int]], step: int, dialogue: DialogueTokens
    ) -> list[Answer]:
        """To prompts with the seeds that are drawn from."""
        rl, context = self.task.settings, int(self._workers.vllm_config.model_config.max_model_len)
        sequences = continuing(
            [np.array(prompt, dtype=np.int64) for prompt, _ in everyones],
            [seed for _, seed in everyones],
            rl.max_tokens,
            rl.temperature,
            dialogue,
            lambda tokens, name: room(context, tokens, name, self.task.policy),
        )
        for number, sequence in enumerate(sequences):
            prompt = tokens_input(sequence.prompt.tolist())
            self._workers.add_request(f"{step}/{number}", prompt, asked(sequence, dialogue))
        answers: dict[int, Answer] = {}
        while len(answers) < len(sequences):
            for output in self._workers.step():
                if output.finished:
                    [generated] = output.outputs
                    tokens = list(generated.token_ids)
                    of_each = zip(tokens, generated.logprobs, strict=True)
                    logprobs = [said[token].logprob for token, said in of_each]
                    answers[int(output.request_id.split("/")[1])] = tokens, logprobs
        if not all(math.isfinite(logprob) for _, logprobs in answers.values() for logprob in logprobs):
            raise SolonError(DIVERGED)
        return [answers[number] for number in range(len(sequences))]


def asked(sequence: Active, dialogue: DialogueTokens) -> SamplingParams:
    return SamplingParams(
        max_tokens=sequence.most,
        temperature=sequence.request.temperature,
        seed=sequence.request.seed,
        stop=list(sequence.stops),
        stop_token_ids=sorted(dialogue.ends),
        detokenize=bool(sequence.stops),  # only to find them; the text is made elsewhere
        logprobs=0,  # of the token drawn alone
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def memory_share(wanted: float, model: Any) -> float:
    """Of a GPU's memory, ``wanted`` of what the training of ``model`` leaves free.

    To that belongs its optimiser's state, which comes with the first update: two numbers in float32 for each
    that is trained.
    """
    if current_platform.device_type != "cuda":
        return wanted
    free, total = torch.cuda.mem_get_info()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    here = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained]
    return wanted * max(0.0, free - 8 * sum(weight.numel() for weight in here)) / total
