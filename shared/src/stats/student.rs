//! Student's t: tails, quantiles, and the noncentral distribution that power is made of.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

/// More degrees of freedom than this are many. There ln Γ is the difference of large numbers, and its expansion is exact.
const MANY: f64 = 1e3;

/// `P(T <= t)` with `df` degrees of freedom, more than 0; infinitely many are the normal distribution.
pub(super) fn cdf(t: f64, df: f64) -> f64 {
    if df > MANY {
        return normal_cdf(as_normal(t, df));
    }
    StudentsT::new(0.0, 1.0, df).map_or_else(|_| normal_cdf(t), |student| student.cdf(t))
}

/// The normal deviate whose tail is that of `t`, for many degrees of freedom (Hill, Algorithm 395, Communications of the ACM 1970).
fn as_normal(t: f64, df: f64) -> f64 {
    if df.is_infinite() || (t * t).is_infinite() {
        return t;
    }
    let a = df - 0.5;
    let b = 48.0 * a * a;
    let square = a * (t * t / df).ln_1p();
    let z = square.sqrt().copysign(t);
    let second =
        (((4.0 * square + 33.0) * square + 240.0) * square + 855.0) / (10.0 * b * (b + 0.8 * square * square + 100.0));
    z + z * ((square + 3.0) / b - second)
}

/// Standard normal `P(Z <= z)`.
pub(super) fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// The two-sided p-value of `t`.
pub(super) fn two_sided(t: f64, df: f64) -> f64 {
    (2.0 * cdf(-t.abs(), df)).min(1.0)
}

/// The `t` below which a share `p`, in (0, 1), lies. By bisection on the tail: as exact as the tail is.
pub(super) fn quantile(p: f64, df: f64) -> f64 {
    if p > 0.5 {
        return -quantile(1.0 - p, df);
    }
    // The tail is at the left: find where it begins.
    let mut low = -1.0;
    while cdf(low, df) > p && low > -1e300 {
        low *= 2.0;
    }
    let mut high = 0.0;
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if cdf(middle, df) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// `P(T <= t)` for the noncentral t with noncentrality `delta`: the mean of `Φ(t·u - delta)` over `u`, the root of a
/// chi-square with `df` degrees of freedom over `df`; by Simpson's rule.
pub(super) fn noncentral_cdf(t: f64, df: f64, delta: f64) -> f64 {
    const STEPS: u32 = 1200;
    /// From here on `u` is 1 as far as anyone can tell.
    const NORMAL: f64 = 1e9;
    if df > NORMAL {
        return normal_cdf(t - delta);
    }
    // ln of the density of u = 1 + e: 2·(df/2)^(df/2) / Γ(df/2) · u^(df-1) · exp(-df·u²/2)
    let half = df / 2.0;
    // (df/2)·ln(df/2) - df/2 - ln Γ(df/2), of many by Stirling's series.
    let of_gamma = if df > MANY {
        (half / std::f64::consts::TAU).ln() / 2.0 - 1.0 / (12.0 * half) + 1.0 / (360.0 * half.powi(3))
    } else {
        half * half.ln() - half - ln_gamma(half)
    };
    let constant = 2f64.ln() + of_gamma;
    let density =
        |e: f64| if e > -1.0 { (constant + (df - 1.0) * e.ln_1p() - df * (e + e * e / 2.0)).exp() } else { 0.0 };
    // u has mean near 1 and standard deviation near 1/√(2·df); with few degrees of freedom the density near 0 counts.
    let spread = 12.0 / (2.0 * df).sqrt();
    let (low, high) = ((-spread).max(-1.0), spread);
    // The substitution e = low + x² makes the integrand smooth at u = 0 also where df < 2.
    let width = (high - low).sqrt() / f64::from(STEPS);
    let at = |index: u32| {
        let x = f64::from(index) * width;
        let e = low + x * x;
        normal_cdf(t * (1.0 + e) - delta) * density(e) * 2.0 * x
    };
    let inner: f64 = (1..STEPS).map(|index| at(index) * if index % 2 == 1 { 4.0 } else { 2.0 }).sum();
    ((at(0) + inner + at(STEPS)) * width / 3.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn as_scipy_has_them() {
        // scipy.stats.t.ppf, .cdf; scipy.stats.norm; scipy.stats.nct.cdf
        near(quantile(0.975, 2.0), 4.302652729749462);
        near(quantile(0.975, 4.5), 2.6589123472044034);
        near(quantile(0.05, 1.0), -6.313751514675044);
        near(quantile(0.975, f64::INFINITY), 1.959963984540054);
        near(cdf(-3.2, 7.3), 0.007119834019329153);
        near(two_sided(2.5, 4.0), 0.06676654481198814);
        near(noncentral_cdf(2.0, 5.0, 1.5), 0.6314492472556718);
        near(noncentral_cdf(4.302652729911275, 2.0, 3.0), 0.6126106498198225);
        near(noncentral_cdf(0.5, 1.0, 0.2), 0.5740729089825238);
        near(noncentral_cdf(2.2, 60.0, 2.0), 0.5741772359933286);
        near(noncentral_cdf(2.2, 1e6, 2.0), 0.5792593997335805);
    }
}
