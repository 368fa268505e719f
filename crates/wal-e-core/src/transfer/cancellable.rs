//! Objects that can be given up while they are read.

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::{ObjectBody, ObjectReader};
use crate::tasks::or_cancelled;

/// An object whose body ends with [`crate::ErrorKind::Cancelled`] as soon as
/// `cancel` is, so that a thread that waits for it comes back.
pub fn cancellable(object: ObjectReader, cancel: CancellationToken) -> ObjectReader {
    let body = Box::new(CancellableBody { body: object.body, cancel });
    ObjectReader { info: object.info, body }
}

struct CancellableBody {
    body: Box<dyn ObjectBody>,
    cancel: CancellationToken,
}

#[async_trait]
impl ObjectBody for CancellableBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        or_cancelled(&self.cancel, self.body.next_chunk()).await
    }
}
