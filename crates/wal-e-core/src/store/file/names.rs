//! The names in a directory, of which there may be millions.

/// Names in one piece of memory. One that ends with a slash is a directory's.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Where each name begins in `text` and ends.
    places: Vec<(usize, usize)>,
}

impl Names {
    pub(super) fn push(&mut self, name: &str) {
        let begin = self.text.len();
        self.text.push_str(name);
        self.places.push((begin, self.text.len()));
    }

    /// Puts them into the order of their bytes.
    pub(super) fn sort(&mut self) {
        let text = self.text.as_bytes();
        self.places.sort_unstable_by(|one, other| text[one.0..one.1].cmp(&text[other.0..other.1]));
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let (begin, end) = self.places.get(index)?;
        self.text.get(*begin..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_of_their_bytes() {
        let mut names = Names::default();
        for name in ["b/", "a", "b", "", "ä", "b.x"] {
            names.push(name);
        }
        names.sort();
        let sorted: Vec<&str> = (0..7).map_while(|index| names.get(index)).collect();
        assert_eq!(sorted, ["", "a", "b", "b.x", "b/", "ä"]);
    }
}
