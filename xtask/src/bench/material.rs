//! What both sides read: weights, images and data sets, drawn from seeds into `.ceteris/bench` and kept for next time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::radiographs::{self, Plan};

use super::{Bench, process::Launch};
use crate::{command, command::headline};

/// Normally distributed images and random labels.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    pub seed: u32,
    pub count: u32,
    /// Height and width in pixels.
    pub size: u32,
}

impl Bench {
    /// DenseNet121 with two classes, as torchvision initialises it.
    pub fn weights(&self, seed: u32) -> Result<PathBuf> {
        self.made(&format!("weights-{seed}.safetensors"), |path| {
            self.draw(["weights", "--seed", &seed.to_string()], path)
        })
    }

    /// Images that the network can be given as they are.
    pub fn images(&self, images: Images) -> Result<PathBuf> {
        let Images { seed, count, size } = images;
        self.made(&format!("images-{count}x{size}-{seed}.safetensors"), |path| {
            let [seed, count, size] = [seed, count, size].map(|number| number.to_string());
            self.draw(["images", "--seed", &seed, "--count", &count, "--size", &size], path)
        })
    }

    /// Synthetic radiographs as PNG files.
    pub fn radiographs(&self, plan: &Plan) -> Result<PathBuf> {
        let [train, val, test] = plan.per_class;
        self.made(&format!("radiographs-{}-{train}-{val}-{test}", plan.size), |path| {
            headline("Drawing synthetic radiographs");
            let count = radiographs::write(plan, path).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("{count} images of {} pixels", plan.size);
            Ok(())
        })
    }

    /// The packed data set of a folder of images.
    pub fn packed(&self, folder: &Path, image_size: u32) -> Result<PathBuf> {
        let name = folder.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
        let made = self.made(&format!("{name}-packed-{image_size}"), |path| {
            fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
            self.importer("import", folder, image_size, path).threads(self.threads).start()?.end()
        })?;
        Ok(made.join("packed"))
    }

    /// The program that imports, with one pass as its warm-up.
    pub fn importer(&self, label: &str, folder: &Path, image_size: u32, scratch: &Path) -> Launch {
        let size = image_size.to_string();
        let launch = Launch::new(label, &[self.places.importer.as_os_str()]);
        launch.flag("--folder", folder).flag("--image-size", size).flag("--scratch", scratch).flag("--warm-up", "1")
    }

    /// PNG files as JPEG files.
    pub fn jpegs(&self, folder: &Path) -> Result<PathBuf> {
        let name = folder.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
        self.made(&format!("{name}-jpeg"), |path| {
            let mut python = self.python("material.py");
            command::output(python.arg("jpegs").arg("--source").arg(folder).arg("--output").arg(path)).map(|_| ())
        })
    }

    /// An empty folder for what a program writes; what an earlier run left there is gone.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.places.work.join("scratch").join(name);
        command::empty_folder(&path)?;
        Ok(path)
    }

    /// A path that `make` filled completely, now or earlier.
    fn made(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.places.work.join(name);
        if path.exists() {
            return Ok(path);
        }
        let unfinished = self.places.work.join(format!("{name}.unfinished"));
        command::remove(&unfinished)?;
        fs::create_dir_all(&self.places.work)
            .with_context(|| format!("cannot create {}", self.places.work.display()))?;
        make(&unfinished)?;
        if !unfinished.exists() {
            bail!("{} was not written", unfinished.display());
        }
        fs::rename(&unfinished, &path).with_context(|| format!("cannot rename {}", unfinished.display()))?;
        Ok(path)
    }

    fn draw<const N: usize>(&self, arguments: [&str; N], output: &Path) -> Result<()> {
        command::output(self.python("material.py").args(arguments).arg("--output").arg(output)).map(|_| ())
    }

    fn python(&self, script: &str) -> Command {
        let mut python = Command::new(&self.places.python);
        python.arg("-B").arg(self.places.peers.join(script));
        python
    }
}
