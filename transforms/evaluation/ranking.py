"""How well scores rank rows, from binned scores: two counts a bin, whatever the number of rows."""

import numpy as np

AUC_BINS = 10_000


def binned_auc(negatives: np.ndarray, positives: np.ndarray) -> tuple[float | None, float | None]:
    """Area under the ROC curve, and how far from it the exact one can be.

    The area is the share of pairs of a negative and a positive row in which the positive one scores higher. Pairs in
    one bin count half; each of them may really count 0 or 1.

    Args:
        negatives: rows of label 0 by bin of their score, `[num_bins]`, from low scores to high.
        positives: rows of label 1.
    """
    pairs = float(negatives.sum() * positives.sum())
    if pairs == 0:
        return None, None
    below = np.cumsum(negatives) - negatives
    tied = float(positives @ negatives) / 2
    return (float(positives @ below) + tied) / pairs, tied / pairs


def binned_average_precision(negatives: np.ndarray, positives: np.ndarray) -> float | None:
    """Area under the precision-recall curve: each bin's precision, weighted by the recall that it adds.

    Args:
        negatives: rows of label 0 by bin of their score, `[num_bins]`, from low scores to high.
        positives: rows of label 1.
    """
    true_positives, false_positives = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    total = float(positives.sum())
    return float(precision @ positives[::-1]) / total if total else None
