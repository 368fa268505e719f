//! Finds out what the server can do, with small objects of wal_e's own.

use bytes::Bytes;

use super::abilities::{Carrier, Completion, Order, instead};
use super::checksum::Checksum;
use super::errors::{Action, Failure};
use super::multipart::S3Upload;
use super::{Bucket, S3Store};
use crate::config::Setting;
use crate::error::{Error, Result};
use crate::layout;
use crate::notice::Level;
use crate::store::{Ability, Attributes, MultipartUpload, PutMode, PutOutcome};

/// The content of the probe.
const CONTENT: &[u8] =
    b"The create-only upload of this object shows whether the store honours If-None-Match.\n";

const ONE_WRITER: &str = "Let only one server write to this prefix.";

impl Bucket {
    /// Whether `If-None-Match: *` is honoured; found out once.
    pub(super) async fn honours_create_only(&self) -> Result<bool, Failure> {
        if self.abilities.refuses_new() {
            return Ok(false);
        }
        let known = self.abilities.create_only.get_or_try_init(|| self.probe_create_only());
        // To wait for another's probe takes no longer than for one's own.
        let limit = self.limits.answer;
        match tokio::time::timeout(limit, known).await {
            Ok(known) => known.copied(),
            Err(_) => Err(Failure::TooSlow(limit)),
        }
    }

    /// Servers are known that overwrite in spite of `If-None-Match: *` (Garage),
    /// and some refuse the header.
    async fn probe_create_only(&self) -> Result<bool, Failure> {
        for _ in 0..2 {
            match self.put_probe().await? {
                Some(PutOutcome::AlreadyExists) => return Ok(true),
                Some(PutOutcome::Stored) => {}
                None => break,
            }
        }
        self.warn_of_no_create_only();
        Ok(false)
    }

    /// The server answers to `If-None-Match: *` that there is an object, also where there is
    /// none: from now on it is not asked for that.
    pub(super) fn note_refuses_new(&self) {
        if self.abilities.note_refuses_new() {
            self.warn_of_no_create_only();
        }
    }

    fn warn_of_no_create_only(&self) {
        self.notices.send(
            Level::Warning,
            format!("the store of \"{}\" does not honour create-only uploads", self.url("")),
            Some(
                "wal_e looks for an object before it uploads one, but two writers at the same \
                 moment could overwrite one another: let only one server write to this prefix."
                    .to_owned(),
            ),
        );
    }

    /// Puts the probe, create-only; `None` where the server refuses to be asked for that. It
    /// counts as refused only when the same upload goes through without it: what the server
    /// does not want may be the checksum.
    async fn put_probe(&self) -> Result<Option<PutOutcome>, Failure> {
        let checksum = self.abilities.checksum(Carrier::Object);
        let put = |create_only, checksum| self.put_probe_once(create_only, checksum);
        let refusal = match put(true, checksum).await {
            Ok(outcome) => {
                self.abilities.accepted(Carrier::Object, checksum);
                return Ok(Some(outcome));
            }
            Err(failure) if failure.may_be_for_a_header() => failure,
            Err(failure) => return Err(failure),
        };
        match put(false, checksum).await {
            Ok(_) => {
                self.abilities.accepted(Carrier::Object, checksum);
                return Ok(None);
            }
            Err(failure) if failure.may_be_for_a_header() => {}
            Err(failure) => return Err(failure),
        }
        let others = |create_only| {
            self.abilities
                .with_checksum(Carrier::Object, move |checksum| put(create_only, checksum))
        };
        match others(true).await {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(failure) if failure.may_be_for_a_header() => {}
            Err(failure) => return Err(failure),
        }
        match others(false).await {
            Ok(_) => Ok(None),
            Err(failure) if failure.may_be_for_a_header() => Err(refusal),
            Err(failure) => Err(failure),
        }
    }

    async fn put_probe_once(
        &self,
        create_only: bool,
        checksum: Checksum,
    ) -> Result<PutOutcome, Failure> {
        let (key, content) = (layout::create_only_probe(), Bytes::from_static(CONTENT));
        self.put_object(&key, content, create_only, &Attributes::default(), checksum).await
    }

    /// How the server answers for an object that is not there.
    async fn missing_object(&self) -> Ability {
        const NAME: &str = "missing_objects";
        let key = layout::check_object(fastrand::u64(..));
        match self.head(&key).await {
            Err(error) => of_error(NAME, &error),
            Ok(_) if self.abilities.hides_missing() => Ability::used(
                NAME,
                "the server answers 403 for an object that is not there; its name is listed \
                 instead, which is one request more",
            ),
            Ok(_) => Ability::used(NAME, "the server says which objects are not there"),
        }
    }

    fn checksum_ability(&self) -> Ability {
        const NAME: &str = "upload_checksum";
        let checksum = self.abilities.checksum(Carrier::Object);
        Ability::used(
            NAME,
            match checksum {
                Checksum::Crc32c if self.abilities.compares(checksum) => {
                    format!("{} is sent with each upload, and confirmed", checksum.header())
                }
                Checksum::Crc32c => format!(
                    "{} is sent with each upload, but the server does not confirm it; the SHA-256 \
                     that is signed protects the content",
                    checksum.header()
                ),
                other => {
                    format!("the server refuses {}; {}", Checksum::Crc32c.header(), instead(other))
                }
            },
        )
    }

    fn order_ability(&self) -> Ability {
        const NAME: &str = "listing_order";
        Ability::used(
            NAME,
            match self.abilities.order() {
                Order::Ordered => "listings come in order",
                Order::NotKnown => "listings come in one page, which is sorted here",
                Order::Unordered => {
                    "listings come in no order; each is read to its end and sorted here"
                }
            },
        )
    }

    fn address_ability(&self) -> Ability {
        const NAME: &str = "server_address";
        let place = self.place();
        let server = place.endpoint.as_deref().unwrap_or("Amazon S3");
        let style = match place.path_style {
            true => "in the path",
            false => "in the host name",
        };
        let at = format!("{server}, with the bucket {style}");
        match place.region == self.first_place.region {
            true => Ability::used(NAME, format!("{at}, signed for region \"{}\"", place.region)),
            false => Ability {
                name: NAME,
                ok: None,
                detail: format!(
                    "{at}, signed for region \"{}\" because the server says that the bucket is \
                     there and not in \"{}\"",
                    place.region, self.first_place.region
                ),
                hint: Some(format!("Set {} to \"{}\".", Setting::S3Region, place.region)),
            },
        }
    }
}

impl S3Store {
    /// What the server can do, and what is used where it cannot. Uploads the probe in parts.
    pub(super) async fn find_abilities(&self) -> Vec<Ability> {
        let bucket = &self.bucket;
        let multipart = self.multipart_ability().await;
        let missing = bucket.missing_object().await;
        vec![
            bucket.checksum_ability(),
            multipart,
            missing,
            bucket.order_ability(),
            bucket.address_ability(),
        ]
    }

    async fn multipart_ability(&self) -> Ability {
        const NAME: &str = "multipart";
        if let Err(error) = self.probe_multipart().await {
            return of_error(NAME, &error);
        }
        let abilities = &self.bucket.abilities;
        let object = abilities.checksum(Carrier::Object);
        let part = abilities.checksum(Carrier::Part);
        let works = match part == object {
            true => "uploads in parts work".to_owned(),
            false => {
                format!("uploads in parts work, where {}", instead(part))
            }
        };
        match abilities.completion() {
            Completion::Honoured => Ability::used(NAME, format!("{works}, and replace no object")),
            // The row for create-only uploads says what that means.
            Completion::Asked => Ability::used(NAME, works),
            Completion::Ignored | Completion::Refused => Ability {
                name: NAME,
                ok: None,
                detail: format!(
                    "{works}; at their end the server does not honour If-None-Match, so wal_e \
                     looks for the object before"
                ),
                hint: Some(ONE_WRITER.to_owned()),
            },
        }
    }

    /// Uploads the probe in parts, where it is already, and finds out whether it would be
    /// replaced.
    async fn probe_multipart(&self) -> Result<()> {
        let bucket = &self.bucket;
        let key = layout::create_only_probe();
        let failed = |failure| bucket.error(failure, Action::CompleteUpload, &key);
        let honours = bucket.honours_create_only().await.map_err(failed)?;
        let attributes = Attributes::default();
        let upload =
            S3Upload::begin(std::sync::Arc::clone(bucket), &key, PutMode::Replace, &attributes)
                .await?;
        let probed = self.complete_probe(&upload, honours).await;
        if !matches!(probed, Ok(PutOutcome::Stored)) {
            upload.abort().await?;
        }
        probed.map(|_| ())
    }

    async fn complete_probe(&self, upload: &S3Upload, honours: bool) -> Result<PutOutcome> {
        let abilities = &self.bucket.abilities;
        upload.put_part(1, 0, Bytes::from_static(CONTENT)).await?;
        if !honours {
            return upload.complete().await;
        }
        match upload.complete_once(true).await? {
            Ok(PutOutcome::AlreadyExists) => {
                abilities.note_completion(Completion::Honoured);
                Ok(PutOutcome::AlreadyExists)
            }
            Ok(PutOutcome::Stored) => {
                abilities.note_completion(Completion::Ignored);
                Ok(PutOutcome::Stored)
            }
            Err(failure) if failure.may_be_for_a_header() => {
                let stored = upload.complete().await?;
                abilities.note_completion(Completion::Refused);
                Ok(stored)
            }
            Err(failure) => Err(self.bucket.error(
                failure,
                Action::CompleteUpload,
                &layout::create_only_probe(),
            )),
        }
    }
}

fn of_error(name: &'static str, error: &Error) -> Ability {
    Ability {
        name,
        ok: Some(false),
        detail: error.message_and_detail(),
        hint: error.hint().map(str::to_owned),
    }
}
