"""What the statistics of this crate are held against: random cases with values from other people's programs.

    python generate.py      writes cases.json beside this file, the same bytes each time

An expected value comes from scikit-learn, statsmodels, SciPy or MLstatkit where one of them has the statistic. Where none does
(areas of clustered samples, the expected calibration error, average precision, means over seeds and patients) it is written out here
from the paper's formula, in O(n^2) and where possible in fractions. `null` is what has no value.

Made with Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.0, statsmodels 0.15.0 and MLstatkit 0.1.91.
"""

import json
import math
from pathlib import Path

import numpy as np
from references import Area, area_test, obuchowski, recalibration, scores, thresholds, variances
from scipy import optimize, stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

rng = np.random.default_rng(20240611)


def patients(n):
    """Samples in patients of one to five, in random order and numbered as they come."""
    of = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 6, n))[:n]).tolist()
    numbers = {name: number for number, name in enumerate(dict.fromkeys(of))}
    return np.array([numbers[name] for name in of], dtype=int)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rounded(p, steps):
    return np.rint(p * steps) / steps if steps else p


def binary(index):
    """Two classes, two models, and decisions of both."""
    n = int(rng.integers(1, 7)) if index % 4 == 0 else int(np.exp(rng.uniform(np.log(7), np.log(150))))
    n = 0 if index == 0 else 150 if index == 1 else n
    steps = [8, 16, 100, 0][index // 4 % 4]
    y = (rng.random(n) < [0.5, 0.5, 0.2, 0.05, 0.9][index % 5]).astype(int)
    if index % 23 == 3:
        y[:] = index % 2
    strength, bias = rng.uniform(-0.5, 3), rng.normal() * 0.5
    logit = bias + strength * (y - 0.5) + rng.normal(size=n) * 1.2
    other = 0.8 * logit + 0.3 * strength * (y - 0.5) + rng.normal(size=n) * rng.uniform(0.2, 1.5)
    first, second = rounded(sigmoid(logit), steps), rounded(sigmoid(other), steps)
    if index % 29 == 5:
        first = np.full(n, [0.1, 0.5, 1 / 3, 0.0, 1.0, 0.9876][index // 29 % 6])
    if index % 17 == 7:  # certain of some, rightly or not
        first = np.where(rng.random(n) < 0.3, np.rint(first), first)
        second = np.where(rng.random(n) < 0.3, rng.integers(0, 2, n), second)
    if index % 31 == 9:  # perfectly separated, and one tie between the sides in every other
        first = np.where(y == 1, 0.5 + first / 2, first / 2 - (0.001 if index % 2 and n else 0) * (first > 0.01))
    if index % 37 == 11:
        second = first.copy() if index % 2 else first**2
    if index % 41 == 13:  # certain and different: no variance
        first, second = np.full(n, 0.5), 0.25 + y / 2
    clusters = patients(n) if index % 3 else np.arange(n)
    threshold = 0.5 if index % 2 or n == 0 else float(rng.choice(first))
    called, other_called = (first >= threshold).astype(int), (second >= threshold).astype(int)
    rows, eps = np.stack([1 - first, first], axis=1), np.finfo(float).eps
    right, other_right = called == y, other_called == y
    table = [[int(((right == a) & (other_right == b)).sum()) for b in (True, False)] for a in (True, False)]
    weights = rng.integers(0, 4, len(set(clusters.tolist())))
    weight = weights[clusters].astype(float) if n else np.ones(0)
    whole = recalibration(y, first, eps)
    youden, f1 = thresholds(y, first)
    confusion = metrics.confusion_matrix(y, called, labels=[0, 1]).tolist() if n else [[0, 0], [0, 0]]
    return {
        "labels": y, "scores": first, "second": second, "clusters": clusters, "threshold": threshold, "weights": weights,
        "expected": scores(y, rows, called, eps), "weighted": scores(y, rows, called, eps, weight),
        "variances": variances(y, rows, called, eps, clusters), "confusion": confusion, "youden": youden, "f1": f1,
        "delong": area_test(y, first, second, np.arange(n)), "clustered": area_test(y, first, second, clusters),
        "mcnemar": [table[0][1], table[1][0], float(mcnemar(table, exact=True).pvalue)],
        "recalibration": whole, "weighted_slope": None if whole is None else (recalibration(y, first, eps, weight) or [None, None])[1],
    }


def rows_of(index):
    """Two, three or four classes, probabilities kept as f32."""
    classes = [3, 4, 3, 4, 2][index % 5]
    n = int(rng.integers(1, 7)) if index % 6 == 0 else int(rng.integers(7, 70))
    y = rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 4)))
    raw = rng.gamma(0.7, size=(n, classes)) + rng.uniform(0, 1) * np.eye(classes)[y] + 1e-9
    if index % 3 == 0:
        raw = np.rint(raw * 3) + (raw.sum(axis=1, keepdims=True) < 2)
    rows = (raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    rows[~np.isclose(rows.sum(axis=1), 1)] = np.float32(1 / classes)
    if index % 5 == 1:
        certain = rng.random(n) < 0.2
        rows[certain] = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, certain.sum())]
    exact, eps = rows.astype(float), float(np.finfo(np.float32).eps)
    called = (exact[:, 1] >= 0.5).astype(int) if classes == 2 else exact.argmax(axis=1)
    clusters = patients(n)
    text = [float(str(value)) for value in rows.ravel()]
    assert all(np.float32(a) == b for a, b in zip(text, rows.ravel()))
    return {
        "classes": classes, "labels": y, "probabilities": text, "clusters": clusters,
        "expected": scores(y, exact, called, eps), "variances": variances(y, exact, called, eps, clusters),
        "confusion": metrics.confusion_matrix(y, called, labels=range(classes)).tolist(),
        "recalibration": recalibration(y, exact[:, 1], eps) if classes == 2 else None,
    }


def mean_tests(mean, error, df, margin, confidence):
    """What is said of a mean with this standard error."""
    reach = stats.t.ppf((1 + confidence) / 2, df) * error if math.isfinite(df) else stats.norm.ppf((1 + confidence) / 2) * error
    law = stats.t(df) if math.isfinite(df) else stats.norm
    return {
        "margin": margin, "confidence": confidence, "interval": [mean - reach, mean + reach], "p": 2 * law.sf(abs(mean) / error),
        "equivalence": max(law.sf((mean + margin) / error), law.sf((margin - mean) / error)),
    }


def crossed(index):
    """Seeds on the same patients (Obuchowski and Rockette 1995, Hillis 2007): areas of clusters, or squared errors."""
    seeds, n = 1 + index % 6, int(rng.integers(12, 45))
    y = np.arange(n) % 2
    common = rng.normal(size=n) + y
    models = [np.round(sigmoid(common + rng.normal(size=n) * 0.7 + rng.normal() * 0.3), 3) for _ in range(seeds)]
    if index % 8 == 7:  # seeds that hardly differ bring about very many degrees of freedom
        models = [sigmoid(common + rng.normal(size=n) * 10.0 ** -(1 + index // 8)) for _ in range(seeds)]
    clusters = patients(n) if index % 2 else np.arange(n)
    score = ["auc", "brier"][index // 2 % 2]
    if score == "auc":
        areas = [Area(y, p) for p in models]
        values = np.array([float(area.area) for area in areas])
        covariance = np.array([[float(obuchowski(y, a, b, clusters)) for a in areas] for b in areas])
    else:
        clusters = np.arange(n)
        errors = np.array([(y - p) ** 2 for p in models])
        values, covariance = errors.mean(axis=1), np.cov(errors).reshape(seeds, seeds) / n
    if seeds == 1:
        seed_variance, patient_variance, df = None, float(covariance[0, 0]), math.inf
        variance = patient_variance
    else:
        seed_variance = float(np.var(values, ddof=1))
        patient_variance = max(float(covariance[~np.eye(seeds, dtype=bool)].mean()), 0.0)
        # Seeds differ by no less than what their own patients' noise makes of it; where few do by chance, half way (ADR 0018).
        least = float(np.diag(covariance).mean()) - patient_variance
        variance = max(seed_variance, (seed_variance + least) / 2) / seeds + patient_variance
        df = (seeds - 1) * (1 + seeds * patient_variance / seed_variance) ** 2
    tests = mean_tests(float(values.mean()), math.sqrt(variance), df, float(rng.uniform(0.5, 1.2)), [0.95, 0.9, 0.99][index % 3])
    return {
        "score": score, "labels": y, "models": models, "clusters": clusters, "mean": float(values.mean()),
        "seed_variance": seed_variance, "patient_variance": patient_variance, "df": None if math.isinf(df) else df, **tests,
    }


def t_test(index):
    """A mean over seeds alone is the t-test; two one-sided ones are for equivalence."""
    x = rng.normal(rng.choice([0, 0.5, 3]), 1, 2 + index % 11) * 10 ** rng.uniform(-3, 1)
    confidence = [0.95, 0.9, 0.99, 0.8][index % 4]
    margin = float(np.abs(x.mean()) * rng.uniform(0.3, 2) + x.std() * rng.uniform(0.1, 2))
    found = stats.ttest_1samp(x, 0)
    interval = found.confidence_interval(confidence)
    return {
        "values": x, "confidence": confidence, "interval": [float(interval.low), float(interval.high)], "p": float(found.pvalue),
        "margin": margin, "equivalence": float(DescrStatsW(x).ttost_mean(-margin, margin)[0]),
    }


def sign_flip(index):
    """Every sign pattern of two pairs or more. Multiples of 1/8 have exact sums and many ties."""
    n = 2 + index % 9
    x = np.rint(rng.normal(0.5, 1, n) * 4) / 8 if index % 2 else rng.normal(0.5, 1, n)
    found = stats.permutation_test((x,), np.sum, permutation_type="samples", n_resamples=np.inf)
    return {"differences": x, "p": float(found.pvalue)}


def many_sign_flips(index):
    """Too many patterns to visit, counted by their sums: all multiples of one step."""
    x = np.rint(rng.normal(0.25 * (index % 3), 1, 21 + index % 10) * 8).astype(int)
    counts = {0: 1}
    for step in x.tolist():
        after = {}
        for total, count in counts.items():
            for reached in (total + step, total - step):
                after[reached] = after.get(reached, 0) + count
        counts = after
    observed = abs(int(x.sum()))
    extreme = sum(count for total, count in counts.items() if abs(total) >= observed)
    return {"differences": x / 8, "p": extreme / 2 ** len(x)}


def over_seeds(index):
    arm, baseline = (rng.normal(0.3 * (index % 3), 1, rng.integers(1, 14)) for _ in range(2))
    if index % 2:
        arm, baseline = np.rint(arm * 4) / 4, np.rint(baseline * 4) / 4
    share = stats.mannwhitneyu(arm, baseline).statistic / (len(arm) * len(baseline))
    return {"arm": arm, "baseline": baseline, "iqm": float(stats.trim_mean(arm, 0.25)), "improvement": float(share)}


def holm(index):
    p = rng.uniform(0, 1, 1 + index % 12) ** rng.choice([1, 4])
    if index % 3 == 0:
        p = np.rint(p * 8) / 8
    return {"p": p, "corrected": multipletests(p, method="holm")[1]}


def of_t_test(effect, n, alpha):
    found = float(TTestPower().power(effect, n, alpha, alternative="two-sided"))
    if math.isnan(found):  # SciPy gives up on the far tail of a large effect, which is below 1e-9
        found = float(TTestPower().power(effect, n, alpha / 2, alternative="larger"))
    return found


def power(index):
    """The t-test's power; with patients the same law with more degrees of freedom. What statsmodels solves for stops early, so its
    power is solved for here."""
    n, alpha = 2 + index % 29, [0.05, 0.01, 0.1][index % 3]
    deviation, effect = 10 ** rng.uniform(-2, 1), float(np.exp(rng.uniform(np.log(0.05), np.log(4))))
    high = next(size for size in 1.2 ** np.arange(-20, 40) if of_t_test(size, n, alpha) > 0.8)
    smallest = optimize.brentq(lambda size: of_t_test(size, n, alpha) - 0.8, high / 1.2, high, xtol=1e-14, rtol=1e-14)
    needed = next(k for k in range(2, 20000) if of_t_test(effect, k, alpha) >= 0.8)
    patient = deviation**2 / n * rng.uniform(0.1, 3)
    variance = deviation**2 / n + patient
    df = variance**2 * (n - 1) / (deviation**2 / n) ** 2
    delta, critical = effect * deviation / math.sqrt(variance), stats.t.isf(alpha / 2, df)
    crossed_power = float(stats.nct.sf(critical, df, delta) + np.nan_to_num(stats.nct.cdf(-critical, df, delta)))
    return {
        "seeds": n, "alpha": alpha, "seed_variance": deviation**2, "difference": effect * deviation,
        "power": of_t_test(effect, n, alpha), "smallest": smallest * deviation if index % 6 == index // 29 else None,
        "needed": needed, "patient_variance": patient, "crossed_power": crossed_power,
    }


def discordance(index):
    low = int(10 ** rng.uniform(0, 4)) if index % 4 else int(rng.integers(0, 8))
    high = low + int(rng.normal() * 2 * math.sqrt(low + 1))
    pair = [low, max(high, 0)]
    return [*pair, float(mcnemar([[0, pair[0]], [pair[1], 0]], exact=True).pvalue)]


def student(index):
    """Student's law and the noncentral one, also with so many degrees of freedom as seeds that agree bring about."""
    df = float([1, 2, 3, 4.5, 7.3, 11, 29, 100, 999, 1234.5, 1e5, 3e7, 4e9, 1e13, 1e18, 1e40][index % 16])
    t, p, delta = float(rng.normal() * 3), float(rng.uniform(0.0005, 0.9995)), float(rng.uniform(0, 3))
    # With 4e9 degrees of freedom SciPy is wrong in the eighth digit, as quadrature with 50 digits tells; the normal law is right in nine.
    noncentral = float(stats.nct.cdf(abs(t), df, delta) if df < 1e9 else stats.norm.cdf(abs(t) - delta))
    cdf, quantile = float(stats.t.cdf(t, df)), float(stats.t.ppf(p, df))
    return {"df": df, "t": t, "cdf": cdf, "p": p, "quantile": quantile, "delta": delta, "noncentral": noncentral}


def bootstrapped(index):
    """Seeds and patients drawn again, often enough that what is left of chance is small."""
    seeds, n, draws = 2 + index, int(rng.integers(20, 60)), 200_000
    values = rng.normal(size=(seeds, 1)) * rng.uniform(0.1, 1) + rng.normal(size=(1, n)) + rng.normal(size=(seeds, n)) * 0.5
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    of_patients = rng.multinomial(n, np.full(n, 1 / n), draws) / n
    means = np.einsum("ds,ds->d", of_seeds, of_patients @ values.T)
    return {
        "values": np.round(values, 4), "interval": np.percentile(means, [2.5, 97.5]), "deviation": float(means.std()),
        "seed_deviation": float(values.mean(axis=1).std() / math.sqrt(seeds)),
        "patient_deviation": float(values.mean(axis=0).std() / math.sqrt(n)),
    }


def plain(value):
    """What JSON can say: nothing that is not a number."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) for part in value]
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return None
    assert math.isfinite(value)
    return float(value)


def main():
    kinds = {
        "binary": (binary, 300), "rows": (rows_of, 80), "crossed": (crossed, 48), "t": (t_test, 66), "sign_flip": (sign_flip, 60),
        "many_sign_flips": (many_sign_flips, 10), "over_seeds": (over_seeds, 60), "holm": (holm, 48), "power": (power, 87),
        "mcnemar": (discordance, 60), "student": (student, 160), "bootstrap": (bootstrapped, 6),
    }
    parts = []
    for kind, (make, count) in kinds.items():
        lines = [json.dumps(plain(make(index)), separators=(",", ":"), allow_nan=False) for index in range(count)]
        parts.append(f'"{kind}":[\n' + ",\n".join(lines) + "\n]")
    Path(__file__).with_name("cases.json").write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()
