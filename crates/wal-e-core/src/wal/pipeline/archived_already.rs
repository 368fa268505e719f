//! What the archive has of the files that wait, before any is sent.

use std::collections::HashSet;
use std::path::Path;

use super::MOST_AHEAD;
use crate::error::Result;
use crate::layout;
use crate::postgres::WalFileName;
use crate::postgres::archive_status::ready_files;
use crate::store::{ListRequest, ObjectStore};

/// How many pages of a listing are looked at.
const LISTED_PAGES: usize = 5;

/// Which of the files that wait in `wal_directory` the archive has already,
/// under any encoding. Names say nothing of their content: [`Pusher`](crate::wal::Pusher) compares.
///
/// # Errors
/// Those of the store.
pub(in crate::wal) async fn archived_already(
    store: &dyn ObjectStore,
    wal_directory: &Path,
) -> Result<HashSet<WalFileName>> {
    // A directory without marks is not a server's: nothing waits there.
    let waiting = ready_files(wal_directory, MOST_AHEAD).unwrap_or_default();
    let waiting: HashSet<WalFileName> = waiting.files.into_iter().collect();
    let Some(first) = waiting.iter().min() else { return Ok(HashSet::new()) };
    let request = ListRequest {
        prefix: layout::wal(),
        start_after: Some(layout::before_wal_file(first)),
        shallow: true,
    };
    let (mut archived, mut page) = (HashSet::new(), None);
    for _ in 0..LISTED_PAGES {
        let answer = store.list(&request, page).await?;
        let names = answer.objects.iter().filter_map(|object| layout::wal_file_of(&object.key));
        archived.extend(names.map(|(name, _)| name).filter(|name| waiting.contains(name)));
        page = answer.next;
        if page.is_none() {
            break;
        }
    }
    Ok(archived)
}
