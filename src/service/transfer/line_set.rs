//! A set of line numbers, a bit each: ten million lines are 1.2 MB.

/// Numbers of lines.
#[derive(Debug, Default)]
pub(super) struct LineSet {
    words: Vec<u64>,
    len: u64,
}

impl LineSet {
    /// Puts a line in; whether it was not in.
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

    /// Takes a line out.
    pub(super) fn remove(&mut self, line: u64) {
        if self.contains(line) {
            let (word, bit) = Self::place(line);
            self.words[word] &= !bit;
            self.len -= 1;
        }
    }

    /// Whether a line is in.
    pub(super) fn contains(&self, line: u64) -> bool {
        let (word, bit) = Self::place(line);
        self.words.get(word).is_some_and(|found| found & bit != 0)
    }

    /// How many are in.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    fn place(line: u64) -> (usize, u64) {
        // Lines are counted one by one as they are read: there are not so many.
        (usize::try_from(line / 64).unwrap_or(usize::MAX), 1 << (line % 64))
    }
}
