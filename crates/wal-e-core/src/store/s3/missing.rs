//! Servers that refuse to say that an object is not there.
//!
//! Amazon's answer 403 for an object that is not there unless the credentials may list the
//! whole bucket; a policy that allows to list what is below one path is not enough. But
//! then that very name can be listed.

use super::Bucket;
use super::errors::{Failure, Listing};
use crate::layout::ObjectKey;

/// More than there are names that begin with the whole of another one.
const MOST_NAMES: i32 = 100;

impl Bucket {
    /// What a request for one object really failed for, after it was refused: `None` when
    /// the object is not there. Asks the server once more, and only then.
    pub(super) async fn without_absence(
        &self,
        failure: Failure,
        key: &ObjectKey,
    ) -> Option<Failure> {
        if failure.is_surely_missing_object() {
            return None;
        }
        let may_mean_absence = failure.may_mean_absence();
        if !failure.may_hide_absence() && !failure.is_without_reason() && !may_mean_absence {
            return Some(failure);
        }
        match self.is_listed(key).await {
            Ok(Some(false)) if may_mean_absence => None,
            _ if may_mean_absence => Some(failure),
            Ok(Some(true)) => Some(failure.with_listing(Listing::Shows)),
            Ok(Some(false)) if failure.may_hide_absence() => {
                self.abilities.note_hidden();
                None
            }
            Ok(_) => Some(failure),
            // An answer to HEAD has no room for a reason; this one has.
            Err(listing) if listing.may_hide_absence() => {
                let told = if failure.is_without_reason() { listing } else { failure };
                Some(told.with_listing(Listing::Refused))
            }
            Err(listing) if failure.is_without_reason() && listing.is_answer() => Some(listing),
            // What may pass is tried again before an object that may be missing counts as
            // refused.
            Err(listing) if failure.may_hide_absence() && listing.may_pass(&self.place()) => {
                Some(listing)
            }
            Err(_) => Some(failure),
        }
    }

    /// Whether the object is there, as far as a listing shows it.
    async fn is_listed(&self, key: &ObjectKey) -> Result<Option<bool>, Failure> {
        let full_key = self.full_key(key);
        let answer = self
            .ask(self.limits.answer, |client| {
                client
                    .list_objects_v2()
                    .bucket(&self.name)
                    .prefix(&full_key)
                    .max_keys(MOST_NAMES)
                    .send()
            })
            .await?;
        let mut names = answer.contents.unwrap_or_default().into_iter().filter_map(|o| o.key);
        Ok(match names.any(|name| name == full_key) {
            true => Some(true),
            false => (answer.is_truncated != Some(true)).then_some(false),
        })
    }
}
