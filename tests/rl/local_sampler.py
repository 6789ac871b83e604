"""A sampler in this process, in place of the engine: what its samples look like is the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import PromptConfig
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.loading import load_model
from forkdiv.models.prompting import prompt_ids
from forkdiv.sample.sample_sets import FailedRequest, Request, Rollouts


@dataclass
class LocalSampler:
    """`shift` is added to the log-probabilities that it reports: an engine that computes
    otherwise."""

    shift: float = 0.0
    asked: int = 0

    @torch.no_grad()
    def rollouts(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Rollouts | FailedRequest]:
        model, own = load_model(checkpoint.path), own_tokenizer(checkpoint.path)
        for request in requests:
            self.asked += 1
            ids = prompt_ids(own.tokenizer, request.problem.prompt, PromptConfig())
            generator = torch.Generator().manual_seed(request.seed)
            rows = torch.tensor([ids] * request.n)
            logprobs = []
            for _ in range(decoder.max_new_tokens):
                logits = model(input_ids=rows).logits[:, -1]
                weights = torch.softmax(logits / decoder.temperature, -1)
                drawn = torch.multinomial(weights, 1, generator=generator)
                logprobs.append(torch.log_softmax(logits, -1).gather(-1, drawn))
                rows = torch.cat([rows, drawn], dim=1)
            samples, scored = [], []
            for row, scores in zip(
                rows[:, len(ids) :].tolist(), torch.cat(logprobs, 1), strict=True
            ):
                ends = [at for at, token in enumerate(row) if token in own.ends]
                length = ends[0] + 1 if ends else len(row)
                text = own.tokenizer.decode(row[: length - 1] if ends else row)
                samples.append((tuple(row[:length]), text, "stop" if ends else "length"))
                scored.append([float(score) + self.shift for score in scores[:length]])
            yield Rollouts(request, samples, ids, scored, 0.0)
