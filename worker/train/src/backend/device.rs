//! Devices by name: what a command line may say, and which of it this build has.

use std::{fmt, str::FromStr};

/// Where to compute, as written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor, with libtorch.
    Cpu,
    /// The n-th NVIDIA GPU that this process sees, with libtorch.
    Cuda(usize),
    /// The processor, with burn's own kernels.
    Flex,
    /// The best that there is: the first GPU, else the [default](DeviceName::default).
    Auto,
}

/// The processor, with libtorch where this build has it.
impl Default for DeviceName {
    fn default() -> Self {
        if cfg!(feature = "libtorch") { Self::Cpu } else { Self::Flex }
    }
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "{0:?} is not a device: write `cpu`, `cuda:0` for the first GPU, `auto` for the best there is, or `flex` for \
         burn's own kernels on the processor"
    )]
    UnknownDevice(String),
    #[error(
        "cuda:{index} was asked for, but libtorch {libtorch} sees {count} GPUs: use --device cpu, or build with a libtorch for CUDA and check the driver"
    )]
    NoSuchGpu { index: usize, count: usize, libtorch: &'static str },
    #[error(
        "{device} was asked for, but this trainer was built without libtorch: use --device flex, or build it with the \
         feature `libtorch`"
    )]
    NoLibtorch { device: DeviceName },
    #[error(
        "flex was asked for, but this trainer was built without it: use --device cpu, or build it with the feature `flex`"
    )]
    NoFlex,
    #[error("libtorch cannot be told how to compute: {0}")]
    Context(String),
    #[error("the device flex {lack}: {way_out}, or train with libtorch (--device cpu)")]
    Unsupported { lack: &'static str, way_out: &'static str },
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "flex" => Ok(Self::Flex),
            None if text == "auto" => Ok(Self::Auto),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| Error::UnknownDevice(text.to_owned())),
            _ => Err(Error::UnknownDevice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Flex => f.write_str("flex"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for name in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(11), DeviceName::Flex, DeviceName::Auto] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cpu:0", "flex:0", "Auto"] {
            assert_eq!(text.parse::<DeviceName>(), Err(Error::UnknownDevice(text.to_owned())));
        }
    }
}
