//! The client in use, and the region that it signs for.
//!
//! A server that is asked in the wrong region says which is right. Requests are signed for
//! that one from then on. No request follows a redirect to another host: whatever is sent
//! goes to the server that the settings name, or to Amazon's of another region.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;

use super::errors::{Failure, named_region};
use crate::config::Setting;
use crate::notice::{Level, Notices};

/// Servers that send each other's clients back and forth are not followed for ever.
const MOST_MOVES: u32 = 3;

/// Shared by all requests of a bucket.
pub(super) struct Address {
    state: Mutex<State>,
    bucket: String,
    notices: Notices,
}

struct State {
    client: Client,
    region: String,
    moves: u32,
}

impl Address {
    pub(super) fn new(client: Client, region: String, bucket: &str, notices: Notices) -> Address {
        let state = Mutex::new(State { client, region, moves: 0 });
        Address { state, bucket: bucket.to_owned(), notices }
    }

    /// The client for the next request, and the region that it signs for.
    pub(super) fn client(&self) -> (Client, String) {
        let state = self.lock();
        (state.client.clone(), state.region.clone())
    }

    /// The region that requests are signed for.
    pub(super) fn region(&self) -> String {
        self.lock().region.clone()
    }

    /// Whether a request that was signed for `signed_for` has a chance when it is sent once
    /// more, now for the region that the server named in its refusal.
    pub(super) fn follow(&self, signed_for: &str, failure: &Failure) -> bool {
        let Some(region) = named_region(failure).filter(|region| *region != signed_for) else {
            return false;
        };
        let mut state = self.lock();
        if state.region == region {
            // Another request was sent there before.
            return true;
        }
        if state.moves == MOST_MOVES {
            return false;
        }
        state.moves += 1;
        let config = state.client.config().to_builder().region(Region::new(region.to_owned()));
        state.client = Client::from_conf(config.build());
        state.region = region.to_owned();
        self.notices.send(
            Level::Log,
            format!(
                "bucket \"{}\" is in region \"{region}\" and not in \"{signed_for}\": requests \
                 are signed for \"{region}\" from now on",
                self.bucket
            ),
            Some(format!(
                "Set {} to \"{region}\", which saves a request each time that the store is opened.",
                Setting::S3Region
            )),
        );
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
