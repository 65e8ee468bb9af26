//! Gaussian noise: the Box-Muller transform on a grid.
//!
//! 32 random bits make two independent normals: 12 bits choose a radius, 12 an angle, and tables hold what the
//! transform needs of both. So a pixel costs two look-ups instead of a logarithm and a cosine.

use std::{f64::consts::TAU, sync::OnceLock};

use crate::seed::Purpose;

use super::Look;

/// Radii, and angles.
const GRID: usize = 4096;

struct Tables {
    /// Equally probable.
    radii: [f32; GRID],
    cosines: [f32; GRID],
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let middle = |index: usize| (index as f64 + 0.5) / GRID as f64;
        Tables {
            radii: std::array::from_fn(|index| (-2.0 * middle(index).ln()).sqrt() as f32),
            cosines: std::array::from_fn(|index| (TAU * middle(index)).cos() as f32),
        }
    })
}

/// Adds the noise of `look` to values in [0, 1], which stay there.
pub(super) fn add(look: &Look, shown: &mut [f32]) {
    let (tables, deviation) = (tables(), look.noise as f32);
    let mut draws = look.whose.draws(Purpose::Noise);
    for pixels in shown.chunks_mut(4) {
        let bits = draws.bits();
        let normals = normals(tables, [bits as u32, (bits >> 32) as u32]);
        for (value, normal) in pixels.iter_mut().zip(normals) {
            let noisy = *value + deviation * normal;
            *value = noisy.clamp(0.0, 1.0);
        }
    }
}

#[inline(always)]
fn normals(tables: &Tables, words: [u32; 2]) -> [f32; 4] {
    let [a, b] = words.map(|word| {
        let (radius, angle) = (tables.radii[(word >> 20) as usize], word as usize % GRID);
        // sin(x) = cos(x − 90°)
        let sine = (angle + GRID - GRID / 4) % GRID;
        [radius * tables.cosines[angle], radius * tables.cosines[sine]]
    });
    [a[0], a[1], b[0], b[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_over_the_whole_grid_have_the_moments_of_a_standard_normal() {
        let values: Vec<f64> = (0..GRID as u32)
            .flat_map(|radius| normals(tables(), [(radius << 20) + radius * 1013 % 4096, 0])[..2].to_vec())
            .map(f64::from)
            .collect();
        let moment = |power| values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64;
        let moments = [1, 2, 3, 4].map(moment);
        for (moment, expected) in moments.into_iter().zip([0.0, 1.0, 0.0, 3.0]) {
            assert!((moment - expected).abs() < 0.1, "{moments:?}");
        }
    }
}
