//! What a failure may mean.

use super::hints::verdict;
use super::{Action, Answer, Failure, Listing, Place, cause};
use crate::error::ErrorKind;

impl Failure {
    /// There is no object of that name (and it is not the bucket that lacks).
    pub(in crate::store::s3) fn is_missing_object(&self) -> bool {
        self.status() == Some(404) && matches!(self.code(), None | Some("NoSuchKey" | "NotFound"))
    }

    /// The multipart upload has ended or never was.
    pub(in crate::store::s3) fn is_missing_upload(&self) -> bool {
        self.code() == Some("NoSuchUpload")
            || (self.status() == Some(404) && !self.is_missing_bucket())
    }

    /// A condition of the request did not hold.
    pub(in crate::store::s3) fn is_precondition(&self) -> bool {
        self.status() == Some(412) || self.code() == Some("PreconditionFailed")
    }

    /// The server says that there is no such object, and it is S3 itself that says so: a page
    /// of a proxy has no code.
    pub(in crate::store::s3) fn is_surely_missing_object(&self) -> bool {
        self.is_missing_object() && self.code().is_some()
    }

    /// There may be no object of that name, in words that are not S3's.
    pub(in crate::store::s3) fn may_mean_absence(&self) -> bool {
        self.status() == Some(404) && !self.is_missing_bucket()
    }

    /// The request was refused, and a listing showed the object.
    pub(in crate::store::s3) fn shows_object(&self) -> bool {
        matches!(self, Failure::Answered(Answer { listing: Listing::Shows, .. }))
    }

    /// The server does not answer requests of this kind.
    pub(in crate::store::s3) fn is_unknown_method(&self) -> bool {
        matches!(self.status(), Some(405 | 501))
    }

    /// It may be that the server does not know, or does not want, a header of the request:
    /// the same request with another one may go through.
    pub(in crate::store::s3) fn may_be_for_a_header(&self) -> bool {
        let Failure::Answered(answer) = self else { return false };
        // A proxy that takes a header away makes the signature wrong.
        if self.code() == Some("SignatureDoesNotMatch") {
            return true;
        }
        matches!(answer.status, 400 | 405 | 411 | 415 | 417 | 422 | 428 | 501)
            && cause::cause(answer).is_none()
    }

    /// It may be that the server wants the hash of the content in the signature. The policy of
    /// a bucket says no more than that access is denied.
    pub(in crate::store::s3) fn may_be_for_the_signature(&self) -> bool {
        self.may_be_for_a_header() || self.may_hide_absence()
    }

    /// It may be that the server does not know requests of this kind, or refuses what they
    /// cannot do without.
    pub(in crate::store::s3) fn may_be_for_a_request(&self) -> bool {
        self.may_be_for_a_header()
            || matches!(self.status(), Some(404)) && !self.is_missing_bucket()
    }

    fn is_missing_bucket(&self) -> bool {
        self.code() == Some("NoSuchBucket")
    }

    /// The server says that it is about the checksum of the content.
    pub(in crate::store::s3) fn names_checksum(&self) -> bool {
        let Failure::Answered(answer) = self else { return false };
        let said = [&answer.code, &answer.message].into_iter().flatten();
        said.into_iter().any(|text| {
            let text = text.to_ascii_lowercase();
            ["checksum", "md5", "crc"].iter().any(|word| text.contains(word))
        })
    }

    /// The request was refused as those for objects that are not there are by servers that
    /// keep that to themselves.
    pub(in crate::store::s3) fn may_hide_absence(&self) -> bool {
        let Failure::Answered(answer) = self else { return false };
        answer.status == 403 && cause::cause(answer).is_none()
    }

    /// The answer has no room for a reason, as those to HEAD.
    pub(in crate::store::s3) fn is_without_reason(&self) -> bool {
        let Failure::Answered(answer) = self else { return false };
        answer.code.is_none() && matches!(answer.status, 301 | 307 | 400 | 403)
    }

    /// Whether the server answered at all.
    pub(in crate::store::s3) fn is_answer(&self) -> bool {
        matches!(self, Failure::Answered(_))
    }

    /// Whether the same request may succeed later.
    pub(in crate::store::s3) fn may_pass(&self, place: &Place) -> bool {
        let kind = verdict(self, place, Action::List).kind;
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled)
    }

    /// With what a listing showed.
    pub(in crate::store::s3) fn with_listing(self, listing: Listing) -> Failure {
        match self {
            Failure::Answered(answer) => Failure::Answered(Answer { listing, ..answer }),
            other => other,
        }
    }

    /// The range asked for begins at the end or after it.
    pub(in crate::store::s3) fn is_invalid_range(&self) -> bool {
        self.status() == Some(416) || self.code() == Some("InvalidRange")
    }
}
