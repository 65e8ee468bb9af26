//! The Huffman codes of a sequential JPEG (ITU-T T.81, annex F), read faster than a decoder could, because no value is
//! wanted: codes and the values behind them are passed, several in one step, by a look-up that stays in the nearest
//! cache.

use std::array;

use super::jpeg::Fault;

/// What is done with one code or a few: how many bits they and the values behind them have, and how far the
/// coefficients go on. No bits at all: this is no code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    bits: u8,
    coefficients: u8,
    /// Whether the last of the codes is the end of a block.
    ends: bool,
}

/// Bits that the small look-up goes by: about two codes, and it stays in the nearest cache.
const NEAR_BITS: u32 = 12;
/// Coefficients of a block.
const BLOCK: u8 = 64;

/// A Huffman table as two look-ups: by the next bits for whatever codes are told by them, and by the next 16 for one.
pub struct Table {
    near: Box<[Step; 1 << NEAR_BITS]>,
    far: Vec<Step>,
}

impl Table {
    /// The table of direct coefficients: one code a step.
    pub fn direct(lengths: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let codes = Codes::new(lengths, symbols, direct)?;
        Some(Self { near: codes.near(1), far: codes.steps })
    }

    /// The table of alternating coefficients, of which a step passes as many as it can.
    pub fn alternating(lengths: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let codes = Codes::new(lengths, symbols, alternating)?;
        Some(Self { near: codes.near(BLOCK), far: codes.steps })
    }
}

/// A symbol of a direct coefficient is the number of bits behind it (T.81 F.2.2.1).
fn direct(symbol: u8) -> Option<Step> {
    (symbol <= 16).then_some(Step { bits: symbol, coefficients: 1, ends: false })
}

/// A symbol of an alternating coefficient is a run of zeros and the number of bits behind it (T.81 F.2.2.2).
fn alternating(symbol: u8) -> Option<Step> {
    Some(match (symbol >> 4, symbol & 15) {
        (15, 0) => Step { bits: 0, coefficients: 16, ends: false },
        (_, 0) => Step { bits: 0, coefficients: 0, ends: true },
        (zeros, bits) => Step { bits, coefficients: zeros + 1, ends: false },
    })
}

/// Each code's step, by the 16 bits that begin with it.
struct Codes {
    steps: Vec<Step>,
    /// Bits of the code alone.
    lengths: Vec<u8>,
}

impl Codes {
    /// `step` says what a symbol means; None where it means nothing.
    fn new(lengths: &[u8; 16], symbols: &[u8], step: fn(u8) -> Option<Step>) -> Option<Self> {
        let mut codes = Self { steps: vec![Step::default(); 1 << 16], lengths: vec![0; 1 << 16] };
        let mut next = 0;
        let mut symbols = symbols.iter();
        for (length, count) in (1u8..).zip(lengths) {
            for _ in 0..*count {
                let span = next..next + (1usize << (16 - length));
                let steps = codes.steps.get_mut(span.clone())?;
                if let Some(step) = step(*symbols.next()?) {
                    steps.fill(Step { bits: length + step.bits, ..step });
                    codes.lengths[span.clone()].fill(length);
                }
                next = span.end;
            }
        }
        Some(codes)
    }

    /// The look-up by [`NEAR_BITS`]: up to `most` codes that those bits tell, with the last one's value perhaps beyond
    /// them.
    fn near(&self, most: u8) -> Box<[Step; 1 << NEAR_BITS]> {
        let chain = |bits: usize| {
            let mut chain = Step::default();
            for _ in 0..most {
                let known = NEAR_BITS.saturating_sub(chain.bits.into());
                let at = (bits << (16 - NEAR_BITS) << chain.bits.min(16)) & 0xffff;
                let (next, length) = (self.steps[at], self.lengths[at]);
                if length == 0 || u32::from(length) > known || chain.coefficients + next.coefficients > BLOCK {
                    break;
                }
                chain.bits += next.bits;
                chain.coefficients += next.coefficients;
                chain.ends = next.ends;
                if chain.ends {
                    break;
                }
            }
            chain
        };
        Box::new(array::from_fn(chain))
    }
}

/// Reads the codes of one block of 64 coefficients (T.81 F.2.2).
pub fn block(bits: &mut Bits<'_>, direct: &Table, alternating: &Table) -> Result<(), Fault> {
    let mut coefficient = bits.step(direct, 0)?.coefficients;
    while coefficient < BLOCK {
        let step = bits.step(alternating, coefficient)?;
        if step.ends {
            return Ok(());
        }
        coefficient += step.coefficients;
    }
    if coefficient == BLOCK { Ok(()) } else { Err(Fault::Corrupt) }
}

/// Entropy-coded bits, most significant first, up to the next marker.
pub struct Bits<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
    /// The next `count` bits are its most significant.
    buffer: u64,
    count: u32,
}

impl<'bytes> Bits<'bytes> {
    /// Entropy-coded data of `bytes` from `at` on.
    pub fn new(bytes: &'bytes [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0 }
    }

    /// Fills the buffer from what lies before the next marker.
    fn fill(&mut self) {
        if let Some(next) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_be_bytes(*next);
            if self.count <= 56 && !has_marker_byte(word) {
                let bytes = (64 - self.count) / 8;
                // What does not fit as a whole byte comes next time.
                let fits = u64::MAX << (64 - 8 * bytes);
                self.buffer |= (word & fits) >> self.count;
                self.count += 8 * bytes;
                self.at += bytes as usize;
                return;
            }
        }
        while self.count <= 56 {
            match self.bytes.get(self.at..) {
                Some([0xff, 0x00, ..]) => self.push(0xff, 2),
                Some([0xff, ..]) | Some([]) | None => return,
                Some([byte, ..]) => self.push(*byte, 1),
            }
        }
    }

    fn push(&mut self, byte: u8, bytes: usize) {
        self.buffer |= u64::from(byte) << (56 - self.count);
        self.count += 8;
        self.at += bytes;
    }

    /// Passes codes and the values behind them, in a block of which `coefficient` are read.
    #[inline(always)]
    fn step(&mut self, table: &Table, coefficient: u8) -> Result<Step, Fault> {
        if self.count < 32 {
            self.fill();
        }
        let mut step = table.near[(self.buffer >> (64 - NEAR_BITS)) as usize];
        let reached = coefficient + step.coefficients;
        // Several codes must not go on beyond the block: what follows belongs to another table.
        if step.bits == 0 || reached > BLOCK || (step.ends && reached == BLOCK) {
            step = table.far[(self.buffer >> 48) as usize];
            if step.bits == 0 {
                return Err(if self.count < 16 { Fault::TooShort } else { Fault::Corrupt });
            }
        }
        self.count = self.count.checked_sub(step.bits.into()).ok_or(Fault::TooShort)?;
        self.buffer <<= step.bits;
        Ok(step)
    }

    /// The place of the marker that ends this stretch, of which fewer than 8 padding bits may be left.
    pub fn end(&mut self) -> Result<usize, Fault> {
        self.fill();
        if self.count >= 8 {
            return Err(Fault::TooLong);
        }
        (self.buffer, self.count) = (0, 0);
        let mut at = self.at;
        while self.bytes.get(at..at + 2) == Some(&[0xff, 0xff]) {
            at += 1;
        }
        if self.bytes.len() < at + 2 { Err(Fault::Truncated) } else { Ok(at) }
    }

    /// Passes the restart marker number `index`, counted modulo 8.
    pub fn restart(&mut self, index: u32) -> Result<(), Fault> {
        let at = self.end()?;
        if self.bytes[at + 1] != 0xd0 + (index % 8) as u8 {
            return Err(Fault::Corrupt);
        }
        self.at = at + 2;
        Ok(())
    }
}

/// Whether one of eight bytes is 0xff: whether, inverted, one is zero.
fn has_marker_byte(word: u64) -> bool {
    let inverted = !word;
    inverted.wrapping_sub(0x0101_0101_0101_0101) & !inverted & 0x8080_8080_8080_8080 != 0
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Sixteen codes of four bits, and what they mean.
    fn of_four_bits(most: u8, step: fn(u8) -> Option<Step>) -> Table {
        let mut lengths = [0; 16];
        lengths[3] = 16;
        table(&lengths, &(0..16).collect::<Vec<u8>>(), most, step)
    }

    fn table(lengths: &[u8; 16], symbols: &[u8], most: u8, step: fn(u8) -> Option<Step>) -> Table {
        let codes = Codes::new(lengths, symbols, step).unwrap();
        Table { near: codes.near(most), far: codes.steps }
    }

    /// How far each step goes, with END for the end of a block, until there is a fault.
    fn steps(bytes: &[u8], table: &Table) -> (Vec<u8>, Fault) {
        let (mut bits, mut steps) = (Bits::new(bytes, 0), Vec::new());
        loop {
            match bits.step(table, 0) {
                Ok(step) => steps.push(if step.ends { END } else { step.coefficients }),
                Err(fault) => return (steps, fault),
            }
        }
    }

    const END: u8 = 0;

    #[test]
    fn codes_and_the_values_behind_them_are_passed() {
        let mut lengths = [0; 16];
        [1, 2, 3, 12].iter().for_each(|length: &usize| lengths[length - 1] = 1);
        let symbols = [3, 0x11, 0, 0xf0];
        // 10 and a bit, 110, 1110 0000 0000, and twice 10 and a bit.
        let bytes = [0b1011_1011, 0b1000_0000, 0b0010_1100];
        let one_by_one = table(&lengths, &symbols, 1, alternating);
        assert_eq!(steps(&bytes, &one_by_one), (vec![2, END, 16, 2, 2], Fault::TooShort));
        // Twice 0 and three bits; then 10, whose symbol no direct coefficient has.
        let bytes = [0b0101_0111, 0b1000_0000, 0, 0];
        assert_eq!(steps(&bytes, &table(&lengths, &symbols, 1, direct)), (vec![1, 1], Fault::Corrupt));
    }

    #[test]
    fn a_step_passes_the_codes_that_its_bits_tell() {
        let chained = of_four_bits(BLOCK, |symbol| Some(Step { bits: 0, coefficients: symbol, ends: symbol == 0 }));
        let near = |bits: usize| chained.near[bits];
        assert_eq!(near(0x123), Step { bits: 12, coefficients: 6, ends: false });
        assert_eq!(near(0x501), Step { bits: 8, coefficients: 5, ends: true });
        let valued = of_four_bits(BLOCK, |symbol| Some(Step { bits: symbol, coefficients: 1, ends: false }));
        // Of the third code the value is beyond the bits, of the second in the other row so much that no third is told.
        assert_eq!(valued.near[0x001], Step { bits: 13, coefficients: 3, ends: false });
        assert_eq!(valued.near[0x0f0], Step { bits: 23, coefficients: 2, ends: false });
    }

    fn codes() -> impl Strategy<Value = ([u8; 16], Vec<u8>)> {
        // Shares of a whole, halved again and again, are lengths of codes that can be told apart.
        vec((1u8..=16, any::<u8>()), 1..60).prop_map(|wanted| {
            let (mut lengths, mut left) = ([0; 16], 1u32 << 16);
            let mut symbols = Vec::new();
            for (length, symbol) in wanted {
                let share = 1 << (16 - length);
                if share <= left {
                    left -= share;
                    lengths[usize::from(length) - 1] += 1;
                    symbols.push(symbol);
                }
            }
            (lengths, symbols)
        })
    }

    proptest! {
        #[test]
        fn many_codes_a_step_are_one_code_a_step((lengths, symbols) in codes(), bytes in vec(any::<u8>(), 0..400)) {
            let first = of_four_bits(1, direct);
            let read = |most: u8| {
                let table = table(&lengths, &symbols, most, alternating);
                let mut bits = Bits::new(&bytes, 0);
                let mut places = Vec::new();
                loop {
                    match block(&mut bits, &first, &table) {
                        Ok(()) => places.push(8 * bits.at - bits.count as usize),
                        Err(fault) => return (places, fault),
                    }
                }
            };
            prop_assert_eq!(read(BLOCK), read(0));
        }

        #[test]
        fn stuffed_bytes_are_passed_wherever_they_are(
            bytes in vec(prop_oneof![any::<u8>(), Just(0xff)], 0..60),
        ) {
            // Each step tells half a byte.
            let halves: Vec<u8> = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
            let stuffed: Vec<u8> =
                bytes.iter().flat_map(|byte| if *byte == 0xff { vec![0xff, 0] } else { vec![*byte] }).collect();
            let table = of_four_bits(1, |symbol| Some(Step { bits: 0, coefficients: symbol, ends: false }));
            prop_assert_eq!(steps(&stuffed, &table), (halves, Fault::TooShort));
            let word = stuffed.first_chunk().map(|eight| u64::from_be_bytes(*eight));
            let marked = word.is_some_and(|word| word.to_be_bytes().contains(&0xff));
            prop_assert_eq!(word.is_some_and(has_marker_byte), marked);
        }
    }
}
