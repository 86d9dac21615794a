"""Blocks on some of their tokens: PyTorch against the integer program and the dense model."""

import msgspec
import numpy as np
import pytest
import torch

from edgesvit.batches import normalised
from edgesvit.boards.local import HostProgram
from edgesvit.compress.tokens import average_kept, shares_of, with_shares
from edgesvit.data import load
from edgesvit.errors import UsageError
from edgesvit.models import families
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.config import SdtV3LargeConfig, TokenPruning, sdt_v1, spikformer
from edgesvit.models.config.token_pruning import kept_tokens, token_blocks
from edgesvit.models.tokens import TokenChoice, float_scores, released_scores, token_scores
from edgesvit.program import tokens
from edgesvit.program.build import build
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import decode, trace
from edgesvit.program.ops import ChooseTokens, Kind
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.train import train
from edgesvit.training.settings import TrainSettings

FAMILIES = ("spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load("digits", "test").images[:8]


def folder(family: str) -> RunFolder:
    return RunFolder(shipped_model(f"{family}-digits"))


def pruned(family: str, share: float, scorer: str = "paper") -> msgspec.Struct:
    config = folder(family).card().config
    return with_shares(config, dict.fromkeys(shares_of(config), share), scorer)


def logits(family: str, config: msgspec.Struct, images: np.ndarray) -> torch.Tensor:
    card = folder(family).card()
    model = model_from_arrays(config, folder(family).weights())
    with torch.inference_mode():
        return model(normalised(torch.from_numpy(images.copy()), card.mean, card.std))


def features(kind: Kind, seed: int) -> np.ndarray:
    """Whole numbers [T, B, C, H, W] such as a stream of this kind holds, some tokens silent."""
    random = np.random.default_rng(seed)
    low, high = {Kind.SPIKES: (0, 2), Kind.LEVELS: (0, 9), Kind.MEMBRANE: (-20000, 20000)}[kind]
    x = random.integers(low, high, (4, 3, 17, 5, 6))
    return x * (random.random((4, 3, 1, 5, 6)) < 0.8)


@pytest.mark.parametrize("kind", [Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE])
@pytest.mark.parametrize(("window", "weights"), [(3, (1, 1)), (7, (1, 0)), (1, (3, 2))])
def test_scores_are_the_programs_bit_for_bit(kind, window, weights):
    x = features(kind, window)
    ours = token_scores(torch.from_numpy(x).double(), window, *weights)
    for image in range(3):
        expected = tokens.token_scores(x[:, image].transpose(0, 2, 3, 1), window, *weights)
        assert ours[image].tolist() == expected.reshape(-1).tolist()


@pytest.mark.parametrize("kind", [Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE])
def test_integer_scores_follow_the_papers(kind):
    x = torch.from_numpy(features(kind, 0)).double()
    ours = token_scores(x, 3, 1, 1).double() / tokens.ONE
    assert (ours - float_scores(x, 3)).abs().max() < 1e-3


def test_released_scores_prefer_the_least_active_tokens():
    x = torch.zeros(2, 1, 16, 1, 4)
    for token, active in enumerate((16, 8, 2, 0)):
        x[:, 0, :active, 0, token] = 1
    spatial = released_scores(x, 3)[0]
    assert spatial.argsort(descending=True).tolist() == [3, 2, 1, 0]
    assert released_scores(x[:1], 3).isfinite().all()  # T = 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_chooses_as_pytorch_does_from_the_same_stream(family, images):
    config, run = pruned(family, 0.5), folder(family)
    card = run.card()
    program = build(config, run.weights(), card.mean, card.std)
    env = trace(program, images[0])
    choices = [op for op in program.ops if isinstance(op, ChooseTokens)]
    assert len(choices) == len(token_blocks(config))
    for i, op in enumerate(choices):
        stored = env[op.input]
        x = decode(stored, program.time_steps) if stored.ndim == 3 else stored.astype(np.int64)
        choice = TokenChoice(config, i, membranes=False)
        if op.scale is not None:
            x = x * op.scale >> 15
        chosen = choice.choose(torch.from_numpy(x.transpose(0, 3, 1, 2)[:, None]))
        assert chosen[0].tolist() == env[op.output].reshape(-1).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_program_answers_as_pytorch_does(family, images):
    config, run = pruned(family, 0.6), folder(family)
    card = run.card()
    program = build(config, run.weights(), card.mean, card.std)
    ours = HostProgram(to_bytes(program)).run(images)
    assert (ours == [trace(program, image)[program.output.name].reshape(-1)
                     for image in images]).all()
    wanted = logits(family, config, images).argmax(1).numpy()
    assert (ours.argmax(1) == wanted).mean() >= 7 / 8


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tokens_are_the_dense_model(family, images):
    dense = folder(family).card().config
    assert pruned(family, 1.0) == dense
    one_stopped = pruned(family, 0.9)
    assert one_stopped != dense
    whole = logits(family, dense, images)
    assert not torch.equal(logits(family, one_stopped, images), whole)
    nothing = pruned(family, 0.0)
    assert logits(family, nothing, images).isfinite().all()
    card, weights = folder(family).card(), folder(family).weights()
    ops = build(nothing, weights, card.mean, card.std).ops
    assert len(ops) < len(build(dense, weights, card.mean, card.std).ops)
    assert not any(isinstance(op, ChooseTokens) for op in ops)


@pytest.mark.parametrize("scorer", ["paper", "spatial", "temporal", "released", "random"])
def test_stopped_tokens_are_untouched_and_chosen_ones_know_only_each_other(scorer):
    choice = TokenChoice(pruned("spikformer", 0.5, scorer), 0, membranes=False)
    x = torch.randint(0, 3, (4, 2, 24, 4, 4)).float()
    seen = []

    def block(few: torch.Tensor) -> torch.Tensor:
        seen.append(few)
        return few + 10

    out, chosen = choice.over_map(block, x), choice.choose(x)
    assert seen[0].shape == (4, 2, 24, 1, 8)
    for image in range(2):
        stopped = sorted(set(range(16)) - set(chosen[image].tolist()))
        before, after = x[:, image].flatten(2), out[:, image].flatten(2)
        assert torch.equal(after[..., stopped], before[..., stopped])
        assert torch.equal(after[..., chosen[image]], before[..., chosen[image]] + 10)
    by_token = choice.over_tokens(block, x.flatten(3).transpose(2, 3))
    assert torch.equal(by_token.transpose(2, 3).unflatten(3, (4, 4)), out)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_weight(family, images):
    model = families.build(pruned(family, 0.7)).train()
    card = folder(family).card()
    x = normalised(torch.from_numpy(images.copy()), card.mean, card.std)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_run_folder_and_training_keep_the_shares(tmp_path):
    config = spikformer((8, 8), 1, 10, dim=16, depth=2, heads=2, time_steps=1, pool="0001")
    config = with_shares(config, {"block.0": 0.8, "block.1": 0.6}, window=5)
    run, child = RunFolder(tmp_path / "pruned"), tmp_path / "tuned"
    card = msgspec.structs.replace(folder("spikformer").card(), config=config)
    run.write_model(card, families.build(config).state_dict())
    assert run.card().config == config
    train(TrainSettings(data="digits", run=str(child), start=str(run.path), epochs=1))
    tuned = RunFolder(child).card().config.token_pruning
    assert tuned == TokenPruning(shares=(0.8, 0.6), window=5)


def test_counts_round_up_and_averages_are_over_the_blocks():
    config = pruned("qkformer", 0.6)
    counts = [(kept_tokens(config, i), b.tokens) for i, b in enumerate(token_blocks(config))]
    assert counts == [(39, 64), (10, 16), (3, 4)]
    assert average_kept(config) == pytest.approx((39 / 64 + 10 / 16 + 3 / 4) / 3)
    assert shares_of(with_shares(config, {"stage2.0": 0.3})) == {
        "stage1.0": 0.6, "stage2.0": 0.3, "stage3.0": 0.6}


def test_impossible_shares_are_told():
    config = folder("spikformer").card().config
    with pytest.raises(UsageError, match=r"no transformer block 'block\.2'"):
        with_shares(config, {"block.2": 0.5})
    with pytest.raises(UsageError, match="1.2 of its tokens"):
        with_shares(config, {"block.0": 1.2})
    with pytest.raises(UsageError, match="window of 4"):
        with_shares(config, {"block.0": 0.5}, window=4)
    with pytest.raises(UsageError, match="1 shares of tokens for 2 blocks"):
        msgspec.structs.replace(config, token_pruning=TokenPruning(shares=(0.5,)))


def test_models_that_cannot_are_told():
    events = sdt_v1((32, 32), 2, 10, dim=64, depth=1, events=True)
    with pytest.raises(UsageError, match="neighbours"):
        with_shares(events, {"block.0": 0.5})
    large = SdtV3LargeConfig(image_size=(64, 64), classes=10, embed_dims=(32, 64, 96))
    with pytest.raises(UsageError, match="Model_Large"):
        with_shares(large, {})
    card = folder("spikformer").card()
    with pytest.raises(UsageError, match="have no integer program"):
        build(pruned("spikformer", 0.5, "released"), folder("spikformer").weights(), card.mean,
              card.std)
