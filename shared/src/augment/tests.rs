//! That `light@1` keeps its bits, that each change does what its name says, and that nothing ever changes.

use super::*;
use crate::{digest::Digest, ids::Epoch};

const IMAGE: [u8; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 250];

fn shown(look: Look) -> Vec<u8> {
    let mut shown = [0.0; 9];
    Canvas::new(3).show(&look, &IMAGE, &mut shown);
    shown.iter().map(|value| (value * 255.0).round() as u8).collect()
}

/// A picture without symmetry: rings, and one bright corner.
fn picture(size: usize) -> Vec<u8> {
    let pixel = |at: usize| {
        let (x, y) = (at % size, at / size);
        if x < size / 4 && y < size / 3 { 255 } else { ((x * x + 3 * y * y) / size % 256) as u8 }
    };
    (0..size * size).map(pixel).collect()
}

/// Geometry and brightness in plain words: the definition of `light@1`.
fn plainly(look: &Look, pixels: &[u8], size: usize) -> Vec<f32> {
    let bilinear = |x: f64, y: f64| {
        let (left, top) = (x.floor(), y.floor());
        let at = |column: f64, row: f64| {
            let last = size as f64 - 1.0;
            let inside = (0.0..=last).contains(&column) && (0.0..=last).contains(&row);
            if inside { f64::from(pixels[row as usize * size + column as usize]) } else { 0.0 }
        };
        let (across, along) = (x - left, y - top);
        let upper = at(left, top) * (1.0 - across) + at(left + 1.0, top) * across;
        let lower = at(left, top + 1.0) * (1.0 - across) + at(left + 1.0, top + 1.0) * across;
        upper * (1.0 - along) + lower * along
    };
    let centre = (size as f64 - 1.0) / 2.0;
    let (sin, cos) = look.rotation.to_radians().sin_cos();
    let mirror = if look.flip { -1.0 } else { 1.0 };
    let [right, down] = look.translation.map(|share| share * size as f64);
    let pixel = |at: usize| {
        let (x, y) = (at % size, at / size);
        let (dx, dy) = (x as f64 - centre - right, y as f64 - centre - down);
        let source_x = (cos * dx - sin * dy) / look.zoom * mirror + centre;
        let source_y = (sin * dx + cos * dy) / look.zoom + centre;
        (bilinear(source_x, source_y) * look.brightness / 255.0).min(1.0) as f32
    };
    (0..size * size).map(pixel).collect()
}

#[test]
fn no_change_shows_the_image_itself() {
    assert_eq!(shown(Look::PLAIN), IMAGE);
    assert_eq!(plainly(&Look::PLAIN, &IMAGE, 3)[8], 250.0 / 255.0);
}

#[test]
fn each_change_of_geometry_does_what_its_name_says() {
    let still = Look::PLAIN;
    assert_eq!(shown(Look { flip: true, ..still }), [30, 20, 10, 60, 50, 40, 250, 80, 70]);
    assert_eq!(shown(Look { rotation: 90.0, ..still }), [30, 60, 250, 20, 50, 80, 10, 40, 70]);
    assert_eq!(shown(Look { translation: [1.0 / 3.0, 0.0], ..still }), [0, 10, 20, 0, 40, 50, 0, 70, 80]);
    assert_eq!(shown(Look { translation: [0.0, 1.0 / 3.0], ..still }), [0, 0, 0, 10, 20, 30, 40, 50, 60]);
    assert_eq!(shown(Look { zoom: 2.0, ..still }), [30, 35, 40, 45, 50, 55, 60, 65, 110]);
}

#[test]
fn each_change_of_tone_does_what_its_name_says() {
    let still = Look::PLAIN;
    assert_eq!(shown(Look { brightness: 1.1, ..still }), [11, 22, 33, 44, 55, 66, 77, 88, 255]);
    // The mean is 67.8.
    assert_eq!(shown(Look { contrast: 0.5, ..still }), [39, 44, 49, 54, 59, 64, 69, 74, 159]);
    assert_eq!(shown(Look { gamma: 2.0, ..still }), [0, 2, 4, 6, 10, 14, 19, 25, 245]);
    let corner = Erasing { size: [0.6, 0.4], place: [0.0, 0.99] };
    assert_eq!(shown(Look { erasing: Some(corner), ..still }), [10, 20, 30, 40, 50, 60, 68, 68, 250]);
}

#[test]
fn blur_keeps_what_is_even_and_spreads_what_is_not() {
    let size = 40;
    let look = Look { blur: 1.5, ..Look::PLAIN };
    let mut shown = vec![0.0; size * size];
    Canvas::new(size).show(&look, &vec![100; size * size], &mut shown);
    assert!(shown.iter().all(|value| (value - 100.0 / 255.0).abs() < 1e-6));

    let mut point = vec![0; size * size];
    point[20 * size + 20] = 255;
    Canvas::new(size).show(&look, &point, &mut shown);
    let variance: f64 = (0..size * size).map(|at| f64::from(shown[at]) * (at as f64 % 40.0 - 20.0).powi(2)).sum();
    // Cut off at three deviations, a Gaussian has 97 % of its variance.
    assert!((variance.sqrt() - 1.5).abs() < 0.05, "{variance}");
    assert!((shown.iter().sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn noise_has_its_deviation() {
    let size = 100;
    let mut shown = vec![0.0; size * size];
    let looks: Vec<Look> =
        (0..2).map(|sample| Look::draw(&Policy { noise: 0.1, ..Policy::NONE }, 1, Epoch(1), sample)).collect();
    let mut residues = Vec::new();
    for look in &looks {
        Canvas::new(size).show(look, &vec![128; size * size], &mut shown);
        let residue: Vec<f64> = shown.iter().map(|value| f64::from(*value) - 128.0 / 255.0).collect();
        let variance = residue.iter().map(|value| value * value).sum::<f64>() / residue.len() as f64;
        assert!((variance.sqrt() / look.noise - 1.0).abs() < 0.03, "{} {}", variance.sqrt(), look.noise);
        residues.push(residue);
    }
    let covariance: f64 = residues[0].iter().zip(&residues[1]).map(|(a, b)| a * b).sum::<f64>() / 1e4;
    assert!(covariance.abs() < 0.05 * looks[0].noise * looks[1].noise, "the samples' noises are related");
}

#[test]
fn names_are_found_with_and_without_their_version() {
    assert_eq!(Policy::named("strong@1"), Some(Policy::STRONG));
    assert_eq!(Policy::named("mixup"), Some(Policy::MIXUP));
    assert_eq!((Policy::named("light@2"), Policy::named("")), (None, None));
    assert!(NAMED.iter().all(|(_, policy)| policy.check().is_ok()));
}

#[test]
fn a_policy_out_of_its_bounds_is_refused_by_field() {
    let refused = [
        Policy { flip: 1.5, ..Policy::NONE },
        Policy { rotation: f64::NAN, ..Policy::NONE },
        Policy { zoom: [0.0, 1.0], ..Policy::NONE },
        Policy { gamma: [2.0, 1.0], ..Policy::NONE },
        Policy { mixup: f64::INFINITY, ..Policy::NONE },
    ];
    let errors = refused.map(|policy| policy.check().unwrap_err().to_string());
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_draw_never_changes() {
    // Golden: a change of these numbers changes every augmented result.
    let light = Look::draw(&Policy::LIGHT, 7, Epoch(3), 11);
    let numbers = [light.rotation, light.translation[0], light.translation[1], light.zoom, light.brightness];
    let rounded = numbers.map(|number| (number * 1e6).round() / 1e6);
    assert_eq!((light.flip, rounded), (true, [-6.71135, 0.030565, 0.005847, 1.062759, 1.03424]));
    let drawn = |policy: &Policy| format!("{:#.9?}", Look::draw(policy, 7, Epoch(3), 11));
    let mix = format!("{:?}", Mix::draw(&Policy::MIXUP, 7, Epoch(3), 11, 1000));
    insta::assert_snapshot!([drawn(&Policy::LIGHT), drawn(&Policy::STRONG), mix].join("\n"));
    assert_eq!(drawn(&Policy::MIXUP), drawn(&Policy::LIGHT));
}

#[test]
fn a_shown_image_never_changes() {
    let size = 61;
    let mut shown = vec![0.0; size * size];
    let mut canvas = Canvas::new(size);
    let mut digest = |policy: &Policy| {
        let mut bytes = Vec::new();
        for sample in 0..16 {
            canvas.show(&Look::draw(policy, 7, Epoch(3), sample), &picture(size), &mut shown);
            bytes.extend(shown.iter().flat_map(|value| value.to_le_bytes()));
        }
        Digest::of(&bytes).to_string()
    };
    let digests = NAMED.map(|(name, policy)| format!("{name} {}", digest(&policy)));
    insta::assert_snapshot!(digests.join("\n"));
}

#[test]
fn one_bound_does_not_shift_what_another_draws() {
    let base = Look::draw(&Policy::STRONG, 5, Epoch(2), 3);
    let other = Policy { rotation: 0.0, erase: 0.0, noise: 0.5, elastic: 0.0, ..Policy::STRONG };
    let other = Look::draw(&other, 5, Epoch(2), 3);
    let same =
        Look { rotation: base.rotation, erasing: base.erasing, noise: base.noise, elastic: base.elastic, ..other };
    assert_eq!(same, base);
}

proptest::proptest! {
    #[test]
    fn looks_are_paired_and_within_bounds(seed: u64, epoch in 1u32..1000, sample: u32) {
        let policy = &Policy::STRONG;
        let look = Look::draw(policy, seed, Epoch(epoch), sample);
        proptest::prop_assert_eq!(look, Look::draw(policy, seed, Epoch(epoch), sample));
        for other in [Look::draw(policy, seed, Epoch(epoch + 1), sample), Look::draw(policy, seed, Epoch(epoch), sample ^ 1)] {
            proptest::prop_assert_ne!(look.rotation, other.rotation);
        }
        proptest::prop_assert!(look.rotation.abs() <= policy.rotation);
        proptest::prop_assert!(look.translation.iter().all(|share| share.abs() <= policy.translation));
        let within = |value: f64, [low, high]: [f64; 2]| (low..=high).contains(&value);
        proptest::prop_assert!(within(look.zoom, policy.zoom) && within(look.gamma, policy.gamma));
        proptest::prop_assert!(within(look.brightness, [0.8, 1.2]) && within(look.contrast, [0.7, 1.3]));
        proptest::prop_assert!(within(look.noise, [0.0, policy.noise]) && within(look.blur, [0.0, policy.blur]));
        if let Some(erasing) = look.erasing {
            let [across, down] = [0, 1].map(|axis| erasing.span(axis, 100));
            proptest::prop_assert!(across.end <= 100 && down.end <= 100);
            let area = across.len() * down.len();
            proptest::prop_assert!((100..=3500).contains(&area), "{}", area);
        }
    }

    #[test]
    fn the_fast_pass_has_the_bits_of_the_definition(
        seed: u64, size in 1usize..80, rotation in 0.0..180.0, translation in 0.0..1.0, low in 0.1..1.0, high in 1.0..10.0,
    ) {
        let wide = Policy { rotation, translation, zoom: [low, high], ..Policy::LIGHT };
        for (sample, policy) in (0..).zip([Policy::LIGHT, wide]) {
            let look = Look::draw(&policy, seed, Epoch(1), sample);
            let mut shown = vec![f32::NAN; size * size];
            Canvas::new(size).show(&look, &picture(size), &mut shown);
            let same = shown.iter().zip(plainly(&look, &picture(size), size)).all(|(a, b)| a.to_bits() == b.to_bits());
            proptest::prop_assert!(same, "{:?}", look);
        }
    }

    #[test]
    fn a_flip_alone_is_the_mirrored_image_to_the_bit(size in 1usize..40) {
        let look = Look { flip: true, ..Look::PLAIN };
        let mut shown = vec![f32::NAN; size * size];
        Canvas::new(size).show(&look, &picture(size), &mut shown);
        proptest::prop_assert_eq!(shown, plainly(&look, &picture(size), size));
    }

    #[test]
    fn shown_values_are_greys_and_do_not_depend_on_what_was_shown_before(
        seed: u64, size in 1usize..40, wide: bool, pixel: u8,
    ) {
        let widest = Policy {
            elastic: 0.5, brightness: 1.0, contrast: 1.0, gamma: [0.1, 10.0], noise: 1.0, blur: 32.0, erase: 1.0,
            rotation: 180.0, translation: 1.0, zoom: [0.1, 10.0], ..Policy::STRONG
        };
        let policy = if wide { widest } else { Policy::STRONG };
        let pixels: Vec<u8> = picture(size).into_iter().map(|own| own ^ pixel).collect();
        let mut canvas = Canvas::new(size);
        for sample in 0..4 {
            let look = Look::draw(&policy, seed, Epoch(1), sample);
            let (mut used, mut fresh) = (vec![f32::NAN; size * size], vec![f32::NAN; size * size]);
            canvas.show(&look, &pixels, &mut used);
            Canvas::new(size).show(&look, &pixels, &mut fresh);
            proptest::prop_assert!(used.iter().all(|value| (0.0..=1.0).contains(value)));
            proptest::prop_assert_eq!(used, fresh);
        }
    }
}
