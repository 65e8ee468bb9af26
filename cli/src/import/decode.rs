//! One image file to 8-bit grey pixels of a fixed size. Pure: bytes in, pixels or a reason out.
//!
//! The transform, in order, named by [`ceteris_shared::dataset::TRANSFORM`]; a change of it needs a new name there:
//! 1. The format is recognised by content, never by name; of several pages or frames the first is taken.
//! 2. Colour becomes luma by ITU-R BT.601 in integers, as in Pillow's `convert("L")`. Alpha is dropped, not composited:
//!    what was recorded under a transparent pixel stays, as in torchvision's loader. CMYK is converted to RGB first.
//! 3. 16 bits become 8 by rounding v / 257, so the full range maps to the full range whatever the image holds.
//! 4. The EXIF orientation is applied.
//! 5. The picture is squashed to a square by a triangle filter that widens when shrinking: Pillow's antialiased
//!    `BILINEAR`, torchvision's default.
//!
//! Damage is refused where it can be seen. PNG checksums are verified; a JPEG must end in its end marker, and the
//! entropy-coded data of a sequential JPEG must end where its picture ends (see `jpeg`), because decoders fill in grey
//! for what is missing without a word.

use std::{io::Cursor, panic};

use ceteris_shared::digest::Digest;
use fast_image_resize as resizer;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};

use super::{Refusal, jpeg};

/// The most pixels of one source image.
pub const MAX_PIXELS: u64 = 100_000_000;
/// The largest width or height of a source image: JPEG's. It bounds what the resize needs between its two passes.
pub const MAX_SIDE: u32 = 65_535;
/// The most memory that one decoded image may take.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `size × size` grey values, rows top to bottom.
    pub pixels: Vec<u8>,
    /// Whether it was a 16-bit image whose values all fit into 12 bits.
    pub narrow_range: bool,
}

impl Picture {
    /// The digest by which pixel-identical images are found.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.pixels)
    }
}

/// Decodes a file's `bytes` and resizes it to `size × size`.
///
/// # Errors
/// When the bytes are no image of a format that is read, too large, or damaged.
pub fn decode(bytes: &[u8], size: u32) -> Result<Picture, Refusal> {
    let format = recognise(bytes)?;
    if format == ImageFormat::Jpeg {
        jpeg::check(bytes).map_err(|fault| Refusal::Damaged(fault.to_string()))?;
    }
    // Decoders are other people's code on outside input: should one panic, that file is refused and the rest goes on.
    let (image, orientation) = panic::catch_unwind(|| read(bytes, format))
        .unwrap_or_else(|_| Err(Refusal::Damaged("the decoder gave up on it".to_owned())))?;
    let Grey { mut image, narrow_range } = grey(image)?;
    let mut upright = DynamicImage::ImageLuma8(image);
    upright.apply_orientation(orientation);
    image = upright.into_luma8();
    Ok(Picture { pixels: resize(image, size)?, narrow_range })
}

fn recognise(bytes: &[u8]) -> Result<ImageFormat, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    // DICOM PS3.10: the letters DICM after a preamble of 128 bytes, which may itself be a TIFF header. Files without
    // the preamble start with an element of group 0002 or 0008.
    let bare_dicom = matches!(bytes, [2 | 8, 0, _, 0, ..]);
    if bytes.get(128..132) == Some(b"DICM") || bare_dicom {
        return Err(Refusal::Dicom);
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::Bmp
            | ImageFormat::Tiff
            | ImageFormat::WebP),
        ) => Ok(format),
        _ => Err(Refusal::NotAnImage),
    }
}

fn read(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Refusal> {
    let damaged = |error: image::ImageError| Refusal::Damaged(error.to_string());
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Refusal::NoPixels { width, height });
    }
    let too_large = u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE;
    if too_large || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(Refusal::TooManyPixels { width, height });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation))
}

struct Grey {
    image: GrayImage,
    narrow_range: bool,
}

fn grey(image: DynamicImage) -> Result<Grey, Refusal> {
    let (width, height) = (image.width(), image.height());
    let wide: Vec<u16>;
    match image {
        DynamicImage::ImageLuma8(image) => return Ok(Grey { image, narrow_range: false }),
        DynamicImage::ImageLumaA8(image) => return narrow(width, height, image.pixels().map(|p| p.0[0]).collect()),
        DynamicImage::ImageRgb8(image) => return narrow(width, height, image.pixels().map(|p| luma8(p.0)).collect()),
        DynamicImage::ImageRgba8(image) => {
            return narrow(width, height, image.pixels().map(|p| luma8([p.0[0], p.0[1], p.0[2]])).collect());
        }
        DynamicImage::ImageLuma16(image) => wide = image.into_raw(),
        DynamicImage::ImageLumaA16(image) => wide = image.pixels().map(|p| p.0[0]).collect(),
        DynamicImage::ImageRgb16(image) => wide = image.pixels().map(|p| luma16(p.0)).collect(),
        DynamicImage::ImageRgba16(image) => {
            wide = image.pixels().map(|p| luma16([p.0[0], p.0[1], p.0[2]])).collect();
        }
        other => return Err(Refusal::PixelType(format!("{:?}", other.color()))),
    }
    let narrow_range = wide.iter().max().is_some_and(|max| (1..4096).contains(max));
    let pixels = wide.into_iter().map(|value| ((u32::from(value) + 128) / 257) as u8).collect();
    Ok(Grey { narrow_range, ..narrow(width, height, pixels)? })
}

fn narrow(width: u32, height: u32, pixels: Vec<u8>) -> Result<Grey, Refusal> {
    let image = GrayImage::from_raw(width, height, pixels)
        .ok_or_else(|| Refusal::Damaged("the decoder gave too few pixels".to_owned()))?;
    Ok(Grey { image, narrow_range: false })
}

/// ITU-R BT.601 luma, weights in 1/65536 that add up to 1, so that grey stays what it is.
fn luma(red: u32, green: u32, blue: u32) -> u32 {
    (red * 19_595 + green * 38_470 + blue * 7_471 + 32_768) >> 16
}

fn luma8([red, green, blue]: [u8; 3]) -> u8 {
    luma(red.into(), green.into(), blue.into()) as u8
}

fn luma16([red, green, blue]: [u16; 3]) -> u16 {
    luma(red.into(), green.into(), blue.into()) as u16
}

fn resize(image: GrayImage, size: u32) -> Result<Vec<u8>, Refusal> {
    let (width, height) = image.dimensions();
    if (width, height) == (size, size) {
        return Ok(image.into_raw());
    }
    let failed = |error: String| Refusal::Damaged(format!("it cannot be resized: {error}"));
    let source = resizer::images::Image::from_vec_u8(width, height, image.into_raw(), resizer::PixelType::U8)
        .map_err(|error| failed(error.to_string()))?;
    let mut target = resizer::images::Image::new(size, size, resizer::PixelType::U8);
    let triangle = resizer::ResizeOptions::new()
        .resize_alg(resizer::ResizeAlg::Convolution(resizer::FilterType::Bilinear));
    resizer::Resizer::new()
        .resize(&source, &mut target, &triangle)
        .map_err(|error| failed(error.to_string()))?;
    Ok(target.into_vec())
}
