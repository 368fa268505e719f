//! Between blocking streams (files, tar, compression) and asynchronous stores.
//!
//! Both directions have a fixed number of buffers of a fixed size, so that
//! memory does not depend on the size of what is moved.

mod cancellable;
mod chunks;
mod counted;
mod download;
mod ranged;
mod upload;
mod upload_note;

#[cfg(test)]
mod tests;

pub use cancellable::cancellable;
pub use counted::Counted;
pub use download::{DownloadReader, download};
pub use ranged::{RangedReader, download_ranges};
pub use upload::{PartWriter, Upload, Uploaded, upload};
pub use upload_note::{Open, Origin, UploadNote};
