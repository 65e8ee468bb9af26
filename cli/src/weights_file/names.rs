//! Other people's names of DenseNet121's tensors to torchvision's of today. Pure.

/// The canonical name of `name`: without the `module.` that `DataParallel` puts in front, and with the dots inside a
/// dense layer closed up, which old checkpoints have (`denselayer1.norm.1.weight` is `denselayer1.norm1.weight`).
pub fn canonical(name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let parts: Vec<&str> = name.split('.').collect();
    let mut canonical = String::with_capacity(name.len());
    for (index, part) in parts.iter().enumerate() {
        let in_layer = index >= 2 && parts[index - 2].starts_with("denselayer");
        let split_off = in_layer && matches!(parts[index - 1], "norm" | "relu" | "conv") && matches!(*part, "1" | "2");
        if index > 0 && !split_off {
            canonical.push('.');
        }
        canonical.push_str(part);
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_parallel_names_become_todays() {
        let new = "features.denseblock1.denselayer10.norm1.running_mean";
        for old in [
            "features.denseblock1.denselayer10.norm.1.running_mean",
            "module.features.denseblock1.denselayer10.norm.1.running_mean",
            "module.features.denseblock1.denselayer10.norm1.running_mean",
            new,
        ] {
            assert_eq!(canonical(old), new);
        }
        for same in ["classifier.weight", "features.norm.1.weight", "", ".", "features.transition1.conv.weight"] {
            assert_eq!(canonical(same), same);
        }
    }
}
