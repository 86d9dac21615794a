"""Stopping tokens: how integer scores agree with the paper's, and what each scorer costs.

    python benchmarks/token_scores.py [--images 1000] [--ranks] RUN_FOLDER ...

Without --ranks: accuracy in percent, not fine-tuned, when every transformer block works on the
same share of its tokens, for each scorer; "float" is the PyTorch model, "integer" the program on
the C runtime. With --ranks: for each block, Spearman's rho and the overlap of the best half between
the integer scores and the paper's score in floating point, of the same tensors; and how many of the
tokens that the program chooses PyTorch chooses too. Images are the first of the test split.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.batches import evaluate, normalised
from edgesvit.cli.options import dataset
from edgesvit.data import Dataset
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.models.config import TokenPruning
from edgesvit.models.config.token_pruning import SCORE_WEIGHTS, token_blocks
from edgesvit.models.tokens import float_scores, token_scores
from edgesvit.program.interpret import trace
from edgesvit.report.table import table
from edgesvit.run_folder import ModelCard, RunFolder

SHARES = (0.9, 0.8, 0.65, 0.52)
SCORERS = ("paper", "spatial", "temporal", "released", "random")
WINDOW = 3
TRACED = 20  # images, for the choices of the program


def pruned(card: ModelCard, share: float, scorer: str) -> ModelCard:
    """The model with the same share of tokens in every block."""
    shares = (share,) * len(token_blocks(card.config))
    pruning = TokenPruning(shares=shares, scorer=scorer, window=WINDOW)
    return msgspec.structs.replace(
        card, config=msgspec.structs.replace(card.config, token_pruning=pruning))


def choices(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor, float]]:
    """By block: the map [T, B, C, H, W] it scores, its choice [B, K], the scores' step."""
    seen = {}
    for block in token_blocks(model.config):
        choice = model.get_submodule(block.name).tokens

        def keep(x: Tensor, choice=choice, name=block.name, choose=choice.choose) -> Tensor:
            seen[name] = (x, choose(x), choice.step)
            return seen[name][1]

        choice.choose = keep
    with torch.inference_mode():
        model(images)
    return seen


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks [B, N], equal scores sharing their mean rank."""
    low = (scores[:, None, :] < scores[:, :, None]).sum(2)
    same = (scores[:, None, :] == scores[:, :, None]).sum(2)
    return low + (same - 1) / 2


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The mean of Spearman's rho over rows [B, N]."""
    a, b = (r - r.mean(1, keepdims=True) for r in (ranks(a), ranks(b)))
    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return float(((a * b).sum(1)[norms > 0] / norms[norms > 0]).mean())


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The mean share of the tokens in rows of `a` [B, K] that are in those of `b` too."""
    return float(np.mean([len(set(x) & set(y)) / len(x) for x, y in zip(a, b, strict=True)]))


def best_half(scores: Tensor) -> np.ndarray:
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    return order[:, : -(-scores.shape[1] // 2)].numpy()


def rank_rows(folder: RunFolder, data: Dataset) -> Iterator[tuple]:
    card = pruned(folder.card(), 0.5, "paper")
    pixels = torch.from_numpy(data.images.copy())
    model = model_from_arrays(card.config, folder.weights())
    seen = choices(model, normalised(pixels, card.mean, card.std))
    program = program_of(card, folder.weights(), data)
    traces = [trace(program, image) for image in data.images[:TRACED]]
    for block in token_blocks(card.config):
        x, chosen, step = seen[block.name]
        ours = token_scores((x.double() / step).round(), WINDOW, 1, 1)
        paper = float_scores(x.double(), WINDOW)
        program_chose = [t[f"{block.name}.index"].reshape(-1) for t in traces]
        yield (folder.path.name, block.name, block.tokens,
               f"{spearman(ours.numpy(), paper.numpy()):.4f}",
               f"{100 * overlap(best_half(ours), best_half(paper)):.1f}",
               f"{100 * overlap(program_chose, chosen[:TRACED].numpy()):.1f}")


def accuracy_rows(folder: RunFolder, data: Dataset) -> Iterator[tuple]:
    weights = folder.weights()
    for scorer in SCORERS:
        for form in ("float", "integer")[: 1 + (scorer in SCORE_WEIGHTS)]:
            cells = []
            for share in (1.0, *SHARES):
                card = pruned(folder.card(), share, scorer)
                if form == "float":
                    correct = 100 * evaluate(model_from_arrays(card.config, weights), data)
                else:
                    correct = integer_accuracy(program_of(card, weights, data), data)
                cells.append(f"{correct:.2f}")
            yield (folder.path.name, scorer, form, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--ranks", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for path in args.folders:
        folder = RunFolder(path)
        data = first(dataset(None, folder), args.images)
        if args.ranks:
            header = ("model", "block", "tokens", "rho", "best half %", "program %")
            print(table(header, list(rank_rows(folder, data))))
        else:
            header = ("model", "scorer", "form", "1.0", *map(str, SHARES))
            print(table(header, list(accuracy_rows(folder, data))))


def first(data: Dataset, count: int) -> Dataset:
    """The first images of a split."""
    return dataclasses.replace(data, images=data.images[:count], labels=data.labels[:count])


if __name__ == "__main__":
    main()
