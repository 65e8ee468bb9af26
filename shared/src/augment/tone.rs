//! Contrast and gamma as one curve, by a table.

use super::Look;

/// Intervals of the table; between its points the curve is taken for straight, less than half a grey level away from it.
const STEPS: usize = 1024;

/// The curve of one look.
pub(super) struct Curve([f32; STEPS + 2]);

impl Curve {
    /// The curve of `look` for an image whose mean is `mean`, in [0, 1]. None where it changes nothing.
    pub fn of(look: &Look, mean: f64) -> Option<Self> {
        if look.contrast == 1.0 && look.gamma == 1.0 {
            return None;
        }
        let mut points = [0.0; STEPS + 2];
        for (step, point) in points.iter_mut().enumerate() {
            let value = step.min(STEPS) as f64 / STEPS as f64;
            let value = (mean + (value - mean) * look.contrast).clamp(0.0, 1.0);
            let value = if value > 0.0 { (value.ln() * look.gamma).exp() } else { 0.0 };
            *point = value.min(1.0) as f32;
        }
        Some(Self(points))
    }

    /// Applies it to values in [0, 1].
    pub fn apply(&self, shown: &mut [f32]) {
        for value in shown {
            let place = *value * STEPS as f32;
            let step = (place as usize).min(STEPS);
            let [low, high] = [self.0[step], self.0[step + 1]];
            *value = low + (place - step as f32) * (high - low);
        }
    }
}
