//! The names in a directory, of which there may be millions.

/// The size of a piece of memory; a name is much shorter.
const PIECE_BYTES: usize = 1 << 16;

/// The bits of a name's length.
const LENGTH_BITS: u32 = 12;

/// Names in pieces of memory, which do not move when there are more: the allocator would keep
/// both. One that ends with a slash is a directory's.
#[derive(Debug, Default)]
pub(super) struct Names {
    pieces: Vec<String>,
    places: Vec<Place>,
}

/// Where a name is: in which piece, where it begins there, and its length.
#[derive(Debug, Clone, Copy)]
struct Place {
    piece: u32,
    within: u32,
}

impl Place {
    /// The bytes of the name.
    fn of(self, pieces: &[String]) -> &[u8] {
        let begin = (self.within >> LENGTH_BITS) as usize;
        let end = begin + (self.within & ((1 << LENGTH_BITS) - 1)) as usize;
        pieces.get(self.piece as usize).and_then(|it| it.as_bytes().get(begin..end)).unwrap_or(&[])
    }
}

impl Names {
    /// Adds a name. One that no file system has, because it is too long, is left out.
    pub(super) fn push(&mut self, name: &str) {
        if self.pieces.last().is_none_or(|piece| piece.len() + name.len() > PIECE_BYTES) {
            self.pieces.push(String::with_capacity(PIECE_BYTES));
        }
        let index = self.pieces.len() - 1;
        let Some(piece) = self.pieces.last_mut() else { return };
        let number = |number: usize| u32::try_from(number).ok();
        let place = number(index).zip(number(piece.len())).zip(number(name.len()));
        if let Some(((index, begin), length)) = place.filter(|(_, it)| it >> LENGTH_BITS == 0) {
            piece.push_str(name);
            self.places.push(Place { piece: index, within: begin << LENGTH_BITS | length });
        }
    }

    /// Puts them into the order of their bytes.
    pub(super) fn sort(&mut self) {
        let pieces = &self.pieces;
        self.places.sort_unstable_by_key(|place| place.of(pieces));
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.places.get(index)?.of(&self.pieces)).ok()
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

    #[test]
    fn they_need_not_fit_into_one_piece() {
        let mut names = Names::default();
        let count = 3 * PIECE_BYTES / 200;
        for number in (0..count).rev() {
            names.push(&format!("{number:0200}"));
        }
        names.push(&"x".repeat(5000));
        names.sort();
        assert!(names.pieces.len() > 2);
        for number in 0..count {
            assert_eq!(names.get(number), Some(format!("{number:0200}").as_str()));
        }
        assert_eq!(names.get(count), None);
    }
}
