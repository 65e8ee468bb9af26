//! The smooth displacement field of one image: a cubic B-spline over a coarse grid of random vectors.
//!
//! A value of the spline is a weighted mean of its control values, so no displacement is larger than the largest of
//! them. Unlike a filtered field of pixels it costs a few multiplications a pixel.

use std::ops::Range;

use crate::seed::Purpose;

use super::{Look, resample::CHUNK};

/// Cells of the grid along an axis; larger ones would do what rotation and zoom do.
const CELLS: usize = 4;
/// Control values along an axis.
const CONTROLS: usize = CELLS + 3;

/// Fields for images of one size, and the rows of the last one.
#[derive(Clone, Debug)]
pub(super) struct Displacement {
    size: usize,
    /// The weights of the four control values around each column.
    weights: [Vec<f64>; 4],
    /// Control values in pixels: to the right and down, rows of the grid after each other.
    controls: [[f64; CONTROLS * CONTROLS]; 2],
    /// Displacements of a row's pixels, filled up to whole chunks.
    row: [Vec<f64>; 2],
}

impl Displacement {
    pub fn new(size: usize) -> Self {
        let mut weights: [Vec<f64>; 4] = Default::default();
        for column in 0..size {
            for (weights, weight) in weights.iter_mut().zip(spline(column, size).1) {
                weights.push(weight);
            }
        }
        let row = vec![0.0; size.next_multiple_of(CHUNK)];
        Self { size, weights, controls: [[0.0; CONTROLS * CONTROLS]; 2], row: [row.clone(), row] }
    }

    /// Draws the field of `look`.
    pub fn draw(&mut self, look: &Look) {
        let most = look.elastic * self.size as f64;
        let mut draws = look.whose.draws(Purpose::Elastic);
        self.controls.as_flattened_mut().fill_with(|| draws.between(-most, most));
    }

    /// Computes the displacements of row `y`.
    pub fn set_row(&mut self, y: usize) {
        let (cell, weights) = spline(y, self.size);
        for (controls, row) in self.controls.iter().zip(&mut self.row) {
            let mut along = [0.0; CONTROLS];
            for (weight, controls) in weights.iter().zip(controls.chunks_exact(CONTROLS).skip(cell)) {
                for (along, control) in along.iter_mut().zip(controls) {
                    *along += weight * control;
                }
            }
            for cell in 0..CELLS {
                let columns = columns(cell, self.size);
                let [a, b, c, d] = self.weights.each_ref().map(|weights| &weights[columns.clone()]);
                let row = &mut row[columns];
                for n in 0..row.len() {
                    row[n] =
                        a[n] * along[cell] + b[n] * along[cell + 1] + c[n] * along[cell + 2] + d[n] * along[cell + 3];
                }
            }
        }
    }

    /// Displacements of the row's pixels, to the right and down.
    pub fn row(&self) -> [&[f64]; 2] {
        self.row.each_ref().map(Vec::as_slice)
    }
}

/// The cell that the centre of pixel `at` of `size` lies in, and the uniform cubic B-spline's weights there.
fn spline(at: usize, size: usize) -> (usize, [f64; 4]) {
    // Twice the pixel's place in cells, times its size, as a whole number: the centre is half a pixel in.
    let doubled = (2 * at + 1) * CELLS;
    let cell = doubled / (2 * size);
    let t = (doubled - cell * 2 * size) as f64 / (2 * size) as f64;
    let s = 1.0 - t;
    let inner = |t: f64| (t * t * t * 3.0 - t * t * 6.0 + 4.0) / 6.0;
    (cell, [s * s * s / 6.0, inner(t), inner(s), t * t * t / 6.0])
}

/// The pixels whose centres lie in a cell.
fn columns(cell: usize, size: usize) -> Range<usize> {
    // The first pixel with (2 · at + 1) · CELLS ≥ 2 · size · cell.
    let first = |cell: usize| (2 * size * cell).saturating_sub(CELLS).div_ceil(2 * CELLS).min(size);
    first(cell)..first(cell + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{augment::Policy, ids::Epoch};

    #[test]
    fn every_column_lies_in_its_cell() {
        for size in 1..200 {
            let cells: Vec<usize> = (0..CELLS).flat_map(|cell| columns(cell, size).map(move |_| cell)).collect();
            assert_eq!(cells, (0..size).map(|at| spline(at, size).0).collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn displacements_are_smooth_and_not_larger_than_allowed() {
        let size = 64;
        let look = Look::draw(&Policy { elastic: 0.1, ..Policy::NONE }, 3, Epoch(1), 5);
        let mut field = Displacement::new(size);
        field.draw(&look);
        let mut rows = Vec::new();
        for y in 0..size {
            field.set_row(y);
            rows.push(field.row()[1][..size].to_vec());
        }
        let all: Vec<f64> = rows.concat();
        let largest = all.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        assert!((0.5..=6.4).contains(&largest), "{largest}");
        // The control values are 16 pixels apart, so neighbours differ by a fraction of what they may.
        let mut down = rows.windows(2).flat_map(|pair| pair[0].iter().zip(&pair[1]));
        let mut across = rows.iter().flat_map(|row| row.iter().zip(&row[1..]));
        assert!(down.all(|(a, b)| (a - b).abs() < 1.0) && across.all(|(a, b)| (a - b).abs() < 1.0));
    }
}
