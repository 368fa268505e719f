//! What the records of a segment say, on its way into [`ChangedBlocks`]. Most records change
//! blocks that were just changed before, so that is looked at first.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::{ChangedBlocks, RelationId};
use crate::postgres::wal_blocks::BlockSink;

/// How many relations and blocks are remembered as the last ones: powers of two, small enough
/// for the caches of a processor.
const RECENT_RELATIONS: usize = 64;
const RECENT_BLOCKS: usize = 4096;

/// How many blocks are put in order at once.
const MOST_PAIRS: usize = 32 * 1024;

/// Collects changes.
#[derive(Debug)]
pub(super) struct Collector {
    changed: ChangedBlocks,
    wal_level_is_minimal: bool,
    /// Each relation's place in `relations`.
    places: HashMap<RelationId, u32>,
    relations: Vec<RelationId>,
    /// Relations and their places, each where its numbers lead.
    recent_relations: Vec<Option<(RelationId, u32)>>,
    /// The pairs noted last, each where it leads.
    recent_blocks: Vec<u64>,
    /// A relation's place and a block of it, not yet in `changed`.
    pairs: Vec<u64>,
}

impl Collector {
    pub(super) fn new() -> Self {
        Collector {
            changed: ChangedBlocks::default(),
            wal_level_is_minimal: false,
            places: HashMap::new(),
            relations: Vec::new(),
            recent_relations: vec![None; RECENT_RELATIONS],
            // No pair of a place and a block: none of the latter has this number.
            recent_blocks: vec![u64::MAX; RECENT_BLOCKS],
            pairs: Vec::new(),
        }
    }

    /// All that was collected, and whether `wal_level` was `minimal` meanwhile.
    pub(super) fn finish(mut self) -> (ChangedBlocks, bool) {
        self.settle();
        (self.changed, self.wal_level_is_minimal)
    }

    #[inline(always)]
    fn place(&mut self, relation: &RelationId) -> u32 {
        let numbers = relation.number ^ relation.database.rotate_left(16);
        let slot = slot(u64::from(numbers), RECENT_RELATIONS);
        if let Some((recent, place)) = &self.recent_relations[slot]
            && recent == relation
        {
            return *place;
        }
        let place = *self.places.entry(*relation).or_insert_with(|| {
            self.relations.push(*relation);
            // Each takes more than four bytes of a segment of 1 GB.
            (self.relations.len() - 1) as u32
        });
        self.recent_relations[slot] = Some((*relation, place));
        place
    }

    /// Puts the pairs where they belong.
    fn settle(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        for of_one in self.pairs.chunk_by(|left, right| left >> 32 == right >> 32) {
            let relation = self.relations[(of_one[0] >> 32) as usize];
            let blocks = of_one.iter().map(|pair| *pair as u32);
            let blocks = RoaringBitmap::from_sorted_iter(blocks.clone())
                .unwrap_or_else(|_| blocks.collect());
            self.changed.note_blocks(relation, blocks);
        }
        self.pairs.clear();
    }
}

/// Where a number leads in a table of `length` places.
#[inline(always)]
fn slot(number: u64, length: usize) -> usize {
    // Fibonacci hashing: the upper bits of the product depend on all of the number.
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as usize % length
}

impl BlockSink for Collector {
    #[inline(always)]
    fn block(&mut self, relation: &RelationId, block: u32) {
        let pair = u64::from(self.place(relation)) << 32 | u64::from(block);
        let slot = slot(pair, RECENT_BLOCKS);
        if self.recent_blocks[slot] == pair {
            return;
        }
        self.recent_blocks[slot] = pair;
        self.pairs.push(pair);
        if self.pairs.len() == MOST_PAIRS {
            self.settle();
        }
    }

    fn limit(&mut self, relation: &RelationId, blocks: u32) {
        self.changed.note_limit(*relation, blocks);
    }

    fn database(&mut self, tablespace: u32, database: u32) {
        self.changed.note_database(tablespace, database);
    }

    fn wal_level_is_minimal(&mut self) {
        self.wal_level_is_minimal = true;
    }
}
