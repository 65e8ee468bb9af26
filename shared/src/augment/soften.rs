//! Gaussian blur, separable; beyond the border the border's values go on.

/// Buffers for images of one size.
#[derive(Clone, Debug)]
pub(super) struct Softener {
    size: usize,
    /// Blurred along rows only.
    half: Vec<f32>,
    /// A row with its continuation on both sides.
    row: Vec<f32>,
}

/// Below this many pixels all weights but the centre's are nothing in single precision.
const LEAST: f64 = 0.1;

impl Softener {
    pub fn new(size: usize) -> Self {
        Self { size, half: vec![0.0; size * size], row: Vec::new() }
    }

    /// Blurs `shown` with a Gaussian of `deviation` pixels.
    pub fn blur(&mut self, deviation: f64, shown: &mut [f32]) {
        if deviation < LEAST {
            return;
        }
        let kernel = kernel(deviation);
        let (size, radius) = (self.size, kernel.len() - 1);
        for (source, target) in shown.chunks_exact(size).zip(self.half.chunks_exact_mut(size)) {
            self.row.clear();
            self.row.resize(radius, source[0]);
            self.row.extend_from_slice(source);
            self.row.resize(size + 2 * radius, source[size - 1]);
            sum(target, &kernel, |distance| {
                [&self.row[radius - distance..][..size], &self.row[radius + distance..][..size]]
            });
        }
        for (y, target) in shown.chunks_exact_mut(size).enumerate() {
            sum(target, &kernel, |distance| {
                [y.saturating_sub(distance), (y + distance).min(size - 1)].map(|y| &self.half[y * size..][..size])
            });
        }
    }
}

/// Weights at distances 0, 1, 2, … up to three deviations; both sides together are 1.
fn kernel(deviation: f64) -> Vec<f32> {
    let radius = (3.0 * deviation).ceil() as i32;
    let weight = |distance: i32| (-f64::from(distance).powi(2) / (2.0 * deviation * deviation)).exp();
    let all: f64 = (-radius..=radius).map(weight).sum();
    (0..=radius).map(|distance| (weight(distance) / all) as f32).collect()
}

/// `target` becomes the weighted sum of the rows that `at` gives for each distance, the nearest first.
#[inline(always)]
fn sum<'a>(target: &mut [f32], kernel: &[f32], at: impl Fn(usize) -> [&'a [f32]; 2]) {
    let [centre, _] = at(0);
    for (target, centre) in target.iter_mut().zip(centre) {
        *target = kernel[0] * centre;
    }
    for (distance, weight) in kernel.iter().enumerate().skip(1) {
        let [before, after] = at(distance);
        for ((target, before), after) in target.iter_mut().zip(before).zip(after) {
            *target += weight * (before + after);
        }
    }
}
