//! The tensors of DenseNet121 (Huang et al., "Densely Connected Convolutional Networks", 2017) as torchvision names
//! them. Pure.

use std::collections::BTreeMap;

use super::{Differences, Error, tensor::Tensor};

/// Layers of each dense block.
const LAYERS: [usize; 4] = [6, 12, 24, 16];
/// Channels that each layer adds.
const GROWTH: usize = 32;
/// Channels between a layer's two convolutions: four times what it adds.
const BOTTLENECK: usize = 4 * GROWTH;
/// Channels of the first convolution.
const STEM: usize = 64;
/// Channels that the classifier sees.
const FEATURES: usize = 1024;
/// The most classes of a classifier that is imported.
pub const MAX_CLASSES: usize = 65_536;

/// Every tensor's name and shape, with a classifier of `classes` outputs or none: parameters and BatchNorm statistics,
/// without `num_batches_tracked`.
pub fn shapes(classes: Option<usize>) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut convolution = |name: String, shape: [usize; 4]| shapes.insert(format!("{name}.weight"), shape.to_vec());
    let mut norms = vec![("features.norm0".to_owned(), STEM)];
    convolution("features.conv0".to_owned(), [STEM, 3, 7, 7]);
    let mut channels = STEM;
    for (block, layers) in (1..).zip(LAYERS) {
        for layer in 1..=layers {
            let name = format!("features.denseblock{block}.denselayer{layer}");
            norms.extend([(format!("{name}.norm1"), channels), (format!("{name}.norm2"), BOTTLENECK)]);
            convolution(format!("{name}.conv1"), [BOTTLENECK, channels, 1, 1]);
            convolution(format!("{name}.conv2"), [GROWTH, BOTTLENECK, 3, 3]);
            channels += GROWTH;
        }
        if block < LAYERS.len() {
            let name = format!("features.transition{block}");
            norms.push((format!("{name}.norm"), channels));
            convolution(format!("{name}.conv"), [channels / 2, channels, 1, 1]);
            channels /= 2;
        }
    }
    norms.push(("features.norm5".to_owned(), channels));
    for (norm, channels) in norms {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("{norm}.{part}"), vec![channels]);
        }
    }
    if let Some(classes) = classes {
        shapes.insert("classifier.weight".to_owned(), vec![classes, FEATURES]);
        shapes.insert("classifier.bias".to_owned(), vec![classes]);
    }
    shapes
}

/// How many classes a `classifier.weight` of this shape has: at least 2, at most [`MAX_CLASSES`].
pub fn classes(shape: Option<&[usize]>) -> Option<usize> {
    shape.map(|shape| shape.first().map_or(2, |classes| (*classes).clamp(2, MAX_CLASSES)))
}

/// Compares names and shapes of `tensors` with the architecture's.
///
/// # Errors
/// When they differ, with what is missing, unexpected or of another shape.
pub fn compare(tensors: &BTreeMap<String, Tensor<'_>>, classes: Option<usize>) -> Result<(), Error> {
    let wanted = shapes(classes);
    let mut differences = Differences::default();
    for (name, shape) in &wanted {
        match tensors.get(name) {
            None => differences.missing.push(name.clone()),
            Some(tensor) if tensor.shape != *shape => {
                differences.misshapen.push((name.clone(), tensor.shape.clone(), shape.clone()));
            }
            Some(_) => {}
        }
    }
    differences.unexpected = tensors.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    if differences.is_empty() { Ok(()) } else { Err(Error::Differ(Box::new(differences))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_parameters_as_published() {
        let shapes = shapes(Some(1000));
        assert_eq!(shapes.len(), 606);
        let is_parameter = |name: &str| !name.contains("running_");
        let parameters: usize = shapes
            .iter()
            .filter(|(name, _)| is_parameter(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        // torchvision documents 7,978,856 parameters for densenet121
        assert_eq!(parameters, 7_978_856);
        assert_eq!(shapes["features.denseblock4.denselayer16.conv1.weight"], [128, 992, 1, 1]);
        assert_eq!(shapes["features.transition3.conv.weight"], [512, 1024, 1, 1]);
    }

    #[test]
    fn a_classifier_has_two_classes_or_more() {
        assert_eq!(classes(None), None);
        assert_eq!(classes(Some(&[1000, 1024])), Some(1000));
        assert_eq!(classes(Some(&[1, 1024])), Some(2));
        assert_eq!(classes(Some(&[])), Some(2));
        assert_eq!(classes(Some(&[usize::MAX])), Some(MAX_CLASSES));
    }
}
