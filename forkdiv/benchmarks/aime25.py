"""AIME 2025: the 30 problems of the American Invitational Mathematics Examination I and II."""

from __future__ import annotations

from forkdiv.benchmarks.aime24 import Aime
from forkdiv.benchmarks.registry import register
from forkdiv.core.hub_names import DatasetName


class Aime25(Aime):
    name = "aime25"
    about = "AIME 2025 I and II; the answer is a whole number up to 999"
    source = DatasetName("math-ai/aime25", None, "test", "563bb8404243c5f09de6ec262f2db674fe5bce9b")
    licence = "Apache-2.0"
    link = "https://huggingface.co/datasets/math-ai/aime25"


register(Aime25())
