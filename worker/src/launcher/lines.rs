//! Cuts what a process prints into lines of bounded length that are safe to show in a terminal.

/// Longest line that is kept, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    dropped: usize,
}

impl Lines {
    /// Adds bytes; returns the lines that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, complete) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let kept = text.len().min(MAX_LINE_BYTES - self.line.len());
            self.line.extend_from_slice(&text[..kept]);
            self.dropped += text.len() - kept;
            if complete {
                lines.extend(self.finish());
            }
        }
        lines
    }

    /// The line begun, at the end of the stream or of the line; empty lines are left out.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let (line, dropped) = (std::mem::take(&mut self.line), std::mem::take(&mut self.dropped));
        // A progress bar redraws a line after a carriage return: what was last drawn is what counts.
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let drawn = line.rsplit(|&byte| byte == b'\r').next().unwrap_or_default();
        let text: String =
            String::from_utf8_lossy(drawn).chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect();
        match (text.is_empty(), dropped) {
            (true, 0) => None,
            (_, 0) => Some(text),
            (_, dropped) => Some(format!("{text}… ({dropped} bytes left out)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_safe() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"one\ntw"), ["one"]);
        assert_eq!(lines.feed(b"o\r\n\n10%\r20%\r30%\n\x1b[31mred\n"), ["two", "30%", "·[31mred"]);
        assert_eq!(lines.feed(b"\xff\xfe\n"), ["\u{fffd}\u{fffd}"]);
        assert!(lines.feed(&vec![b'x'; 3 * MAX_LINE_BYTES]).is_empty());
        let long = lines.feed(b"\n").remove(0);
        assert!(long.ends_with(&format!("x… ({} bytes left out)", 2 * MAX_LINE_BYTES)), "{long:.20}");
        lines.feed(b"no end");
        assert_eq!(lines.finish().as_deref(), Some("no end"));
        assert_eq!(lines.finish(), None);
    }

    proptest::proptest! {
        #[test]
        fn how_bytes_arrive_does_not_matter(bytes in proptest::collection::vec(0_u8..128, 0..200), cut in 0_usize..200) {
            let whole = Lines::default().feed(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut lines = Lines::default();
            let mut parts = lines.feed(first);
            parts.extend(lines.feed(second));
            proptest::prop_assert_eq!(parts, whole);
        }
    }
}
