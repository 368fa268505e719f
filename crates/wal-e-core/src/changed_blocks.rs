//! Which blocks of the cluster's relations a stretch of WAL has changed: what an incremental
//! base backup has to hold, without reading every page.
//!
//! Only main forks are told: the others are small, or not logged page by page, and always go
//! whole.

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;

pub use crate::postgres::RelationId;

mod collector;
mod kept_maps;
mod run;
mod segment_map;
pub mod summaries;

pub use kept_maps::KeptMaps;
pub use run::{MapRun, changed_between};
pub use segment_map::{LARGEST_MAP_BYTES, SegmentMap, SegmentMapper};

/// What a stretch of WAL has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangedBlocks {
    relations: HashMap<RelationId, Changes>,
    databases: HashSet<(u32, u32)>,
}

/// What a stretch of WAL has changed in the main fork of one relation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    blocks: RoaringBitmap,
    limit: Option<u32>,
}

impl ChangedBlocks {
    /// A record changes `block`, counted over all files of the relation.
    pub fn note_block(&mut self, relation: RelationId, block: u32) {
        self.relations.entry(relation).or_default().blocks.insert(block);
    }

    /// Records change `blocks`.
    pub fn note_blocks(&mut self, relation: RelationId, blocks: RoaringBitmap) {
        self.relations.entry(relation).or_default().blocks |= blocks;
    }

    /// A record cuts the relation to `blocks` blocks: to 0 where it is created or dropped.
    /// What is there afterwards, from that block on, has nothing to do with what was there.
    pub fn note_limit(&mut self, relation: RelationId, blocks: u32) {
        let limit = &mut self.relations.entry(relation).or_default().limit;
        *limit = Some(limit.map_or(blocks, |limit| limit.min(blocks)));
    }

    /// A record copies or removes the files of a whole database in one tablespace, and tells
    /// no blocks.
    pub fn note_database(&mut self, tablespace: u32, database: u32) {
        self.databases.insert((tablespace, database));
    }

    /// Adds what another stretch of WAL has changed.
    pub fn merge(&mut self, other: ChangedBlocks) {
        for (relation, changes) in other.relations {
            let own = self.relations.entry(relation).or_default();
            own.blocks |= changes.blocks;
            if let Some(limit) = changes.limit {
                own.limit = Some(own.limit.map_or(limit, |own| own.min(limit)));
            }
        }
        self.databases.extend(other.databases);
    }

    /// What has changed in `relation`; nothing when it is `None`.
    pub fn of(&self, relation: RelationId) -> Option<&Changes> {
        self.relations.get(&relation)
    }

    /// Whether all files of a database in a tablespace are others than before.
    pub fn is_new_database(&self, tablespace: u32, database: u32) -> bool {
        self.databases.contains(&(tablespace, database))
    }

    /// The databases whose files are all others than before: tablespace and database.
    pub fn databases(&self) -> impl Iterator<Item = (u32, u32)> {
        self.databases.iter().copied()
    }

    /// All of it, by relation.
    pub fn relations(&self) -> impl Iterator<Item = (&RelationId, &Changes)> {
        self.relations.iter()
    }
}

impl Changes {
    /// From which block on everything counts as changed: the shortest that the relation has
    /// been meanwhile. `None` when it was not cut.
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// The blocks that records have changed, in order.
    pub fn blocks(&self) -> &RoaringBitmap {
        &self.blocks
    }

    /// The blocks from `first` to before `after` that may be others than they were, in order.
    pub fn between(&self, first: u32, after: u32) -> impl Iterator<Item = u32> {
        let cut = self.limit.unwrap_or(after).clamp(first, after.max(first));
        self.blocks.range(first..cut).chain(cut..after)
    }

    /// How many [`between`](Self::between) gives.
    pub fn count_between(&self, first: u32, after: u32) -> u64 {
        let cut = self.limit.unwrap_or(after).clamp(first, after.max(first));
        self.blocks.range_cardinality(first..cut) + u64::from(after.saturating_sub(cut))
    }

    /// Whether a block may be another than it was.
    pub fn has(&self, block: u32) -> bool {
        self.limit.is_some_and(|limit| block >= limit) || self.blocks.contains(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_wal_add_up() {
        let relation = RelationId { tablespace: 1, database: 2, number: 3 };
        let mut first = ChangedBlocks::default();
        first.note_block(relation, 7);
        first.note_limit(relation, 100);
        let mut second = ChangedBlocks::default();
        second.note_block(relation, 9);
        second.note_limit(relation, 50);
        second.note_database(1, 4);
        first.merge(second.clone());
        second.merge(first.clone());
        assert_eq!(first, second);
        let changes = first.of(relation).unwrap();
        assert_eq!(changes.limit(), Some(50));
        assert!(changes.has(7) && changes.has(9) && changes.has(50) && changes.has(99));
        assert!(!changes.has(8) && !changes.has(49));
        for (first, after) in [(0, 60), (8, 9), (9, 9), (40, 52), (55, 57), (60, 50)] {
            let between: Vec<u32> = changes.between(first, after).collect();
            let expected: Vec<u32> = (first..after).filter(|block| changes.has(*block)).collect();
            assert_eq!(between, expected, "{first} to {after}");
            assert_eq!(changes.count_between(first, after), expected.len() as u64);
        }
        assert!(first.is_new_database(1, 4) && !first.is_new_database(1, 2));
    }
}
