"""An engine in the test's own process is asked for what no request of ours can ask for."""

from __future__ import annotations

import asyncio
import os
from unittest.mock import patch

import pytest

from forkdiv.core.config.study import DecoderConfig
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.sample.engine import WarmEngine
from forkdiv.sample.engine_settings import environment, sampling_params
from forkdiv.sample.token_ids import UnanswerableRequest
from forkdiv.tasks.registry import build
from tests.serving import STUDY
from tests.stack import BASE
from tuning.session import engine_spec

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("no_ray")]


def test_arguments_that_mean_nothing_are_refused_and_the_engine_goes_on() -> None:
    base = open_checkpoint(BASE)
    prompt = build(STUDY.task).heldout("test", 2)[0].prompt

    async def asked() -> int:
        engine = WarmEngine(spec)
        try:
            for arguments in ({"top_sigma": 1.0}, {"top_n_sigma": -1.0}):
                params = sampling_params(DecoderConfig(), 1, 0, 0, (1,))
                params.extra_args = arguments
                ids = engine._prompt_ids(base, prompt, "")
                with pytest.raises(UnanswerableRequest, match="decoder argument"):
                    await engine._generate(ids, params)
            return len(await engine.sample(base, prompt, 2, 0, DecoderConfig()))
        finally:
            engine.close()

    spec = engine_spec(STUDY, base)
    with patch.dict(os.environ, environment(spec)):  # what the engine sets does not outlive it
        assert asyncio.run(asked()) == 2
