//! The Huffman codes of a sequential JPEG (ITU-T T.81, annex F), read as fast as a decoder would: a code and the value
//! behind it are passed in one step, by a look-up that stays in the nearest cache.

use super::jpeg::Fault;

/// What is done with a code: how many bits it and the value behind it have, and how far the coefficients go on.
/// No bits at all: this is no code.
#[derive(Clone, Copy, Default)]
pub struct Step {
    bits: u8,
    coefficients: u8,
}

/// The end of a block, in [`Step::coefficients`].
const END: u8 = 0;
/// Bits that the small look-up goes by; most codes are shorter, and it stays in the nearest cache.
const NEAR_BITS: u32 = 10;

/// A Huffman table as two look-ups: by the next bits for short codes, and by the next 16 for all.
pub struct Table {
    near: Vec<Step>,
    far: Vec<Step>,
}

impl Table {
    /// `step` says what a symbol means; None where it means nothing.
    pub fn new(lengths: &[u8; 16], symbols: &[u8], step: fn(u8) -> Option<Step>) -> Option<Self> {
        let mut far = vec![Step::default(); 1 << 16];
        let mut next = 0;
        let mut symbols = symbols.iter();
        for (length, count) in (1u8..).zip(lengths) {
            for _ in 0..*count {
                let span = 1usize << (16 - length);
                let codes = far.get_mut(next..next + span)?;
                if let Some(step) = step(*symbols.next()?) {
                    codes.fill(Step { bits: length + step.bits, ..step });
                }
                next += span;
            }
        }
        let firsts = far.chunks_exact(1 << (16 - NEAR_BITS));
        let near = firsts.map(|codes| {
            let same =
                codes.iter().all(|code| (code.bits, code.coefficients) == (codes[0].bits, codes[0].coefficients));
            if same { codes[0] } else { Step::default() }
        });
        Some(Self { near: near.collect(), far })
    }

    /// A symbol of a direct coefficient is the number of bits behind it (T.81 F.2.2.1).
    pub fn direct(symbol: u8) -> Option<Step> {
        (symbol <= 16).then_some(Step { bits: symbol, coefficients: 1 })
    }

    /// A symbol of an alternating coefficient is a run of zeros and the number of bits behind it (T.81 F.2.2.2).
    pub fn alternating(symbol: u8) -> Option<Step> {
        Some(match (symbol >> 4, symbol & 15) {
            (15, 0) => Step { bits: 0, coefficients: 16 },
            (_, 0) => Step { bits: 0, coefficients: END },
            (zeros, bits) => Step { bits, coefficients: zeros + 1 },
        })
    }
}

/// Reads the codes of one block of 64 coefficients (T.81 F.2.2).
pub fn block(bits: &mut Bits<'_>, direct: &Table, alternating: &Table) -> Result<(), Fault> {
    let mut coefficient = bits.step(direct)?;
    while coefficient < 64 {
        match bits.step(alternating)? {
            END => return Ok(()),
            more => coefficient += more,
        }
    }
    if coefficient == 64 { Ok(()) } else { Err(Fault::Corrupt) }
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

    /// Passes a code and the value behind it, and says how far the coefficients go on.
    #[inline(always)]
    fn step(&mut self, table: &Table) -> Result<u8, Fault> {
        if self.count < 32 {
            self.fill();
        }
        let mut step = table.near[(self.buffer >> (64 - NEAR_BITS)) as usize];
        if step.bits == 0 {
            step = table.far[(self.buffer >> 48) as usize];
            if step.bits == 0 {
                return Err(if self.count < 16 { Fault::TooShort } else { Fault::Corrupt });
            }
        }
        self.count = self.count.checked_sub(step.bits.into()).ok_or(Fault::TooShort)?;
        self.buffer <<= step.bits;
        Ok(step.coefficients)
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
    use super::*;

    /// A table of the codes of these lengths, in order, and what reading `bytes` with it gives.
    fn steps(bytes: &[u8], codes: &[(usize, u8)], step: fn(u8) -> Option<Step>) -> (Vec<u8>, Fault) {
        let mut lengths = [0; 16];
        codes.iter().for_each(|(length, _)| lengths[length - 1] += 1);
        let symbols: Vec<u8> = codes.iter().map(|(_, symbol)| *symbol).collect();
        let table = Table::new(&lengths, &symbols, step).unwrap();
        let (mut bits, mut steps) = (Bits::new(bytes, 0), Vec::new());
        loop {
            match bits.step(&table) {
                Ok(step) => steps.push(step),
                Err(fault) => return (steps, fault),
            }
        }
    }

    #[test]
    fn codes_and_the_values_behind_them_are_passed() {
        let codes = [(1, 3), (2, 0x11), (3, 0), (12, 0xf0)];
        // 10 and a bit, 110, 1110 0000 0000, and twice 10 and a bit.
        let bytes = [0b1011_1011, 0b1000_0000, 0b0010_1100];
        assert_eq!(steps(&bytes, &codes, Table::alternating), (vec![2, END, 16, 2, 2], Fault::TooShort));
        // Twice 0 and three bits; then 10, whose symbol no direct coefficient has.
        let bytes = [0b0101_0111, 0b1000_0000, 0, 0];
        assert_eq!(steps(&bytes, &codes, Table::direct), (vec![1, 1], Fault::Corrupt));
    }

    proptest::proptest! {
        #[test]
        fn stuffed_bytes_are_passed_wherever_they_are(
            bytes in proptest::collection::vec(proptest::prop_oneof![proptest::num::u8::ANY, proptest::strategy::Just(0xff)], 0..60),
        ) {
            // Sixteen codes of four bits: each step tells half a byte.
            let codes: Vec<(usize, u8)> = (0..16).map(|symbol| (4, symbol)).collect();
            let halves: Vec<u8> = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
            let stuffed: Vec<u8> =
                bytes.iter().flat_map(|byte| if *byte == 0xff { vec![0xff, 0] } else { vec![*byte] }).collect();
            let tell = |symbol| Some(Step { bits: 0, coefficients: symbol });
            proptest::prop_assert_eq!(steps(&stuffed, &codes, tell), (halves, Fault::TooShort));
            let word = stuffed.first_chunk().map(|eight| u64::from_be_bytes(*eight));
            let marked = word.is_some_and(|word| word.to_be_bytes().contains(&0xff));
            proptest::prop_assert_eq!(word.is_some_and(has_marker_byte), marked);
        }
    }
}
