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
    let Grey { image, narrow_range } = grey(image)?;
    let mut upright = DynamicImage::ImageLuma8(image);
    upright.apply_orientation(orientation);
    Ok(Picture { pixels: resize(upright.into_luma8(), size)?, narrow_range })
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
            format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Tiff | ImageFormat::WebP),
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
    let wide: Vec<u16> = match image {
        DynamicImage::ImageLuma8(image) => return Ok(Grey { image, narrow_range: false }),
        DynamicImage::ImageLumaA8(image) => return narrow(width, height, image.pixels().map(|p| p.0[0]).collect()),
        DynamicImage::ImageRgb8(image) => return narrow(width, height, image.pixels().map(|p| luma8(p.0)).collect()),
        DynamicImage::ImageRgba8(image) => {
            return narrow(width, height, image.pixels().map(|p| luma8([p.0[0], p.0[1], p.0[2]])).collect());
        }
        DynamicImage::ImageLuma16(image) => image.into_raw(),
        DynamicImage::ImageLumaA16(image) => image.pixels().map(|p| p.0[0]).collect(),
        DynamicImage::ImageRgb16(image) => image.pixels().map(|p| luma16(p.0)).collect(),
        DynamicImage::ImageRgba16(image) => image.pixels().map(|p| luma16([p.0[0], p.0[1], p.0[2]])).collect(),
        other => return Err(Refusal::PixelType(format!("{:?}", other.color()))),
    };
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
    let triangle =
        resizer::ResizeOptions::new().resize_alg(resizer::ResizeAlg::Convolution(resizer::FilterType::Bilinear));
    resizer::Resizer::new().resize(&source, &mut target, &triangle).map_err(|error| failed(error.to_string()))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, Luma, Rgb, Rgba, codecs, metadata::Orientation};
    use proptest::prelude::*;

    use super::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A picture without symmetry: dark, with one bright corner.
    fn corner() -> GrayImage {
        GrayImage::from_fn(16, 16, |x, y| Luma([if x < 8 && y < 8 { 200 } else { (2 * x + y) as u8 }]))
    }

    #[test]
    fn every_format_is_recognised_by_content() {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
            assert_eq!(decode(&encode(corner(), format), 16).unwrap().pixels, corner().into_raw(), "{format:?}");
        }
        let rgb = DynamicImage::ImageLuma8(corner()).into_rgb8();
        assert_eq!(decode(&encode(rgb, ImageFormat::WebP), 16).unwrap().pixels, corner().into_raw());
        let jpeg = decode(&encode(corner(), ImageFormat::Jpeg), 16).unwrap().pixels;
        assert!(jpeg.iter().zip(corner().as_raw()).all(|(a, b)| a.abs_diff(*b) < 25));
    }

    #[test]
    fn sixteen_bits_keep_their_full_range() {
        let wide = image::ImageBuffer::from_fn(4, 1, |x, _| Luma([[0u16, 128, 129, 65535][x as usize]]));
        let picture = decode(&encode(wide, ImageFormat::Png), 4).unwrap();
        assert_eq!((&picture.pixels[..4], picture.narrow_range), (&[0, 0, 1, 255][..], false));
        let narrow = image::ImageBuffer::from_pixel(4, 4, Luma([4095u16]));
        let picture = decode(&encode(narrow, ImageFormat::Png), 4).unwrap();
        assert_eq!(picture, Picture { pixels: vec![16; 16], narrow_range: true });
    }

    #[test]
    fn colour_becomes_luma_and_alpha_is_dropped() {
        let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]];
        let opaque = image::RgbImage::from_fn(4, 4, |x, _| Rgb(colours[x as usize]));
        let clear = image::RgbaImage::from_fn(4, 4, |x, _| {
            let [red, green, blue] = colours[x as usize];
            Rgba([red, green, blue, 0])
        });
        let row = [76, 150, 29, 77];
        assert_eq!(decode(&encode(opaque, ImageFormat::Png), 4).unwrap().pixels[..4], row);
        assert_eq!(decode(&encode(clear, ImageFormat::Png), 4).unwrap().pixels[..4], row);
    }

    #[test]
    fn the_orientation_is_applied() {
        let stored = corner();
        let mut jpeg = Vec::new();
        let mut encoder = codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100);
        // TIFF header and one entry: tag 0x0112 (orientation), SHORT, 1 value, 6 (turn by 90° clockwise to view)
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.write_image(stored.as_raw(), 16, 16, image::ExtendedColorType::L8).unwrap();
        let mut upright = DynamicImage::ImageLuma8(stored);
        upright.apply_orientation(Orientation::Rotate90);
        let pixels = decode(&jpeg, 16).unwrap().pixels;
        assert!(pixels.iter().zip(upright.as_bytes()).all(|(a, b)| a.abs_diff(*b) < 10), "{pixels:?}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let mut bomb = encode(corner(), ImageFormat::Bmp);
        bomb[18..26].copy_from_slice(&[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0]);
        let mut flipped = encode(corner(), ImageFormat::Png);
        let crc_of_data = flipped.len() - 12 - 4;
        flipped[crc_of_data] ^= 1;
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM....");
        let float = DynamicImage::ImageRgb32F(image::Rgb32FImage::new(2, 2));
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("it is empty", vec![]),
            ("it is not an image that is read", b"file,class\n".to_vec()),
            ("it is not an image that is read", b"GIF89a\x01\0\x01\0".to_vec()),
            ("it is DICOM", dicom),
            ("its header says 60000×60000 pixels; at most 100 megapixels", bomb),
            ("it is damaged", flipped),
            ("it is damaged", encode(corner(), ImageFormat::Tiff)[..200].to_vec()),
            ("it is damaged", encode(corner(), ImageFormat::Png)[..60].to_vec()),
            ("its pixels are Rgb32F", encode(float, ImageFormat::Tiff)),
        ];
        for (reason, bytes) in cases {
            let refusal = decode(&bytes, 8).unwrap_err().to_string();
            assert!(refusal.starts_with(reason), "{refusal:?} is not {reason:?}");
        }
    }

    #[allow(unsafe_code)]
    fn without_vector_instructions() -> resizer::Resizer {
        let mut resizer = resizer::Resizer::new();
        // SAFETY: the extension must be one that the processor has, and every processor has none.
        unsafe { resizer.set_cpu_extensions(resizer::CpuExtensions::None) };
        resizer
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_file_never_panics(
            kind in 0usize..5, at in any::<prop::sample::Index>(), byte: u8, cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let formats =
                [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP];
            let mut bytes = encode(DynamicImage::ImageLuma8(corner()).into_rgb8(), formats[kind]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(picture) = decode(&bytes, 8) {
                prop_assert_eq!(picture.pixels.len(), 64);
            }
        }

        #[test]
        fn the_resize_is_the_same_on_every_processor(
            width in 1u32..60, height in 1u32..60, size in 1u32..40, seed: u8,
        ) {
            let image = GrayImage::from_fn(width, height, |x, y| {
                Luma([(x * x).wrapping_mul(31).wrapping_add(y * 17 + u32::from(seed)) as u8])
            });
            let source = resizer::images::Image::from_vec_u8(
                width, height, image.clone().into_raw(), resizer::PixelType::U8,
            ).unwrap();
            let mut target = resizer::images::Image::new(size, size, resizer::PixelType::U8);
            let triangle = resizer::ResizeOptions::new()
                .resize_alg(resizer::ResizeAlg::Convolution(resizer::FilterType::Bilinear));
            let mut plain = without_vector_instructions();
            plain.resize(&source, &mut target, &triangle).unwrap();
            prop_assert_eq!(resize(image, size).unwrap(), target.into_vec());
        }
    }
}
