//! The client in use, and the region that it signs for.
//!
//! A server that is asked in the wrong region says which is right. The request is sent once
//! more, signed for that one; when the server takes it, all further requests are. No request
//! follows a redirect to another host: whatever is sent goes to the server that the settings
//! name, or to Amazon's of another region.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;

use super::errors::{Failure, named_region};
use crate::config::Setting;
use crate::notice::{Level, Notices};

/// Shared by all requests of a bucket.
pub(super) struct Address {
    state: Mutex<Signing>,
    bucket: String,
    notices: Notices,
}

/// A client and what it signs for.
#[derive(Clone)]
pub(super) struct Signing {
    pub(super) client: Client,
    pub(super) region: String,
}

impl Address {
    pub(super) fn new(client: Client, region: String, bucket: &str, notices: Notices) -> Address {
        let state = Mutex::new(Signing { client, region });
        Address { state, bucket: bucket.to_owned(), notices }
    }

    /// What the next request is made with.
    pub(super) fn signing(&self) -> Signing {
        self.lock().clone()
    }

    /// The region that requests are signed for.
    pub(super) fn region(&self) -> String {
        self.lock().region.clone()
    }

    /// What to send a request with once more that was signed for `region`, where the server
    /// names another one in its refusal.
    pub(super) fn elsewhere(&self, region: &str, failure: &Failure) -> Option<Signing> {
        let named = named_region(failure).filter(|named| *named != region)?;
        let current = self.signing();
        if current.region == named {
            // Another request was sent there meanwhile.
            return Some(current);
        }
        let config = current.client.config().to_builder().region(Region::new(named.to_owned()));
        Some(Signing { client: Client::from_conf(config.build()), region: named.to_owned() })
    }

    /// The server took a request that was signed so: further ones are, too.
    pub(super) fn move_to(&self, signing: Signing) {
        let region = signing.region.clone();
        let before = std::mem::replace(&mut *self.lock(), signing).region;
        if before == region {
            return;
        }
        self.notices.send(
            Level::Log,
            format!(
                "bucket \"{}\" is in region \"{region}\" and not in \"{before}\": requests are \
                 signed for \"{region}\" from now on",
                self.bucket
            ),
            Some(format!(
                "Set {} to \"{region}\", which saves a request each time that the store is opened.",
                Setting::S3Region
            )),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Signing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
