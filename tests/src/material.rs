//! What experiments are made of: small images and specs.

use std::path::Path;

use xtask::radiographs::{self, Plan};

/// How many images of which size, synthetic and the same in every test.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Height and width in pixels.
    pub size: u32,
    /// Images of each class in train, val and test.
    pub per_class: [u32; 3],
}

impl Images {
    /// As few as make sense: epochs of a fraction of a second.
    pub const TINY: Self = Self { size: 32, per_class: [12, 10, 10] };
    /// Enough that an epoch of the whole network takes a second or so, to be interrupted in.
    pub const SLOW: Self = Self { size: 64, per_class: [24, 8, 8] };

    /// Writes them below `folder`.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn write(self, folder: &Path) {
        let plan = Plan { seed: 1, size: self.size, per_class: self.per_class, opacity: 0.3 };
        radiographs::write(&plan, folder).expect("the test's folder is writable");
    }
}

/// An experiment's spec.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Epochs of every arm.
    pub epochs: u32,
    /// Seeds of every arm.
    pub seeds: u32,
    /// Name and stages of each arm, the stages as TOML.
    pub arms: Vec<(&'a str, &'a str)>,
}

impl Spec<'static> {
    /// The data set that [`Spec::text`] names.
    pub const DATASET: &'static str = "synthetic";

    /// Two arms, one that only ever trains the head and one that goes on to the last block, with two seeds.
    pub fn frozen_and_finetuned() -> Self {
        Self {
            name: "frozen-vs-finetuned",
            epochs: 3,
            seeds: 2,
            arms: vec![
                ("frozen", r#"{ epochs = 3, train = "head" }"#),
                ("finetuned", r#"{ epochs = 2, train = "head" }, { epochs = 1, train = "denseblock4", lr = 1e-4 }"#),
            ],
        }
    }

    /// One arm, one seed, everything trained: long enough to be interrupted.
    pub fn long() -> Self {
        Self { name: "long", epochs: 4, seeds: 1, arms: vec![("all", r#"{ epochs = 4, train = "all" }"#)] }
    }
}

impl Spec<'_> {
    /// As TOML.
    pub fn text(&self) -> String {
        let Self { name, epochs, seeds, arms } = self;
        let dataset = Spec::DATASET;
        let mut text = format!(
            r#"name = "{name}"

[data]
dataset = "{dataset}"

[model]
arch = "densenet121"
init = "random"

[budget]
epochs = {epochs}

[controls]
batch_size = 8
augment = "light"

[seeds]
count = {seeds}

[endpoint]
accept_small_splits = true
"#
        );
        for (name, stages) in arms {
            text += &format!("\n[[arm]]\nname = \"{name}\"\nstages = [{stages}]\n");
        }
        text
    }
}
