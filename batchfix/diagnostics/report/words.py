"""Words: what each number means and what to do about it, and what no number here can say.

A section's key and its verdict flow in; two sentences flow out.
"""

from __future__ import annotations

from typing import NamedTuple

TITLES = {
    "forecast": "Can batch and biology be told apart?",
    "samples": "What do the samples look like?",
    "batch_variance": "How much of the table is batch?",
    "biology": "Is the biology still there?",
    "dispersion": "Do batches scatter alike?",
    "predictability": "Can a classifier tell the batches apart?",
    "leave_one_batch_out": "Is biology predicted in a batch never seen?",
    "mixing": "Do batches mix among neighbours?",
    "features": "Which features does batch move?",
    "placebo": "What is found where there is nothing?",
    "notes": "What was warned of on the way",
}

HEADLINES = {
    "fine": "The correction did what it should, and nothing was lost that these numbers see.",
    "under-corrected": "Something of the batches is left.",
    "over-fitted": "The correction did more than take batches out.",
    "under-corrected and over-fitted": "Something of the batches is left, and something besides them was changed.",
    "undecided": "The numbers that decide could not be had.",
}

HEADLINES_AS_MEASURED = {
    "fine": "No batch effect was found: a correction would have little to take out.",
    "under-corrected": "There is a batch effect.",
    "undecided": "Whether there is a batch effect could not be told.",
}

DESIGNED_SO = {
    "fine": "No batch effect was found, and this design could not tell one from what is kept.",
    "under-corrected": "There is a batch effect, and this design cannot tell it from what is kept.",
    "undecided": "This design cannot tell batch from what is kept.",
}
"""Of a table as measured whose design stops any correction."""

BY_FEATURE = "There is a batch effect, seen feature by feature; the other numbers need complete values."
IN_SAMPLE = (
    "In the samples that were corrected no batch is seen, as it must be; only samples that the correction has not "
    "learned from would tell more."
)
REFUSED = "The table cannot be corrected so."
LIMITED = "What could be corrected was corrected, but something limits what it is worth."


class Words(NamedTuple):
    """What a number means, and what to do next; or a title and a paragraph."""

    first: str
    then: str


class Advice(NamedTuple):
    """What a number means, and what to do next: of one that is fine or cannot be judged, and of one that is not."""

    fine: Words
    warn: Words
    measured: Words | None = None
    """Of a table that was not corrected, where the number is not fine; as `warn` if None."""
    measured_fine: Words | None = None
    """The same, where it is; as `fine` if None."""

    def of(self, verdict: str, *, corrected: bool) -> Words:
        """Those that fit."""
        if verdict in ("", "fine"):
            return self.fine if corrected or self.measured_fine is None else self.measured_fine
        return self.warn if corrected or self.measured is None else self.measured


ADVICE = {
    "forecast": Advice(
        Words(
            "Batches share little with what is compared, so a correction can tell them apart.",
            "Name what is kept when correcting, and test on the uncorrected table with batch in the model.",
        ),
        Words(
            "Part of the difference that you want to see is also a difference between batches, and no correction can "
            "know whose it is.",
            "Compare within batches where you can. Test on the uncorrected table with batch in the model, whose "
            "standard errors tell the cost; a naive test on a corrected table finds too much.",
        ),
    ),
    "batch_variance": Advice(
        Words(
            "Batches lie no further apart than the noise of their means.",
            "Nothing: location is dealt with.",
        ),
        Words(
            "Batches still lie apart in samples that the correction has not learned from, so they will in new ones.",
            "Look at the worst features below. If batches are small, choose a method that shrinks (ComBat); if they "
            "drift within themselves, name finer batches.",
        ),
        Words(
            "Samples of one batch have something in common that has nothing to do with what is kept.",
            "Correct the table, or put batch in the model of every test.",
        ),
        Words(
            "Batches lie no further apart than chance lets them.",
            "Nothing: there is no difference in location to take out.",
        ),
    ),
    "biology": Advice(
        Words(
            "What is kept stands as clear against the rest as it did before.",
            "Nothing. That it explains a larger share after a correction is no gain: the whole became smaller.",
        ),
        Words(
            "The correction changed what it was to leave alone: what is kept stands less clear than before, or "
            "suspiciously clearer.",
            "If less clear, name it as kept. If clearer, run the placebo test: a corrector that was told the labels "
            "may have written them into the values.",
        ),
        None,
        Words(
            "This is what a correction must not lose.",
            "Name it as kept when correcting, unless a model is to predict it.",
        ),
    ),
    "dispersion": Advice(
        Words(
            "Batches are as noisy as each other, as far as these samples tell.",
            "Nothing: scale is dealt with.",
        ),
        Words(
            "Some batches are noisier than others, which moving them cannot mend.",
            "Choose a method that scales (ComBat, location-scale). If it does so already, look for far samples in the "
            "pictures, or leave the noisiest batch out and see what changes.",
        ),
        Words(
            "Some batches are noisier than others, in scale and not in location.",
            "Choose a method that scales (ComBat, location-scale) rather than one that shifts.",
        ),
        Words(
            "Batches are as noisy as each other, as far as these samples tell.",
            "If batches lie apart, moving them is enough: scaling them would add noise.",
        ),
    ),
    "predictability": Advice(
        Words(
            "A classifier that never saw the test samples does not know which batch they came from.",
            "Nothing.",
        ),
        Words(
            "Batches can be told apart by something that the correction left or made.",
            "If the linear classifier finds it, location is left: see the features. If only the forest does, it is "
            "spread or shape: choose a method that scales.",
        ),
        Words(
            "A classifier knows which batch a sample came from. Any model trained on this table can learn that "
            "instead of biology.",
            "Correct inside the cross-validation of your own model, never before it.",
        ),
        Words("A classifier cannot tell which batch a sample came from.", "Nothing."),
    ),
    "predicted_from_biology": Advice(
        Words(
            "What is kept differs between batches, so it tells of batch too: a sound correction leaves an area above "
            "chance, and this number cannot say how much of it is batch.",
            "Read the others: batch beyond what is kept, held out, and feature by feature.",
        ),
        Words("", ""),
    ),
    "leave_one_batch_out": Advice(
        Words(
            "What is learned from some batches holds in one that was never seen, as well as it did before.",
            "Report this score, not one from samples dealt at random into folds.",
        ),
        Words(
            "What is learned from some batches holds less well in a new one after the correction than before it.",
            "Do not use the corrected table for prediction before you know why: keep less, shrink more, or look for "
            "effects turned upside down in features that a batch nearly lacks.",
        ),
        None,
        Words(
            "This is how well what is kept can be predicted in new batches as things are: what a correction must not "
            "make worse.",
            "Give the corrector, to see whether it helps or harms.",
        ),
    ),
    "mixing": Advice(
        Words(
            "How many batches, effectively, are among a sample's neighbours: near chance, they mix. Of biology: near "
            "1, samples lie among their own kind.",
            "Read it beside the other numbers: neighbourhoods need many samples, and depend on their number.",
        ),
        Words("", ""),
    ),
    "features": Advice(
        Words(
            "No more features differ between batches than chance allows.",
            "Nothing.",
        ),
        Words(
            "These features still differ between batches in samples that the correction has not learned from.",
            "Look at the worst of them one by one: saturation, a detection limit or one broken batch is mended at its "
            "source, or the feature is left out.",
        ),
        Words(
            "These features differ between batches, beyond what is kept.",
            "Correct, or test each feature with batch in the model.",
        ),
    ),
    "placebo": Advice(
        Words(
            "Told of a biology that is not there, the corrector makes nothing of it.",
            "Nothing: what is found after the correction was not made by it.",
        ),
        Words(
            "Told of a biology that is not there, the corrector writes it into the values, so what it is told of for "
            "true will look clearer than it is, or upside down.",
            "Do not tell it the label that you will test or predict: leave it out of what is kept, or keep it in "
            "training only (keep_y=True, keep_at_transform=False), or choose a location-only method.",
        ),
    ),
}

GUIDANCE = (
    Words(
        "They do not make a test on the corrected table right",
        "A test on corrected values does not know that batch means were estimated: its standard errors are too small, "
        "and the more so the more batch and biology share. Test on the uncorrected table with batch in the model. Use "
        "corrected values for pictures, clustering and models that are validated on batches left out.",
    ),
    Words(
        "0 of batch in corrected samples is no success",
        "In the very samples that a location was learned from, batch means agree by construction: the R2 of batch is "
        "0 whatever was done, even on pure noise. What counts is measured in samples that the corrector has not "
        "learned from: about 2 (batches - 1) / samples is left there by noise alone.",
    ),
    Words(
        "A classifier of batch on corrected samples tells nonsense",
        "Cross-validated on a table that was corrected as a whole, it is wrong by construction, with areas far below "
        ".5. The corrector belongs inside the folds, of this number and of every model of yours.",
    ),
    Words(
        "Where batch and biology are one, no number helps",
        "If each batch holds one group, the difference between groups is the difference between batches. A correction "
        "takes out both or neither. Only samples of both groups in one batch can tell.",
    ),
    Words(
        "What is not named is not protected",
        "Everything that differs between batches and is not kept counts as batch effect: another age, another sex, "
        "another centre's patients. A good mix of neighbours may be bought with real differences.",
    ),
    Words(
        "They see means and spreads, and a little more",
        "A batch effect that acts on one kind of sample only, that grows with the signal, or that hides in few "
        "samples can be missed by all of them. Look at the pictures, and at the features you care about.",
    ),
    Words(
        "No verdict is a proof",
        "Few samples show little: what is not found may still be there. The thresholds are conventions, chosen so "
        "that what is flagged is worth a look.",
    ),
)
