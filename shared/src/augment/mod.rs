//! How one sample looks in one epoch: augmentation as a pure function of (policy, seed, epoch, sample), so arms with one
//! seed see the same images whatever worker, thread or restart they run on.
//!
//! A [`Policy`] says between which bounds is drawn, a [`Look`] is what was drawn for one sample, and a [`Canvas`] shows
//! pixels as a look says; [`Mix`] says which other sample is blended in. Everything is drawn at a fixed place of a stream
//! of its own ([`crate::seed`]), so that no parameter shifts another: two policies that differ in one bound draw the same
//! of everything else.
//!
//! **Bits.** Additions, multiplications, divisions and square roots are IEEE 754's, never contracted, in an order that is
//! written down, so vector instructions and processors do not change them. Four functions come from the platform's
//! mathematical library, a few calls an image: sine and cosine of the rotation, `exp` and `ln` (blur's kernel, gamma,
//! noise, erasing) and `powf` (mixup). Libraries may differ there in the last bit of a double; the environment class of a
//! run covers that, as it covers libtorch.

mod canvas;
mod elastic;
mod look;
mod mixup;
mod noise;
mod policy;
mod resample;
mod soften;
mod tone;

pub use canvas::Canvas;
pub use look::{Erasing, Look};
pub use mixup::Mix;
pub use policy::{Error, NAMED, Policy};

#[cfg(test)]
mod tests;
