//! What was asked of the server.

use std::fmt;

/// What a request was for, as it stands between "could not" and the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Action {
    Head,
    Get,
    Put,
    BeginUpload,
    PutPart(u32),
    CompleteUpload,
    AbortUpload,
    AbortUploads,
    Delete,
    List,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Head => f.write_str("look for object"),
            Action::Get => f.write_str("get object"),
            Action::Put => f.write_str("put object"),
            Action::BeginUpload => f.write_str("begin the upload of object"),
            Action::PutPart(number) => write!(f, "put part {number} of object"),
            Action::CompleteUpload => f.write_str("complete the upload of object"),
            Action::AbortUpload => f.write_str("abort the upload of object"),
            Action::AbortUploads => f.write_str("abort the unfinished uploads below"),
            Action::Delete => f.write_str("delete object"),
            Action::List => f.write_str("list objects below"),
        }
    }
}

impl Action {
    /// Whether it stores something.
    pub(super) fn writes(self) -> bool {
        matches!(
            self,
            Action::Put | Action::BeginUpload | Action::PutPart(_) | Action::CompleteUpload
        )
    }

    /// The permission that it needs, and on what.
    pub(super) fn permission(self, bucket: &str) -> String {
        match self {
            Action::Head | Action::Get => {
                format!("to get objects of the bucket \"{bucket}\" (s3:GetObject)")
            }
            Action::Put | Action::BeginUpload | Action::PutPart(_) | Action::CompleteUpload => {
                format!("to put objects into the bucket \"{bucket}\" (s3:PutObject)")
            }
            Action::AbortUpload => {
                format!("to abort uploads to the bucket \"{bucket}\" (s3:AbortMultipartUpload)")
            }
            Action::AbortUploads => format!(
                "to list and to abort uploads to the bucket \"{bucket}\" \
                 (s3:ListBucketMultipartUploads, s3:AbortMultipartUpload)"
            ),
            Action::Delete => {
                format!("to delete objects of the bucket \"{bucket}\" (s3:DeleteObject)")
            }
            Action::List => format!("to list the bucket \"{bucket}\" (s3:ListBucket)"),
        }
    }
}
