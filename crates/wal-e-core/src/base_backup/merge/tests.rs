mod failures;
mod fixture;
mod refused;

use std::fs;

use super::*;
use crate::config::Encryption;
use crate::encryption::{Key, Keyring};
use crate::notice;
use crate::postgres::control_file;
use crate::postgres::wal_sample::CLUSTER;
use crate::sentinel::{CorruptBlocks, to_json};
use crate::store::faulty::FaultyStore;
use fixture::{Fixture, LABEL};

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_backup_is_the_delta_in_another_form() {
    for seed in 0..25 {
        let mut fixture = Fixture::of_chain(seed, 1 + usize::try_from(seed % 5).unwrap()).await;
        if seed % 3 == 0 {
            let keyring = Keyring::new(Some(Key::new([7; 32])), Vec::new(), None);
            let encryption = Encryption { keyring, ..Encryption::default() };
            fixture.memory = fixture.memory.clone().encrypted(encryption);
            fixture.store = FaultyStore::new(fixture.memory.clone());
        }
        let tip = fixture.tip().to_owned();
        let (merged, queue) = fixture.merge_telling("LATEST").await;
        let merged = merged.unwrap();
        assert_eq!(merged, tip.split("_D_").next().unwrap());
        assert!(
            queue.drain().iter().all(|notice| notice.level == notice::Level::Log),
            "seed {seed}"
        );
        let mut expected = fixture.backed_up.clone();
        expected.insert("backup_label".to_owned(), LABEL.to_vec());
        expected.insert(
            "global/pg_control".to_owned(),
            control_file::sample(CLUSTER, 1 << 24, Fixture::lsn(fixture.chain.len() - 1)),
        );
        let (files, manifest) = fixture.restored(&merged).await;
        assert!(files == expected, "seed {seed}");
        let (of_delta, manifest_of_delta) = fixture.restored(&tip).await;
        assert!(of_delta == expected, "seed {seed}");
        assert_eq!(manifest.wal_ranges, manifest_of_delta.wal_ranges);
        assert_eq!(manifest.files.len(), files.len());
        for (path, content) in &files {
            let listed = manifest.file(path).unwrap();
            assert_eq!(listed.crc32c, Some(crc32c::crc32c(content)), "{path}");
            assert_eq!(listed.modified, manifest_of_delta.file(path).unwrap().modified);
        }
        // Without the chain it is as good.
        for backup in &fixture.chain {
            crate::base_backup::delete_objects(&*fixture.store(), backup).await.unwrap();
        }
        let list = crate::catalogue::list(&fixture.memory, &notice::channel().0).await.unwrap();
        assert_eq!(list.len(), 1);
        assert!(!list[0].permanent && list[0].name == merged);
        fs::remove_dir_all(fixture.dir.path().join(format!("restored_{merged}"))).unwrap();
        assert!(fixture.restored(&merged).await.0 == expected, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tars_without_whole_files_get_no_tar_in_the_new_backup() {
    let fixture = Fixture::of_chain(1, 2).await;
    let merged = fixture.merge("LATEST").await.unwrap();
    let (files, _) = fixture.restored(&merged).await;
    let list = fixture.list(&merged).await;
    assert_eq!(list.files.len(), files.len());
    assert!(list.files.values().all(|file| !file.is_incremented && !file.is_skipped));
    let tars = fixture.keys(&layout::tar_partitions(&merged)).await;
    assert_eq!(tars.len(), list.tar_file_sets.len());
    // The first tar of the delta has the directories.
    assert!(list.tar_file_sets.values().filter(|files| files.is_empty()).count() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_say_where_each_file_is_gives_all_of_them() {
    let fixture = Fixture::of_chain(13, 2).await;
    for backup in &fixture.chain[..2] {
        let mut list = fixture.list(backup).await;
        list.tar_file_sets.values_mut().for_each(|names| drop(names.pop()));
        fixture.put(&layout::files_metadata(backup), to_json(&list)).await;
    }
    let merged = fixture.merge("LATEST").await.unwrap();
    let (files, _) = fixture.restored(&merged).await;
    assert!(fixture.backed_up.iter().all(|(path, content)| files.get(path) == Some(content)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_damaged_pages_is_not_forgotten() {
    let fixture = Fixture::of_chain(11, 1).await;
    let mut changed = fixture.list(fixture.tip()).await;
    let damage = CorruptBlocks { corrupt_blocks_count: 2, some_corrupt_blocks: vec![3, 9] };
    changed.files.get_mut("/PG_VERSION").unwrap().corrupt_blocks = Some(damage.clone());
    fixture.put(&layout::files_metadata(fixture.tip()), to_json(&changed)).await;
    let merged = fixture.list(&fixture.merge("LATEST").await.unwrap()).await;
    assert_eq!(merged.files["/PG_VERSION"].corrupt_blocks, Some(damage));
    let others = merged.files.values().filter(|file| file.corrupt_blocks.is_some());
    assert_eq!(others.count(), 1);
}
