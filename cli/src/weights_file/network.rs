//! Which known network a set of tensors is, by their names and shapes. Pure.

use std::collections::BTreeMap;

use ceteris_shared::architecture::{Arch, Part};

use super::{Differences, Error, tensor::Tensor};

/// The most classes of a classifier that is imported.
pub const MAX_CLASSES: usize = 65_536;

/// Every tensor's name and shape, with a classifier of `classes` outputs or none: parameters and BatchNorm statistics,
/// without `num_batches_tracked`.
pub fn shapes(arch: Arch, classes: Option<usize>) -> BTreeMap<String, Vec<usize>> {
    let entries = arch.layout(classes.unwrap_or(1)).into_iter();
    let wanted = entries.filter(|entry| classes.is_some() || entry.part != Part::Head);
    wanted.map(|entry| (entry.name, entry.shape)).collect()
}

/// The network that the tensors are of, and how many classes its classifier tells apart, if it has one.
///
/// # Errors
/// When they are of none, with what is missing, unexpected or of another shape in the nearest.
pub fn recognise(tensors: &BTreeMap<String, Tensor<'_>>) -> Result<(Arch, Option<usize>), Error> {
    let candidates = Arch::ALL.map(|arch| {
        let head = arch.layout(1).into_iter().find(|entry| entry.part == Part::Head).map(|entry| entry.name);
        let weight = head.and_then(|name| tensors.get(&name)).map(|weight| weight.shape.as_slice());
        let classes = classes(weight);
        (arch, classes, differences(tensors, &shapes(arch, classes)))
    });
    let nearest = candidates.into_iter().min_by_key(|(_, _, differences)| differences.count());
    let (arch, classes, differences) = nearest.expect("there are architectures");
    if differences.is_empty() {
        Ok((arch, classes))
    } else if differences.unexpected.len() == tensors.len() {
        Err(Error::NoNetwork(differences.unexpected))
    } else {
        Err(Error::Differ { arch, differences: Box::new(differences) })
    }
}

/// How many classes a classifier's weight of this shape has: at least 2, at most [`MAX_CLASSES`].
fn classes(shape: Option<&[usize]>) -> Option<usize> {
    shape.map(|shape| shape.first().map_or(2, |classes| (*classes).clamp(2, MAX_CLASSES)))
}

fn differences(tensors: &BTreeMap<String, Tensor<'_>>, wanted: &BTreeMap<String, Vec<usize>>) -> Differences {
    let mut differences = Differences::default();
    for (name, shape) in wanted {
        match tensors.get(name) {
            None => differences.missing.push(name.clone()),
            Some(tensor) if tensor.shape != *shape => {
                differences.misshapen.push((name.clone(), tensor.shape.clone(), shape.clone()));
            }
            Some(_) => {}
        }
    }
    differences.unexpected = tensors.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights_file::tensor::Dtype;

    /// Tensors of these shapes, without any data.
    fn tensors(shapes: BTreeMap<String, Vec<usize>>) -> BTreeMap<String, Tensor<'static>> {
        let tensor = |shape| Tensor { dtype: Dtype::F32, shape, strides: Vec::new(), offset: 0, storage: &[] };
        shapes.into_iter().map(|(name, shape)| (name, tensor(shape))).collect()
    }

    #[test]
    fn every_known_network_is_recognised() {
        for arch in Arch::ALL {
            for classes in [None, Some(2), Some(1000)] {
                assert_eq!(recognise(&tensors(shapes(arch, classes))).expect("it is known"), (arch, classes));
            }
        }
    }

    #[test]
    fn a_network_that_is_not_known_is_compared_with_the_nearest() {
        let changed = |arch, change: fn(&mut BTreeMap<String, Vec<usize>>)| {
            let mut shapes = shapes(arch, Some(1000));
            change(&mut shapes);
            recognise(&tensors(shapes)).expect_err("it is not known").to_string()
        };
        let refused = [
            changed(Arch::Densenet169, |shapes| {
                shapes.remove("features.denseblock4.denselayer32.conv2.weight");
            }),
            changed(Arch::Resnet50, |shapes| {
                shapes.insert("layer1.0.conv1.weight".to_owned(), vec![128, 64, 1, 1]);
                shapes.insert("layer1.0.se.weight".to_owned(), vec![16]);
            }),
            changed(Arch::Resnet50, |shapes| shapes.retain(|name, _| name == "fc.bias")),
            changed(Arch::Densenet121, BTreeMap::clear),
        ];
        insta::assert_snapshot!(refused.join("\n"));
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
