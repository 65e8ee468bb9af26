"""Other people's programs, and papers' formulas where there are none, for what generate.py writes.

A score that is undefined is None or NaN.
"""

import math
import warnings
from fractions import Fraction

import numpy as np
import statsmodels.api as sm
from MLstatkit import Delong_test
from scipy import stats
from sklearn import metrics

warnings.simplefilter("ignore")  # of undefined scores, which become None here
BINS = np.arange(1, 10) / 10
SCORES = ["accuracy", "auc", "balanced_accuracy", "brier", "ece", "f1", "loss", "pr_auc", "precision", "recall", "specificity"]


def judged(classes):
    """The positive class, or each against the rest."""
    return [1] if classes == 2 else list(range(classes))


def calibration_error(y, rows, weight):
    """The gap between what is told and what comes true, bin by bin (Guo et al. 2017)."""
    told, true = (rows[:, 1], y) if rows.shape[1] == 2 else (rows.max(axis=1), y == rows.argmax(axis=1))
    bins = np.searchsorted(BINS, told, side="right")
    gaps = [abs((weight * (told - true))[bins == index].sum()) for index in range(10)]
    return sum(gaps) / weight.sum() if len(y) else None


def average_precision(y, rows, weight):
    """scikit-learn's, which calls it 0 without positives, where it is undefined."""
    of = judged(rows.shape[1])
    if not all((y == k).any() for k in of):
        return None
    return macro([metrics.average_precision_score(y == k, rows[:, k], sample_weight=weight) for k in of])


def macro(values):
    """The mean over classes; undefined where one is, which scikit-learn would leave out."""
    return float(np.mean(values))


def decided(y, called, classes, weight):
    """Scores of decisions: the positive class's, or the mean over classes."""
    labels = list(range(classes))
    recalls = metrics.recall_score(y, called, labels=labels, average=None, zero_division=np.nan, sample_weight=weight)

    def each(score):
        return macro([score(y == k, called == k) for k in judged(classes)])

    return {
        "accuracy": metrics.accuracy_score(y, called, sample_weight=weight),
        "balanced_accuracy": macro(recalls),
        "precision": each(lambda a, b: metrics.precision_score(a, b, zero_division=np.nan, sample_weight=weight)),
        "recall": each(lambda a, b: metrics.recall_score(a, b, zero_division=np.nan, sample_weight=weight)),
        "specificity": each(lambda a, b: metrics.recall_score(~a, ~b, zero_division=np.nan, sample_weight=weight)),
        "f1": each(lambda a, b: metrics.f1_score(a, b, zero_division=np.nan, sample_weight=weight)),
    }


def scores(y, rows, called, floor, weight=None):
    """Every score by name. `rows` are probabilities of every class, `floor` the least that a true class is credited with."""
    classes = rows.shape[1]
    weight = np.ones(len(y)) if weight is None else weight
    kept = weight > 0
    y, rows, called, weight = y[kept], rows[kept], called[kept], weight[kept]
    if len(y) == 0:
        return dict.fromkeys(SCORES)
    labels = list(range(classes))
    found = decided(y, called, classes, weight)
    # scikit-learn clips at both ends; its own clipping at the epsilon of f64 changes nothing after this.
    found["loss"] = metrics.log_loss(y, np.maximum(rows, floor), labels=labels, sample_weight=weight)
    if classes == 2:
        found["brier"] = metrics.brier_score_loss(y, rows[:, 1], pos_label=1, labels=labels, sample_weight=weight)
    else:
        found["brier"] = metrics.brier_score_loss(y, rows, labels=labels, sample_weight=weight)
    found["ece"] = calibration_error(y, rows, weight)
    found["auc"] = macro([metrics.roc_auc_score(y == k, rows[:, k], sample_weight=weight) for k in judged(classes)])
    if classes > 2 and set(y) == set(labels):
        whole = metrics.roc_auc_score(y, rows, multi_class="ovr", labels=labels, sample_weight=weight)
        assert abs(whole - found["auc"]) < 1e-12
    found["pr_auc"] = average_precision(y, rows, weight)
    return found


def thresholds(y, p):
    """Youden's and F1's thresholds; of equally good ones the largest. Compared in integers."""
    positives, negatives = int(y.sum()), int((1 - y).sum())
    youden = f1 = None
    if positives and negatives:
        fpr, tpr, at = metrics.roc_curve(y, p, drop_intermediate=False)
        tp, fp = np.rint(tpr * positives).astype(int), np.rint(fpr * negatives).astype(int)
        youden = float(at[1:][np.argmax((tp * negatives - fp * positives)[1:])])
    if positives:
        precision, recall, at = metrics.precision_recall_curve(y, p)
        tp = np.rint(recall * positives).astype(int)[:-1]
        called = [(p >= t).sum() for t in at]
        values = [Fraction(2 * int(a), int(b) + positives) for a, b in zip(tp, called)]
        f1 = float(max(t for t, value in zip(at, values) if value == max(values)))
    return youden, f1


def recalibration(y, p, floor, weight=None):
    """Logistic regression on the logit; none where the classes are separated or the scores are equal."""
    p = np.clip(p, floor, 1 - floor)
    x = np.log(p / (1 - p))
    weight = np.ones(len(y)) if weight is None else weight
    y, x, weight = y[weight > 0], x[weight > 0], weight[weight > 0]
    if not 0 < y.sum() < len(y):
        return None
    low, high = x[y == 0], x[y == 1]
    if low.max() <= high.min() or high.max() <= low.min():
        return None
    # Far-off logits are centred for the fit alone, which conditions it.
    centre = x.mean()
    model = sm.GLM(y, sm.add_constant(x - centre, has_constant="add"), family=sm.families.Binomial(), freq_weights=weight)
    fit = model.fit(maxiter=1000, tol=1e-15, tol_criterion="params")
    gradient = np.abs(model.score(fit.params)).max()
    assert gradient < 1e-9, gradient
    if weight.max() == 1:
        newton = sm.Logit(y, sm.add_constant(x - centre, has_constant="add")).fit(start_params=fit.params, tol=1e-14, disp=0)
        assert np.allclose(newton.params, fit.params, rtol=1e-9, atol=1e-9), (newton.params, fit.params)
    intercept, slope = fit.params
    return [intercept - slope * centre, slope]


class Area:
    """An area under a ROC curve and its placements, in fractions (DeLong et al. 1988, Obuchowski 1997)."""

    def __init__(self, y, p):
        above, below = p[y == 1], p[y == 0]
        kernel = 2 * (above[:, None] > below[None, :]).astype(int) + (above[:, None] == below[None, :])
        self.m, self.n = len(above), len(below)
        self.v10 = [Fraction(int(row), 2 * self.n) for row in kernel.sum(axis=1)]
        self.v01 = [Fraction(int(row), 2 * self.m) for row in kernel.sum(axis=0)]
        self.area = Fraction(int(kernel.sum()), 2 * self.m * self.n)


def delong(a, b):
    """The covariance of two areas on samples of their own: S10 / m + S01 / n."""
    s10 = sum((x - a.area) * (y - b.area) for x, y in zip(a.v10, b.v10)) / (a.m - 1)
    s01 = sum((x - a.area) * (y - b.area) for x, y in zip(a.v01, b.v01)) / (a.n - 1)
    return s10 / a.m + s01 / a.n


def obuchowski(y, a, b, clusters):
    """The covariance of two areas on samples of clusters: S10 / M + S01 / N + S11 / (M N) + S11' / (M N). None where no two clusters
    have positives, or negatives."""
    of10, of01 = clusters[y == 1], clusters[y == 0]
    names = np.unique(clusters).tolist()

    def sums(values, of, area):
        total = dict.fromkeys(names, Fraction(0))
        for value, cluster in zip(values, of.tolist()):
            total[cluster] += value - area  # V(X_i.) - m_i A
        return total

    x, y_ = [sums(one.v10, of10, one.area) for one in (a, b)], [sums(one.v01, of01, one.area) for one in (a, b)]
    i10, i01, i = len(set(of10.tolist())), len(set(of01.tolist())), len(names)
    if i10 < 2 or i01 < 2:
        return None
    product = lambda one, other: sum(one[name] * other[name] for name in names)
    s10 = Fraction(i10, (i10 - 1) * a.m) * product(x[0], x[1])
    s01 = Fraction(i01, (i01 - 1) * a.n) * product(y_[0], y_[1])
    s11 = Fraction(i, i - 1) * (product(x[0], y_[1]) + product(x[1], y_[0]))
    return s10 / a.m + s01 / a.n + s11 / (a.m * a.n)


def area_test(y, first, second, clusters):
    """Variance of the first area, and the test of the second against the first."""
    if not 0 < y.sum() < len(y):
        return None
    a, b = Area(y, first), Area(y, second)
    covariances = [obuchowski(y, *pair, clusters) for pair in [(a, a), (b, b), (a, b)]]
    if covariances[0] is None:
        return None
    alone = len(set(clusters.tolist())) == len(y)
    if alone:
        assert covariances == [delong(a, a), delong(b, b), delong(a, b)], "without clusters it is DeLong's"
    # An estimate below 0, which clusters can bring about, counts as none.
    variance = max(covariances[0] + covariances[1] - 2 * covariances[2], Fraction(0))
    difference = b.area - a.area
    z = float(difference) / math.sqrt(variance) if variance else (0.0 if difference == 0 else None)
    p = None if z is None else float(2 * stats.norm.sf(abs(z)))
    if alone and variance > 1e-12:
        kit = Delong_test(y, first, second)
        assert kit[6]["method"] == "delong" and abs(kit[6]["var_diff"] / float(variance) - 1) < 1e-9
        assert abs(kit[0] - z) < 1e-9 * (1 + abs(z)) and math.isclose(kit[1], p, rel_tol=1e-6)
        z, p = kit[0], kit[1]
    first_variance = float(max(covariances[0], Fraction(0)))
    return {"of_first": first_variance, "difference": float(difference), "variance": float(variance), "z": z, "p": p}


def of_ratios(ratios, clusters):
    """The variance of a mean of ratios of sums, linearised, clusters being what is drawn."""
    names = np.unique(clusters)
    parts = np.zeros(len(names))
    for above, below in ratios:
        if len(np.unique(clusters[below > 0])) < 2:
            return None
        left = (above - above.sum() / below.sum() * below) / below.sum()
        parts += np.array([left[clusters == name].sum() for name in names]) / len(ratios)
    return float(len(names) / (len(names) - 1) * (parts**2).sum())


def of_weighted_mean(above, below, clusters):
    """The same of one ratio, as the cluster-robust variance of a weighted mean in statsmodels."""
    if len(np.unique(clusters[below > 0])) < 2:
        return None
    groups = len(np.unique(clusters))
    values = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    kwds = {"groups": clusters, "use_correction": False}
    fit = sm.WLS(values, np.ones(len(values)), weights=below).fit(cov_type="cluster", cov_kwds=kwds)
    return float(fit.bse[0] ** 2 * groups / (groups - 1))


def calibration_variance(y, rows, clusters):
    """Of the calibration error, as a mean of gaps, each counted on the side on which its bin's gap is."""
    told, true = (rows[:, 1], y) if rows.shape[1] == 2 else (rows.max(axis=1), y == rows.argmax(axis=1))
    bins = np.searchsorted(BINS, told, side="right")
    sides = np.array([-1.0 if (told - true)[bins == index].sum() < 0 else 1.0 for index in bins])
    return of_weighted_mean(sides * (told - true), np.ones(len(y)), clusters)


def precision_variance(y, rows, clusters):
    """Of average precision, by its derivatives by the samples' weights; some are held against differences of scikit-learn's."""
    names, parts = np.unique(clusters), 0
    of = judged(rows.shape[1])
    if any(len(np.unique(clusters[y == k])) < 2 for k in of):
        return None
    for k in of:
        is_, s = y == k, rows[:, k]
        called = s[:, None] >= s[None, :]  # [j, i]: j is called at the threshold of i
        all_, right = called.sum(axis=0), (called & is_[:, None]).sum(axis=0)
        precision = right / all_
        area = metrics.average_precision_score(is_, s)
        of_thresholds = ((is_[:, None] - precision[None, :]) / all_[None, :] * (called & is_[None, :])).sum(axis=1)
        derivative = (is_ * (precision - area) + of_thresholds) / is_.sum()
        for j in range(0, len(y), 7):
            weight = [np.ones(len(y)), np.ones(len(y))]
            weight[0][j], weight[1][j] = 1 - 1e-5, 1 + 1e-5
            low, high = [metrics.average_precision_score(is_, s, sample_weight=w) for w in weight]
            assert abs((high - low) / 2e-5 - derivative[j]) < 1e-7, (j, high - low, derivative[j])
        parts = parts + np.array([derivative[clusters == name].sum() for name in names]) / len(of)
    return float(len(names) / (len(names) - 1) * (parts**2).sum())


def variances(y, rows, called, floor, clusters):
    """Of every score, by name."""
    if len(set(clusters.tolist())) < 2:
        return dict.fromkeys(SCORES)
    classes = rows.shape[1]
    every = list(range(classes))
    of = judged(classes)
    is_, calls = [(y == k).astype(float) for k in every], [(called == k).astype(float) for k in every]
    one = np.ones(len(y))
    loss = -np.log(np.maximum(rows[np.arange(len(y)), y], floor))
    squared = (y - rows[:, 1]) ** 2 if classes == 2 else ((np.eye(classes)[y] - rows) ** 2).sum(axis=1)
    recalls = [(is_[k] * calls[k], is_[k]) for k in every]
    ratios = {
        "accuracy": [((y == called).astype(float), one)],
        "balanced_accuracy": recalls,
        "brier": [(squared, one)],
        "f1": [(2 * is_[k] * calls[k], is_[k] + calls[k]) for k in of],
        "loss": [(loss, one)],
        "precision": [(is_[k] * calls[k], calls[k]) for k in of],
        "recall": [recalls[k] for k in of],
        "specificity": [((1 - is_[k]) * (1 - calls[k]), 1 - is_[k]) for k in of],
    }
    found = {}
    for name, terms in ratios.items():
        found[name] = of_weighted_mean(*terms[0], clusters) if len(terms) == 1 else of_ratios(terms, clusters)
    if classes == 2 and len(np.unique(clusters[y == 1])) < 2:
        found["f1"] = None
    found["ece"] = calibration_variance(y, rows, clusters)
    found["pr_auc"] = precision_variance(y, rows, clusters)
    found["auc"] = of_mean_area(y, rows, clusters, of)
    return found


def of_mean_area(y, rows, clusters, of):
    """Of the area; of a mean of areas by what each cluster contributes to all of them."""
    names, parts = np.unique(clusters), 0
    for k in of:
        is_ = (y == k).astype(int)
        if not 0 < is_.sum() < len(y):
            return None
        area = Area(is_, rows[:, k])
        variance = obuchowski(is_, area, area, clusters)
        if variance is None or len(of) == 1:
            return None if variance is None else float(max(variance, 0))
        placed = np.empty(len(y))
        placed[is_ == 1] = [float(v - area.area) / area.m for v in area.v10]
        placed[is_ == 0] = [float(v - area.area) / area.n for v in area.v01]
        parts = parts + np.array([placed[clusters == name].sum() for name in names]) / len(of)
    return float(len(names) / (len(names) - 1) * (parts**2).sum())
