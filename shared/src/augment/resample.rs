//! Geometry and brightness in one bilinear pass over the inverse map; what lies outside the source is black.
//!
//! The arithmetic is that of the plain definition (see `tests`), step by step in double precision, so that its bits are
//! those of `light@1` since there is a `light@1`. It is fast by its shape: a chunk of a row at a time, coordinates and
//! blending as loops over fixed arrays that compilers turn into vector instructions, and between them a gather that needs
//! no test for the border, because the source has a black frame.

use super::{Look, elastic::Displacement};

/// Pixels of a row that are made together.
pub(super) const CHUNK: usize = 32;
/// Width of the black frame: a coordinate further out than this shows nothing of the image either.
const FRAME: usize = 2;
/// 1.5 · 2⁵²: adding and subtracting it rounds a double to an integer, and adding 2⁵² leaves an integer in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
const INTEGER: f64 = 4_503_599_627_370_496.0;

/// Buffers for images of one size.
#[derive(Clone, Debug)]
pub(super) struct Resampler {
    size: usize,
    /// The source with its frame, `size + 2 · FRAME` pixels a row.
    framed: Vec<u8>,
    /// Cosine and sine of the rotation times each column's distance from the centre, filled up to whole chunks.
    columns: [Vec<f64>; 2],
    displacement: Displacement,
}

/// What is the same for all pixels of a row.
struct Row {
    sin: f64,
    cos: f64,
    zoom: f64,
    mirror: f64,
    centre: f64,
}

impl Resampler {
    pub fn new(size: usize) -> Self {
        let columns = vec![0.0; size.next_multiple_of(CHUNK)];
        Self {
            size,
            framed: vec![0; (size + 2 * FRAME).pow(2)],
            columns: [columns.clone(), columns],
            displacement: Displacement::new(size),
        }
    }

    /// Shows `pixels` as `look` turns, moves, zooms, bends and lightens them: values in [0, 1] into `shown`.
    pub fn show(&mut self, look: &Look, pixels: &[u8], shown: &mut [f32]) {
        let size = self.size;
        let stride = size + 2 * FRAME;
        for (source, framed) in pixels.chunks_exact(size).zip(self.framed.chunks_exact_mut(stride).skip(FRAME)) {
            framed[FRAME..][..size].copy_from_slice(source);
        }
        let centre = (size as f64 - 1.0) / 2.0;
        // Rows go downwards, so turning the source clockwise turns the picture counter-clockwise.
        let (sin, cos) = look.rotation.to_radians().sin_cos();
        let mirror = if look.flip { -1.0 } else { 1.0 };
        let [right, down] = look.translation.map(|share| share * size as f64);
        let [cosines, sines] = &mut self.columns;
        for (x, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
            let dx = x as f64 - centre - right;
            (*cosine, *sine) = (cos * dx, sin * dx);
        }
        if look.elastic > 0.0 {
            self.displacement.draw(look);
        }
        for (y, shown) in shown.chunks_exact_mut(size).enumerate() {
            let dy = y as f64 - centre - down;
            let row = Row { sin: sin * dy, cos: cos * dy, zoom: look.zoom, mirror, centre };
            if look.elastic > 0.0 {
                self.displacement.set_row(y);
            }
            self.row(&row, look, shown);
        }
    }

    fn row(&self, row: &Row, look: &Look, shown: &mut [f32]) {
        let [cosines, sines] = self.columns.each_ref().map(|values| values.as_chunks::<CHUNK>().0);
        let bent = self.displacement.row().map(|values| values.as_chunks::<CHUNK>().0);
        for (at, shown) in shown.chunks_mut(CHUNK).enumerate() {
            let [mut across, mut down] = row.source(&cosines[at], &sines[at]);
            if look.elastic > 0.0 {
                for n in 0..CHUNK {
                    across[n] += bent[0][at][n];
                    down[n] += bent[1][at][n];
                }
            }
            let values = self.sample(&across, &down, look.brightness);
            shown.copy_from_slice(&values[..shown.len()]);
        }
    }

    /// The image's values at `x` and `y`, between pixel centres, lightened.
    #[inline(always)]
    fn sample(&self, x: &[f64; CHUNK], y: &[f64; CHUNK], brightness: f64) -> [f32; CHUNK] {
        let stride = self.size + 2 * FRAME;
        let (mut across, mut along) = ([0.0; CHUNK], [0.0; CHUNK]);
        let mut places = [0; CHUNK];
        for n in 0..CHUNK {
            let (left, top) = (floor(x[n]), floor(y[n]));
            (across[n], along[n]) = (x[n] - left, y[n] - top);
            let place = self.framed_at(top) * stride as f64 + self.framed_at(left);
            places[n] = (place + INTEGER).to_bits() as u32;
        }
        let mut corners = [0; CHUNK];
        for (corners, place) in corners.iter_mut().zip(places) {
            let place = place as usize;
            let (upper, lower) = (&self.framed[place..place + 2], &self.framed[place + stride..place + stride + 2]);
            *corners = u32::from_le_bytes([upper[0], upper[1], lower[0], lower[1]]);
        }
        let mut values = [0.0; CHUNK];
        for n in 0..CHUNK {
            let corner = |which: u32| f64::from((corners[n] >> (8 * which) & 255) as i32);
            let upper = corner(0) * (1.0 - across[n]) + corner(1) * across[n];
            let lower = corner(2) * (1.0 - across[n]) + corner(3) * across[n];
            let grey = upper * (1.0 - along[n]) + lower * along[n];
            let value = grey * brightness / 255.0;
            values[n] = (if value < 1.0 { value } else { 1.0 }) as f32;
        }
        values
    }

    /// A whole coordinate as a place in the framed image, which is far enough out where the coordinate is.
    #[inline(always)]
    fn framed_at(&self, coordinate: f64) -> f64 {
        let (low, high) = (-(FRAME as f64), self.size as f64);
        let coordinate = if coordinate > low { coordinate } else { low };
        (if coordinate < high { coordinate } else { high }) + FRAME as f64
    }
}

impl Row {
    /// Where the pixels of a chunk come from.
    #[inline(always)]
    fn source(&self, cosines: &[f64; CHUNK], sines: &[f64; CHUNK]) -> [[f64; CHUNK]; 2] {
        let mut source = [[0.0; CHUNK]; 2];
        for n in 0..CHUNK {
            source[0][n] = (cosines[n] - self.sin) / self.zoom * self.mirror + self.centre;
            source[1][n] = (sines[n] + self.cos) / self.zoom + self.centre;
        }
        source
    }
}

/// `f64::floor` for values below 2⁵¹, without the call that it is where SSE 4.1 is not assumed.
#[inline(always)]
fn floor(value: f64) -> f64 {
    let rounded = (value + ROUND) - ROUND;
    rounded - if rounded > value { 1.0 } else { 0.0 }
}
