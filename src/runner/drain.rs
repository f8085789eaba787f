//! Splits a stream of bytes into lines without ever holding more than a bound of it.

/// Longest line that is kept whole, in bytes. The agent's lines carry whole files at times; its result is far shorter.
pub(super) const LINE_MAX: usize = 8 << 20;
/// What is kept of a longer line.
pub(super) const HEAD: usize = 64 << 10;

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its beginning; it was too long.
    Cut {
        /// The first [`HEAD`] bytes.
        head: &'a [u8],
        /// How long it was in all, bytes.
        length: u64,
    },
}

/// The bytes of a line whose end has not come yet.
#[derive(Debug)]
pub(super) struct Lines {
    pending: Vec<u8>,
    max: usize,
    /// Length so far of a line that is too long.
    length: Option<u64>,
}

impl Lines {
    /// Keeps lines up to that length whole.
    pub(super) fn new(max: usize) -> Self {
        Self { pending: Vec::new(), max, length: None }
    }

    /// Takes more bytes and hands out each line that they end.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(at);
            bytes = rest.get(1..).unwrap_or_default();
            if self.pending.is_empty() && self.length.is_none() && line.len() <= self.max {
                each(Line::Whole(line));
            } else {
                self.extend(line);
                self.finish(&mut each);
            }
        }
        self.extend(bytes);
    }

    /// The stream has ended: hands out what came after the last newline.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        match self.length.take() {
            Some(length) => each(Line::Cut { head: &self.pending, length }),
            None if self.pending.is_empty() => return,
            None => each(Line::Whole(&self.pending)),
        }
        self.pending.clear();
        // One long line must not cost memory for the rest of the runner's life.
        self.pending.shrink_to(HEAD);
    }

    fn extend(&mut self, bytes: &[u8]) {
        match &mut self.length {
            Some(length) => *length = length.saturating_add(bytes.len() as u64),
            None if self.pending.len() + bytes.len() <= self.max => self.pending.extend_from_slice(bytes),
            None => {
                self.length = Some((self.pending.len() + bytes.len()) as u64);
                self.pending.extend_from_slice(bytes.get(..HEAD.min(bytes.len())).unwrap_or_default());
                self.pending.truncate(HEAD.min(self.max));
                self.pending.shrink_to(HEAD);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(max: usize, chunks: &[&[u8]]) -> (Vec<String>, usize) {
        let mut lines = Lines::new(max);
        let mut seen = Vec::new();
        let mut held = 0;
        let mut each = |line: Line<'_>| {
            seen.push(match line {
                Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Line::Cut { head, length } => format!("{}…{length}", String::from_utf8_lossy(head)),
            });
        };
        for chunk in chunks {
            lines.push(chunk, &mut each);
            held = held.max(lines.pending.len());
        }
        lines.finish(&mut each);
        (seen, held)
    }

    #[test]
    fn lines_come_whole_over_any_chunks() {
        assert_eq!(split(100, &[b"ab", b"c\nde\n", b"\nf"]).0, ["abc", "de", "", "f"]);
        assert_eq!(split(100, &[b"\n\n"]).0, ["", ""]);
    }

    #[test]
    fn a_long_line_costs_no_memory_and_the_next_is_whole() {
        let chunk = vec![b'x'; 1 << 16];
        let mut chunks: Vec<&[u8]> = vec![&chunk; 800];
        chunks.push(b"\nnext\n");
        let (seen, held) = split(1 << 20, &chunks);
        assert!(held <= 1 << 20, "{held} bytes were held");
        assert_eq!(seen.len(), 2);
        assert!(seen[0].ends_with(&format!("…{}", 800 << 16)) && seen[0].len() < HEAD + 20, "{} bytes", seen[0].len());
        assert_eq!(seen[1], "next");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(text in "[a-c\n]{0,200}", cut in 1usize..40) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") { expected.pop(); }
            prop_assert_eq!(split(1000, &chunks).0, expected);
        }
    }
}
