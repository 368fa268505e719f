use time::Duration;
use time::macros::datetime;

use super::super::Finding;
use super::*;
use crate::notice;
use crate::store::memory::MemoryStore;

fn verified(name: &str, ok: bool) -> Verified {
    let detail = "object \"x\" ends early".to_owned();
    let finding = Finding { check_name: "tars", object: None, ok: Some(ok), detail };
    Verified { name: name.to_owned(), findings: vec![finding] }
}

#[tokio::test]
async fn the_last_verification_counts_whatever_came_before() {
    let store = MemoryStore::default();
    let (notices, _queue) = notice::channel();
    assert_eq!(last_verifications(&store).await.unwrap(), BTreeMap::new());
    let begin = datetime!(2026-11-01 00:00 UTC);
    for (day, ok) in [true, false, true, false].into_iter().enumerate() {
        verified("base_1", ok).record(&store, &notices).await.unwrap();
        let at = begin + Duration::days(day as i64);
        store.set_last_modified(&layout::verification("base_1", ok), at);
        let last = &last_verifications(&store).await.unwrap()["base_1"];
        assert_eq!(last.recorded_at, at);
        assert_eq!(last.damage.is_none(), ok);
        if !ok {
            assert_eq!(last.damage.as_deref(), Some("tars: object \"x\" ends early"));
        }
    }
}

#[tokio::test]
async fn damage_counts_where_the_clock_does_not_tell() {
    let store = MemoryStore::default();
    let (notices, _queue) = notice::channel();
    let at = datetime!(2026-11-01 00:00 UTC);
    for ok in [false, true] {
        verified("base_1", ok).record(&store, &notices).await.unwrap();
        store.set_last_modified(&layout::verification("base_1", ok), at);
    }
    assert!(last_verifications(&store).await.unwrap()["base_1"].damage.is_some());
}
