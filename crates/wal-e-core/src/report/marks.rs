//! What falls into the same place of a drawing.

use std::fmt::Write as _;

use super::axis::CELLS;

/// Marks by the cell in which they fall: `(cell, what falls into it)`, from left to right.
pub(super) fn gathered<'a, T>(marks: impl Iterator<Item = (f64, &'a T)>) -> Vec<(f64, Vec<&'a T>)> {
    let mut cells: std::collections::BTreeMap<usize, (f64, Vec<&'a T>)> = Default::default();
    for (at, mark) in marks {
        let (_, met) = cells.entry(cell(at)).or_insert_with(|| (at, Vec::new()));
        met.push(mark);
    }
    cells.into_values().collect()
}

/// The cell at a place, in percent.
fn cell(at: f64) -> usize {
    ((at / 100.0 * CELLS as f64) as usize).min(CELLS - 1)
}

/// A row of cells. Each shows the worst of what falls into it.
#[derive(Debug)]
pub(super) struct Cells<T>(Vec<Option<T>>);

impl<T: Copy + Ord> Cells<T> {
    pub(super) fn new() -> Self {
        Cells(vec![None; CELLS])
    }

    /// Adds what goes from one place to another, in percent.
    pub(super) fn add(&mut self, from: f64, to: f64, what: T) {
        let (first, last) = (cell(from), (to / 100.0 * CELLS as f64).ceil() as usize);
        for cell in &mut self.0[first..last.clamp(first + 1, CELLS)] {
            *cell = (*cell).max(Some(what));
        }
    }

    /// A path for all cells that show `what`, from `top` to `bottom`: for a drawing that is
    /// [`CELLS`] wide. `None` when none does.
    pub(super) fn path(&self, what: T, top: i32, bottom: i32) -> Option<String> {
        let mut path = String::new();
        let mut at = 0;
        for run in self.0.chunk_by(|one, next| one == next) {
            if run.first() == Some(&Some(what)) {
                let (width, height) = (run.len(), bottom - top);
                // Writing to a string cannot fail.
                let _ = write!(path, "M{at} {top}h{width}v{height}h-{width}z");
            }
            at += run.len();
        }
        (!path.is_empty()).then_some(path)
    }
}
