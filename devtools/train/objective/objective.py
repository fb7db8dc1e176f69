"""The loss of a micro-batch by a recipe's method; losses of the micro-batches of a step add up to the step's."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from devtools.train.batches import Batch
from devtools.train.examples import Item
from devtools.train.model.decoder import Decoder
from devtools.train.objective.counts import Counts, count
from devtools.train.objective.losses import (
    distillation,
    log_probabilities,
    negative_log_likelihood,
    preference,
    symmetric_divergence,
)
from devtools.train.objective.marks import Marker
from devtools.train.objective.perturb import perturbed_loss
from devtools.train.objective.word_pairs import Adversary, equalising_loss
from devtools.train.recipe import Recipe
from devtools.train.recipe.tables import Robust
from shared.text.tokenizer import Tokenizer

Reference = Mapping[str, tuple[float, float]]
"""Row -> log P of its chosen and its rejected answer by the model before training."""


class Objective(nn.Module):
    """What a run minimises.

    Args:
        recipe: Method and means.
        decoder: In training.
        tokenizer: The model's.
        teacher: With method distil.
        reference: With method dpo.
        plain: Without any means of [robust], as losses are measured on validation rows.
    """

    def __init__(
        self,
        recipe: Recipe,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        teacher: Decoder | None = None,
        reference: Reference | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self._recipe, self._robust = recipe, Robust() if plain else recipe.robust
        self._decoder, self._teacher = [decoder], [teacher]  # in lists: their weights are not this module's
        self._reference = reference or {}
        equalise, reverse = self._robust.equalise, self._robust.reverse
        self._equalise = None if equalise is None else Marker(equalise, tokenizer)
        self._reverse = None if reverse is None else Marker(reverse, tokenizer)
        self.adversary: Adversary | None = None
        if reverse is not None:
            generator = torch.Generator().manual_seed(recipe.seed)
            self.adversary = Adversary(decoder.arch.hidden_size, len(reverse.words), generator)

    def count(self, items: Sequence[Item]) -> Counts:
        """What the losses of a step of `items` are divided by."""
        return count(items, equalise=self._equalise, reverse=self._reverse)

    def forward(self, batch: Batch, counts: Counts) -> Tensor:
        """The loss of `batch`, its share of a step with `counts`."""
        decoder = self._decoder[0]

        def loss_of(embedded: Tensor) -> Tensor:
            return self._loss(batch, embedded, counts)

        return perturbed_loss(loss_of, decoder.embed(batch.ids), batch, self._robust)

    def clean(self, batch: Batch, counts: Counts) -> Tensor:
        """The same without noise and adversarial steps."""
        return self._loss(batch, self._decoder[0].embed(batch.ids), counts)

    def _loss(self, batch: Batch, embedded: Tensor, counts: Counts) -> Tensor:
        decoder = self._decoder[0]
        states = batch.before(decoder.hidden(embedded, batch.places))
        logits = decoder.head(states).float()  # of the tokens that are learnt only: most of a small model is its head
        if self._recipe.method == "dpo":
            return self._preference(batch, logits, counts)
        loss = self._likelihood(batch, logits) / counts.tokens
        if self._robust.rdrop:
            again = decoder.head(batch.before(decoder.hidden(embedded, batch.places))).float()
            loss = 0.5 * (loss + self._likelihood(batch, again) / counts.tokens)
            loss = loss + self._robust.rdrop * symmetric_divergence(logits, again) / counts.tokens
        return loss + self._at_words(batch, states, logits, counts)

    def _likelihood(self, batch: Batch, logits: Tensor) -> Tensor:
        """What is minimised on a batch of one pass, as a sum over its tokens."""
        smoothing, distil = self._robust.label_smoothing, self._recipe.distil
        teacher = self._teacher[0]
        if self._recipe.method != "distil" or teacher is None:
            return negative_log_likelihood(logits, batch.targets, smoothing=smoothing)
        with torch.no_grad():
            soft = teacher.head(batch.before(teacher.hidden(teacher.embed(batch.ids), batch.places))).float()
        loss = (1 - distil.hard) * distillation(logits, soft, temperature=distil.temperature)
        if distil.hard:
            hard = negative_log_likelihood(logits, batch.targets, smoothing=smoothing)
            loss = loss + distil.hard * hard
        return loss

    def _at_words(self, batch: Batch, states: Tensor, logits: Tensor, counts: Counts) -> Tensor:
        extra = torch.zeros(())
        if self._equalise is not None and self._robust.equalise is not None:
            marks = self._equalise.in_batch(batch)
            if marks:
                extra = extra + self._robust.equalise.weight * equalising_loss(logits, marks) / counts.equalised
        if self._reverse is not None and self._robust.reverse is not None and self.adversary is not None:
            marks = self._reverse.in_batch(batch)
            if marks:
                hidden = self.adversary(states, marks, weight=self._robust.reverse.weight)
                extra = extra + hidden / counts.reversed
        return extra

    def _preference(self, batch: Batch, logits: Tensor, counts: Counts) -> Tensor:
        dpo = self._recipe.dpo
        both = log_probabilities(logits, batch.targets, batch.owners, len(batch.examples))
        chosen, rejected = both[0::2], both[1::2]
        before = torch.tensor([self._reference[example.row] for example in batch.examples[0::2]])
        loss = preference(chosen, rejected, (before[:, 0], before[:, 1]), beta=dpo.beta) / counts.pairs
        return loss - dpo.nll * chosen.sum() / counts.tokens


@torch.no_grad()
def answer_log_probabilities(decoder: Decoder, batch: Batch) -> list[float]:
    """Log P of the answer of each example of `batch`."""
    states = batch.before(decoder.hidden(decoder.embed(batch.ids), batch.places))
    logits = decoder.head(states).float()
    found: list[float] = log_probabilities(logits, batch.targets, batch.owners, len(batch.examples)).tolist()
    return found
