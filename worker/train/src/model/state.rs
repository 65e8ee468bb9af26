//! The network's state by torchvision's names: which tensors there are, and moving them in and out.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData},
};

use super::{DenseNet121, Part};
use crate::{
    backend::{self, DeviceName},
    tensors::{self, Contents, HostTensor, StateDict},
};

/// Follows a traversal of the network and tells torchvision's name of where it is.
#[derive(Clone, Debug, Default)]
pub struct Path(Vec<String>);

impl Path {
    /// A traversal goes down into `name`.
    pub fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    /// A traversal comes up again.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// torchvision's name: layers of a block are not a list there but members named from 1 on.
    pub fn name(&self) -> String {
        let segment = |segment: &String| match segment.parse::<usize>() {
            Ok(index) => format!("denselayer{}", index + 1),
            Err(_) => segment.clone(),
        };
        self.0.iter().filter(|name| *name != "layers").map(segment).collect::<Vec<_>>().join(".")
    }
}

/// One tensor of the network's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// torchvision's name.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Where it belongs.
    pub part: Part,
}

impl Entry {
    /// Whether it is trained, and not one of BatchNorm's statistics.
    pub fn is_parameter(&self) -> bool {
        !self.name.contains(".running_")
    }
}

/// All parameters and BatchNorm statistics of a network with `classes` classes, in torchvision's order. An entry's
/// position is the tensor's index in the draws of its initial values.
pub fn layout(classes: usize) -> Vec<Entry> {
    struct Visitor {
        path: Path,
        entries: Vec<Entry>,
    }
    impl ModuleVisitor for Visitor {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.name();
            let shape = param.lazy_shape().as_slice().to_vec();
            self.entries.push(Entry { part: part(&name), name, shape });
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
    }
    let mut visitor = Visitor { path: Path::default(), entries: Vec::new() };
    DenseNet121::new(classes, &backend::device(DeviceName::Cpu)).visit(&mut visitor);
    visitor.entries
}

/// The part that a tensor of the network belongs to.
fn part(name: &str) -> Part {
    let Some(feature) = name.strip_prefix("features.") else { return Part::Head };
    let (stage, _) = feature.split_once('.').unwrap_or((feature, ""));
    match stage {
        "denseblock1" | "transition1" => Part::Block1,
        "denseblock2" | "transition2" => Part::Block2,
        "denseblock3" | "transition3" => Part::Block3,
        "denseblock4" | "norm5" => Part::Block4,
        _ => Part::Stem,
    }
}

impl DenseNet121 {
    /// A network without autodiff on `device` that holds `state`, which must be complete.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, is not finite, or is none of the network's.
    pub fn from_state(state: &StateDict, classes: usize, device: &Device) -> Result<Self, tensors::Error> {
        struct Mapper<'a> {
            path: Path,
            state: &'a StateDict,
            device: &'a Device,
        }
        impl ModuleMapper for Mapper<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let host = &self.state.0[&self.path.name()];
                let data = TensorData::new(host.values.clone(), host.shape.clone());
                let id = param.id;
                param.transform_for_load(Tensor::from_data(data, self.device), id)
            }

            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.enter(name);
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
        }
        state.check(&layout(classes))?;
        Ok(Self::new(classes, device).map(&mut Mapper { path: Path::default(), state, device }))
    }

    /// A network with exactly the weights of a safetensors file with torchvision's names, head included.
    ///
    /// # Errors
    /// When the file cannot be read, or is not the state of a network with `classes` classes.
    pub fn from_file(file: &std::path::Path, classes: usize, device: &Device) -> Result<Self, tensors::Error> {
        Self::from_state(&Contents::read(file)?.tensors, classes, device)
    }

    /// A copy of the whole state in memory.
    pub fn state(&self) -> StateDict {
        struct Visitor {
            path: Path,
            state: StateDict,
        }
        impl ModuleVisitor for Visitor {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.state.0.insert(self.path.name(), HostTensor::of(param.val()));
            }

            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.enter(name);
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
        }
        let mut visitor = Visitor { path: Path::default(), state: StateDict::default() };
        self.visit(&mut visitor);
        visitor.state
    }
}

/// Splits a whole state at `first`: what is before it, and it with all after it.
pub fn split(state: StateDict, first: Part) -> (StateDict, StateDict) {
    let (frozen, trained) = state.0.into_iter().partition(|(name, _)| part(name) < first);
    (StateDict(frozen), StateDict(trained))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_torchvisions() {
        let layout = layout(1000);
        let parameters: usize =
            layout.iter().filter(|e| e.is_parameter()).map(|e| e.shape.iter().product::<usize>()).sum();
        assert_eq!((layout.len(), parameters), (606, 7_978_856));
        let at = |index: usize| (layout[index].name.as_str(), layout[index].shape.clone());
        assert_eq!(at(0), ("features.conv0.weight", vec![64, 3, 7, 7]));
        assert_eq!(at(4), ("features.norm0.running_var", vec![64]));
        assert_eq!(at(5), ("features.denseblock1.denselayer1.norm1.weight", vec![64]));
        assert_eq!(at(14), ("features.denseblock1.denselayer1.conv2.weight", vec![32, 128, 3, 3]));
        assert_eq!(at(604), ("classifier.weight", vec![1000, 1024]));
        assert_eq!(at(605), ("classifier.bias", vec![1000]));
    }

    #[test]
    fn parts_follow_the_spec() {
        for (name, expected) in [
            ("features.conv0.weight", Part::Stem),
            ("features.norm0.bias", Part::Stem),
            ("features.denseblock1.denselayer6.conv2.weight", Part::Block1),
            ("features.transition3.conv.weight", Part::Block3),
            ("features.denseblock4.denselayer16.norm1.running_var", Part::Block4),
            ("features.norm5.running_mean", Part::Block4),
            ("classifier.bias", Part::Head),
        ] {
            assert_eq!(part(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_loaded_is_what_is_read_back() {
        let device = backend::device(DeviceName::Cpu);
        let state = crate::model::random(5, 3);
        let network = DenseNet121::from_state(&state, 3, &device).expect("a drawn state is complete");
        assert_eq!(network.state(), state);
        for first in [Part::Stem, Part::Block4, Part::Head] {
            assert_eq!(network.clone().trained_from(first).state(), state);
        }
    }
}
