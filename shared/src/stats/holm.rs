//! Holm's correction for several tests (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
//! Journal of Statistics 1979): controls the family-wise error rate under any dependence.

/// Corrected p-values, in the order given: compare each with the family's alpha.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![1.0; p.len()];
    let mut floor: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        floor = floor.max(p[index] * (p.len() - rank) as f64).min(1.0);
        corrected[index] = floor;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        let expected = [0.03, 0.06, 0.06, 0.02];
        assert!(corrected.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{corrected:?}");
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn between_the_raw_value_and_bonferroni(p in proptest::collection::vec(0.0f64..=1.0, 1..10)) {
            for (raw, corrected) in p.iter().zip(holm(&p)) {
                prop_assert!(corrected >= *raw && corrected <= (raw * p.len() as f64).min(1.0) + 1e-15);
            }
        }
    }
}
