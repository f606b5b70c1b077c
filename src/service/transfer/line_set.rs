//! A bit set of line numbers. Ten million lines need 1.2 MB.

/// A set of line numbers.
#[derive(Debug, Default)]
pub(super) struct LineSet {
    words: Vec<u64>,
    len: u64,
}

impl LineSet {
    /// Adds a line. Returns whether it is new.
    pub(super) fn insert(&mut self, line: u64) -> bool {
        let (word, bit) = Self::place(line);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(new);
        new
    }

    /// Removes a line.
    pub(super) fn remove(&mut self, line: u64) {
        if self.contains(line) {
            let (word, bit) = Self::place(line);
            self.words[word] &= !bit;
            self.len -= 1;
        }
    }

    /// Whether the set contains the line.
    pub(super) fn contains(&self, line: u64) -> bool {
        let (word, bit) = Self::place(line);
        self.words.get(word).is_some_and(|found| found & bit != 0)
    }

    /// Returns the number of lines in the set.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    fn place(line: u64) -> (usize, u64) {
        // Lines are counted as they are read, so the number is never that large.
        (usize::try_from(line / 64).unwrap_or(usize::MAX), 1 << (line % 64))
    }
}
