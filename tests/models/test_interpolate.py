"""Checkpoints between two others: the weights' sums, what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from forkdiv.cli.verbs import VERBS, sorted_out
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.models import interpolate
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.digests import DIGESTS
from forkdiv.models.loading import load_model, new_model, word_tokenizer
from jobs import interpolate as job
from tests.fakes import FakeSampler
from tuning.space import at, axes, points
from tuning.trial import Pipeline

TOKENIZER = word_tokenizer(["a", "b", "c"], "<eos>")
WEIGHTS = "model.safetensors"
Pair = tuple[Path, Path]


def save(folder: Path, seed: int, shard: str = "5GB", dtype: torch.dtype = torch.float32) -> Path:
    model = new_model("micro-llama", TOKENIZER, seed).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    root = tmp_path_factory.mktemp("pair")
    return save(root / "early", 0), save(root / "late", 1)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
@given(alpha=st.floats(0, 1))
def test_every_weight_is_the_sum_of_both(pair: Pair, tmp_path: Path, alpha: float) -> None:
    out = tmp_path / "between"
    shutil.rmtree(out, ignore_errors=True)
    interpolate.write(*pair, alpha, out)
    early, late, found = (tensors(folder) for folder in (*pair, out))
    assert found.keys() == late.keys()
    for name, tensor in found.items():
        wanted = (1 - alpha) * early[name].double() + alpha * late[name].double()
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("alpha", "side"), [(0.0, 0), (1.0, 1)])
def test_at_the_ends_it_is_one_of_them_to_the_bit(
    pair: Pair, tmp_path: Path, alpha: float, side: int
) -> None:
    interpolate.write(*pair, alpha, tmp_path / "end")
    found, wanted = tensors(tmp_path / "end"), tensors(pair[side])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_half_precision_is_summed_in_single(tmp_path: Path) -> None:
    early, late = (save(tmp_path / str(i), i, dtype=torch.bfloat16) for i in (0, 1))
    interpolate.write(early, late, 0.3, tmp_path / "between")
    found = tensors(tmp_path / "between")
    rounded = 0
    for name, b in tensors(late).items():
        a = tensors(early)[name]
        assert found[name].dtype == torch.bfloat16
        assert torch.equal(found[name], (0.7 * a.float() + 0.3 * b.float()).bfloat16())
        rounded += int((found[name] != 0.7 * a + 0.3 * b).sum())
    assert rounded, "a sum in half precision would give the same: this test has shown nothing"


def test_the_result_is_an_ordinary_checkpoint_of_the_same_shards(tmp_path: Path) -> None:
    early = save(tmp_path / "early", 0)
    late = save(tmp_path / "late", 1, shard="100KB")
    assert len(list(late.glob("*.safetensors"))) > 1
    interpolate.write(early, late, 0.5, tmp_path / "between")
    open_checkpoint(tmp_path / "between")  # judges the folder
    names = {path.name for path in late.iterdir()} | {DIGESTS}
    assert {path.name for path in (tmp_path / "between").iterdir()} == names
    ids = torch.tensor([[3, 4, 5]])
    answers = [load_model(tmp_path / n)(ids).logits for n in ("early", "between", "late")]
    assert all(answer.isfinite().all() for answer in answers)
    assert not torch.allclose(answers[1], answers[0]) and not torch.allclose(answers[1], answers[2])


def edited(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def narrower(folder: Path) -> None:
    edited(folder, lambda s: s.update({"model.norm.weight": s["model.norm.weight"][:8].clone()}))


def without_a_tensor(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state["model.norm.weight"]

    edited(folder, change)


def with_a_nan(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["model.norm.weight"][3] = torch.nan

    edited(folder, change)


def counted(folder: Path) -> None:
    edited(folder, lambda s: s.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)}))


def other_words(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text().replace('"a"', '"z"')
    (folder / "tokenizer.json").write_text(text)


def other_positions(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))


REFUSED: dict[Callable[[Path], None], tuple[str, ...]] = {
    narrower: ("differ in name or shape", "model.norm.weight is", "64", "8"),
    without_a_tensor: ("differ in name or shape", "missing"),
    with_a_nan: ("has values that are not finite", "model.norm.weight"),
    counted: ("cannot be interpolated", "int8"),
    other_words: ("different tokenizers",),
    other_positions: ("have different architectures",),
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("side", [0, 1])
def test_checkpoints_that_cannot_be_interpolated_are_refused_and_leave_no_files(
    pair: Pair, tmp_path: Path, change: Callable[[Path], None], side: int
) -> None:
    early, late = (Path(shutil.copytree(one, tmp_path / one.name)) for one in pair)
    change((early, late)[side])
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as caught:
        interpolate.write(early, late, 0.5, tmp_path / "out" / "between")
    message = str(caught.value)
    assert all(part in message for part in (*REFUSED[change], "; allowed: "))
    assert not list((tmp_path / "out").iterdir())


def test_the_verb_takes_its_alphas_as_they_are_and_finds_them_again(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"place.root={tmp_path}", *sorted_out(VERBS["interpolate"], ["0.25", "1"], {})[0]]
    study = load(None, [*settings, f"base={pair[0]}", f"checkpoint={pair[1]}"])
    job.run(study)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("alpha ")]
    assert [line.partition(":")[0] for line in said] == ["alpha 0.25", "alpha 1"]
    folders = [Path(line.partition(": ")[2]) for line in said]
    assert tensors(folders[1])["model.norm.weight"].equal(tensors(pair[1])["model.norm.weight"])
    written = folders[0].stat().st_ctime_ns
    job.run(study)
    assert folders[0].stat().st_ctime_ns == written


def test_a_verb_without_plain_arguments_keeps_refusing_them() -> None:
    assert sorted_out(VERBS["study"], ["0.5", "a=1"], {}) == (["a=1", "0.5"], {})
    settings = ["sweep.interpolation=[0.5,1]", "a=1"]
    assert sorted_out(VERBS["interpolate"], ["0.5", "a=1", "1"], {}) == (settings, {})


# --- in a study -----------------------------------------------------------------------------------


def test_alphas_are_an_axis_that_trains_once() -> None:
    study = load(None, ["sweep.interpolation=[0.0,0.5,1.0]"])
    _, *tuned = points(study)
    assert axes(study) == ("interpolation",)
    assert [point.name for point in tuned] == ["alpha=0 T=1", "alpha=0.5 T=1", "alpha=1 T=1"]
    settings = [at(study, point) for point in tuned]
    assert [trial.interpolation for trial in settings] == [0.0, 0.5, 1.0]
    assert all(trial.sft == study.sft for trial in settings)
    assert all(trial.dataset == study.dataset for trial in settings)


def test_a_trial_measures_the_checkpoint_between_and_at_one_the_run_itself(
    pair: Pair, tmp_path: Path
) -> None:
    run = Artifact(tmp_path / "run", {"fingerprint": "f"})
    for epoch in (1, 4):
        shutil.copytree(pair[1], run.path / f"epoch-{epoch:04d}")
    progress = Progress(tmp_path / "progress.jsonl")
    store, base = Store(tmp_path / "store"), open_checkpoint(pair[0])

    def measured(alpha: float) -> dict[float, Path]:
        study = StudyConfig(interpolation=alpha)
        line = Pipeline(study, base, store, FakeSampler(), progress)
        return {epoch: one.path for epoch, one in line.measured_checkpoints(study, run).items()}

    assert list(measured(1.0)) == [1, 4]
    assert measured(1.0)[4] == run.path / "epoch-0004"
    ((at, path),) = measured(0.5).items()
    assert at == 4
    a, b, found = (tensors(folder)["model.embed_tokens.weight"] for folder in (*pair, path))
    torch.testing.assert_close(found, (a + b) / 2)
