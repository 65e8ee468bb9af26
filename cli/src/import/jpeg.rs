//! Whether a JPEG (ITU-T T.81) is whole.
//!
//! Decoders make something of anything: where the entropy-coded data is cut or overwritten they fill in grey and
//! report success. So the structure is walked to the end marker, and the scans of sequential, Huffman-coded pictures
//! (SOF0 and SOF1: nearly all that exist) are read code by code, without making pixels: a scan must hold exactly the
//! blocks that its frame needs, no more and no less. Of progressive pictures only the structure is checked. What
//! follows the end marker is ignored, as cameras and archives add things there.

use super::huffman::{Bits, Table, block};

/// What is wrong with a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file is cut.
    #[error("it ends before its end-of-image marker")]
    Truncated,
    /// A table or header contradicts itself.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// The entropy-coded data holds a code that its tables do not.
    #[error("its compressed data is corrupt")]
    Corrupt,
    /// The entropy-coded data ends before the picture does.
    #[error("its compressed data ends before the picture does")]
    TooShort,
    /// The picture ends before the entropy-coded data does.
    #[error("its compressed data goes on after the picture ends")]
    TooLong,
}

/// Walks `bytes` to the end marker.
///
/// # Errors
/// At the first fault; see [`Fault`].
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut state = State::default();
    let mut at = 2; // after the start marker, by which the format was recognised
    loop {
        let marker = next_marker(bytes, &mut at)?;
        match marker {
            0xd9 => return Ok(()),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
        let end = at + length.ok_or(Fault::Truncated)?;
        let body = bytes.get(at + 2..end.max(at + 2)).ok_or(Fault::Truncated)?;
        at = end.max(at + 2);
        match marker {
            0xc4 => state.huffman_tables(body)?,
            0xc0 | 0xc1 => state.frame = Some(Frame::parse(body)?),
            0xdd => state.restart_interval = word(body, 0).ok_or(Fault::Malformed("restart interval"))?.into(),
            0xda => match &state.frame {
                Some(frame) => at = Scan::parse(body, frame, &state)?.walk(bytes, at)?,
                None => skip_entropy_coded(bytes, &mut at)?,
            },
            _ => {}
        }
    }
}

fn word(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
}

/// The next marker's code; `at` is left behind it. Bytes before it are skipped, as decoders do.
fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, Fault> {
    loop {
        match bytes.get(*at..*at + 2) {
            None => return Err(Fault::Truncated),
            Some([0xff, code]) if !matches!(code, 0x00 | 0xff) => {
                *at += 2;
                return Ok(*code);
            }
            Some(_) => *at += 1,
        }
    }
}

/// Moves `at` to the first marker that is neither a stuffed byte nor a restart.
fn skip_entropy_coded(bytes: &[u8], at: &mut usize) -> Result<(), Fault> {
    loop {
        match bytes.get(*at..*at + 2) {
            None => return Err(Fault::Truncated),
            Some([0xff, code]) if !matches!(code, 0x00 | 0xff | 0xd0..=0xd7) => return Ok(()),
            Some(_) => *at += 1,
        }
    }
}

#[derive(Default)]
struct State {
    /// Set for sequential, Huffman-coded frames only.
    frame: Option<Frame>,
    direct: [Option<Table>; 4],
    alternating: [Option<Table>; 4],
    /// In minimum coded units; 0 is none.
    restart_interval: u32,
}

impl State {
    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        const FAULT: Fault = Fault::Malformed("Huffman table");
        while let Some((&head, rest)) = body.split_first() {
            let (lengths, rest) = rest.split_first_chunk::<16>().ok_or(FAULT)?;
            let count = lengths.iter().map(|n| usize::from(*n)).sum();
            let (symbols, rest) = rest.split_at_checked(count).ok_or(FAULT)?;
            let (tables, table) = match head >> 4 {
                0 => (&mut self.direct, Table::direct(lengths, symbols)),
                _ => (&mut self.alternating, Table::alternating(lengths, symbols)),
            };
            let table = table.ok_or(FAULT)?;
            *tables.get_mut(usize::from(head & 15)).ok_or(FAULT)? = Some(table);
            body = rest;
        }
        Ok(())
    }
}

struct Component {
    id: u8,
    across: u32,
    down: u32,
}

struct Frame {
    width: u32,
    height: u32,
    components: Vec<Component>,
}

impl Frame {
    fn parse(body: &[u8]) -> Result<Self, Fault> {
        const FAULT: Fault = Fault::Malformed("frame header");
        let (height, width) = (word(body, 1).ok_or(FAULT)?, word(body, 3).ok_or(FAULT)?);
        let count = usize::from(*body.get(5).ok_or(FAULT)?);
        let components: Vec<Component> = body[6..]
            .chunks_exact(3)
            .take(count)
            .map(|c| Component { id: c[0], across: u32::from(c[1] >> 4), down: u32::from(c[1] & 15) })
            .collect();
        let sampled = components.iter().all(|c| (1..=4).contains(&c.across) && (1..=4).contains(&c.down));
        if components.len() != count || !(1..=4).contains(&count) || !sampled || width == 0 || height == 0 {
            return Err(FAULT);
        }
        Ok(Self { width: width.into(), height: height.into(), components })
    }

    /// Of the given component: blocks across and down when it is alone in a scan (T.81 A.2.2).
    fn blocks(&self, component: &Component) -> u32 {
        let [across, down] = self.most();
        let columns = (self.width * component.across).div_ceil(across).div_ceil(8);
        let rows = (self.height * component.down).div_ceil(down).div_ceil(8);
        columns * rows
    }

    /// The largest sampling factors.
    fn most(&self) -> [u32; 2] {
        let most = |factor: fn(&Component) -> u32| self.components.iter().map(factor).max().unwrap_or(1);
        [most(|c| c.across), most(|c| c.down)]
    }

    /// Minimum coded units of a scan of several components (T.81 A.2.3).
    fn units(&self) -> u32 {
        let [across, down] = self.most();
        self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down)
    }
}

/// One scan: how many units, and for each block of a unit its tables.
struct Scan<'tables> {
    units: u32,
    blocks: Vec<(&'tables Table, &'tables Table)>,
    restart_interval: u32,
}

impl<'tables> Scan<'tables> {
    fn parse(body: &[u8], frame: &Frame, state: &'tables State) -> Result<Self, Fault> {
        const FAULT: Fault = Fault::Malformed("scan header");
        let count = usize::from(*body.first().ok_or(FAULT)?);
        let selectors = body.get(1..1 + 2 * count).filter(|_| (1..=4).contains(&count)).ok_or(FAULT)?;
        let mut blocks = Vec::new();
        let mut units = frame.units();
        for selector in selectors.chunks_exact(2) {
            let component = frame.components.iter().find(|component| component.id == selector[0]).ok_or(FAULT)?;
            let table = |tables: &'tables [Option<Table>; 4], index: u8| {
                tables.get(usize::from(index)).and_then(Option::as_ref).ok_or(FAULT)
            };
            let pair = (table(&state.direct, selector[1] >> 4)?, table(&state.alternating, selector[1] & 15)?);
            let per_unit = if count == 1 { 1 } else { component.across * component.down };
            blocks.extend(std::iter::repeat_n(pair, per_unit as usize));
            if count == 1 {
                units = frame.blocks(component);
            }
        }
        Ok(Self { units, blocks, restart_interval: state.restart_interval })
    }

    /// Reads the scan's codes from `at` on and gives the place of the marker behind it.
    fn walk(&self, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let mut bits = Bits::new(bytes, at);
        for unit in 0..self.units {
            if unit > 0 && self.restart_interval > 0 && unit % self.restart_interval == 0 {
                bits.restart(unit / self.restart_interval - 1)?;
            }
            for (direct, alternating) in &self.blocks {
                block(&mut bits, direct, alternating)?;
            }
        }
        bits.end()
    }
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
    use proptest::prelude::*;

    use super::*;

    fn encode(width: u16, height: u16, channels: u32, quality: u8, seed: u32) -> Vec<u8> {
        let count = u32::from(width) * u32::from(height) * channels;
        let pixels: Vec<u8> = (0..count).map(|n| (n.wrapping_mul(n ^ seed) >> 7) as u8).collect();
        let kind = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        encoder.encode(&pixels, width.into(), height.into(), kind).unwrap();
        bytes
    }

    /// Where the entropy-coded data begins.
    fn scan(bytes: &[u8]) -> usize {
        let header = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        header + 2 + usize::from(bytes[header + 3])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_whole_file_is_whole_and_a_cut_one_is_not(
            width in 1u16..70, height in 1u16..70, colour: bool, quality in 1u8..=100, seed: u32,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(width, height, if colour { 3 } else { 1 }, quality, seed);
            prop_assert_eq!(check(&bytes), Ok(()));
            let whole = bytes.clone();
            bytes.extend(b"what cameras add");
            prop_assert_eq!(check(&bytes), Ok(()));
            let length = 2 + cut.index(whole.len() - 2);
            prop_assert!(check(&whole[..length]).is_err());
        }

        #[test]
        fn any_change_is_survived(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), colour: bool,
        ) {
            let mut bytes = encode(40, 30, if colour { 3 } else { 1 }, 80, 1);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = check(&bytes);
        }
    }

    #[test]
    fn missing_and_superfluous_data_are_seen() {
        let whole = encode(64, 64, 1, 90, 7);
        let start = scan(&whole);
        let end = whole.len() - 2;
        let with = |data: &[u8]| check(&[&whole[..start], data, &whole[end..]].concat());
        assert_eq!(with(&whole[start..end]), Ok(()));
        assert_eq!(with(&whole[start..end - 40]), Err(Fault::TooShort));
        assert_eq!(with(&[&whole[start..end], &[0x55; 40]].concat()), Err(Fault::TooLong));
        let mut overwritten = whole[start..end].to_vec();
        overwritten[100..200].fill(0x55);
        assert!(with(&overwritten).is_err());
        assert_eq!(check(&whole[..end]), Err(Fault::Truncated));
    }
}
