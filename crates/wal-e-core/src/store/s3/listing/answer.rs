//! The answer to a request to list objects, read here: the SDK takes several times as long for
//! it, and a listing of an old archive has a thousand pages.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};
use quick_xml::reader::Reader;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One object of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    pub(super) last_modified: OffsetDateTime,
    pub(super) etag: Option<String>,
    pub(super) storage_class: Option<String>,
}

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) entries: Vec<Entry>,
    pub(super) is_truncated: bool,
    pub(super) next: Option<String>,
}

/// What the SDK reads in place of an answer that is read here.
const EMPTY: &str = "<ListBucketResult/>";

/// Takes the answer to a request before the SDK reads it. Refusals are left to the SDK.
#[derive(Debug, Clone, Default)]
pub(super) struct TakeAnswer(Arc<Mutex<Option<HttpResponse>>>);

impl TakeAnswer {
    /// The answer that was taken, and its content.
    ///
    /// # Errors
    /// The content did not come to its end.
    pub(super) async fn content(&self) -> Result<Option<(HttpResponse, Bytes)>, BoxError> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut response) = taken else { return Ok(None) };
        let content = ByteStream::new(response.take_body()).collect().await?.into_bytes();
        Ok(Some((response, content)))
    }
}

impl Intercept for TakeAnswer {
    fn name(&self) -> &'static str {
        "TakeAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let empty = HttpResponse::new(response.status(), SdkBody::from(EMPTY));
            let taken = std::mem::replace(response, empty);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        }
        Ok(())
    }
}

/// An element whose text is wanted.
#[derive(Clone, Copy)]
enum Field {
    IsTruncated,
    Next,
    Key,
    LastModified,
    Etag,
    Size,
    StorageClass,
}

impl Field {
    fn of(depth: usize, in_contents: bool, name: &[u8]) -> Option<Field> {
        Some(match (depth, in_contents, name) {
            (1, false, b"IsTruncated") => Field::IsTruncated,
            (1, false, b"NextContinuationToken") => Field::Next,
            (2, true, b"Key") => Field::Key,
            (2, true, b"LastModified") => Field::LastModified,
            (2, true, b"ETag") => Field::Etag,
            (2, true, b"Size") => Field::Size,
            (2, true, b"StorageClass") => Field::StorageClass,
            _ => return None,
        })
    }
}

/// Reads the XML of an answer.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(content: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut reading = Reading::default();
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => reading.begin(start.local_name().as_ref())?,
            Event::End(_) => reading.end()?,
            Event::Text(text) if reading.field.is_some() => {
                reading.text.push_str(&text.decode().map_err(|error| error.to_string())?);
            }
            Event::CData(text) if reading.field.is_some() => {
                reading.text.push_str(&text.decode().map_err(|error| error.to_string())?);
            }
            Event::GeneralRef(name) if reading.field.is_some() => reading.refer(&name)?,
            Event::Eof if reading.is_complete => return Ok(reading.answer),
            Event::Eof => return Err("it ends within the list".to_owned()),
            _ => {}
        }
    }
}

/// A document that has been read so far.
#[derive(Default)]
struct Reading {
    answer: Answer,
    depth: usize,
    entry: Option<Begun>,
    field: Option<Field>,
    text: String,
    is_complete: bool,
}

/// An object of which not all is known.
#[derive(Default)]
struct Begun {
    key: Option<String>,
    size_bytes: Option<u64>,
    last_modified: Option<OffsetDateTime>,
    etag: Option<String>,
    storage_class: Option<String>,
}

impl Reading {
    fn begin(&mut self, name: &[u8]) -> Result<(), String> {
        match self.depth {
            0 if name != b"ListBucketResult" => {
                let name = String::from_utf8_lossy(name);
                return Err(format!("it begins with \"{name}\" and not with a list"));
            }
            1 if name == b"Contents" => self.entry = Some(Begun::default()),
            depth => self.field = Field::of(depth, self.entry.is_some(), name),
        }
        self.text.clear();
        self.depth += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.depth -= 1;
        if let Some(field) = self.field.take() {
            self.set(field)?;
        } else if self.depth == 1
            && let Some(entry) = self.entry.take()
        {
            self.answer.entries.push(Entry {
                key: entry.key.ok_or("an object has no name")?,
                size_bytes: entry.size_bytes.unwrap_or(0),
                last_modified: entry.last_modified.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                etag: entry.etag,
                storage_class: entry.storage_class,
            });
        }
        self.is_complete |= self.depth == 0;
        Ok(())
    }

    fn set(&mut self, field: Field) -> Result<(), String> {
        let text = std::mem::take(&mut self.text);
        let unreadable = |text: &str| format!("\"{text}\" is not what it should be");
        match (field, &mut self.entry) {
            (Field::IsTruncated, _) => self.answer.is_truncated = text == "true",
            (Field::Next, _) => self.answer.next = Some(text).filter(|text| !text.is_empty()),
            (Field::Key, Some(entry)) => entry.key = Some(text),
            (Field::Etag, Some(entry)) => entry.etag = Some(text),
            (Field::StorageClass, Some(entry)) => entry.storage_class = Some(text),
            (Field::Size, Some(entry)) => {
                let size = text.parse().map_err(|_| unreadable(&text))?;
                entry.size_bytes = Some(size);
            }
            (Field::LastModified, Some(entry)) => {
                let moment =
                    OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| unreadable(&text))?;
                entry.last_modified = Some(moment);
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Adds what a reference (`&amp;`, `&#10;`) stands for.
    fn refer(&mut self, reference: &BytesRef<'_>) -> Result<(), String> {
        if let Some(letter) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
            self.text.push(letter);
            return Ok(());
        }
        let name = reference.decode().map_err(|error| error.to_string())?;
        let meaning =
            resolve_xml_entity(&name).ok_or_else(|| format!("\"&{name};\" is unknown"))?;
        self.text.push_str(meaning);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::escape::escape;
    use time::macros::datetime;

    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>bucket</Name><Prefix>p/wal_005/</Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>
  <IsTruncated>true</IsTruncated>
  <Contents>
    <Key>p/wal_005/a&amp;b&#233;.lz4</Key><LastModified>2026-11-28T10:20:30.125Z</LastModified>
    <ETag>&quot;0123&quot;</ETag><ChecksumAlgorithm>CRC32C</ChecksumAlgorithm><Size>123</Size>
    <Owner><ID>x</ID><DisplayName>y</DisplayName><Key>not this</Key></Owner>
    <StorageClass>GLACIER</StorageClass>
    <RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>
  </Contents>
  <Contents><Key><![CDATA[p/<x>]]></Key><Size>0</Size></Contents>
  <CommonPrefixes><Prefix>p/wal_005/more/</Prefix></CommonPrefixes>
  <NextContinuationToken>1ue/+=</NextContinuationToken>
</ListBucketResult>"#;

    #[test]
    fn a_page_is_read_as_s3_writes_it() {
        let answer = read(PAGE.as_bytes()).unwrap();
        let first = Entry {
            key: "p/wal_005/a&b\u{e9}.lz4".to_owned(),
            size_bytes: 123,
            last_modified: datetime!(2026-11-28 10:20:30.125 UTC),
            etag: Some("\"0123\"".to_owned()),
            storage_class: Some("GLACIER".to_owned()),
        };
        let second = Entry {
            key: "p/<x>".to_owned(),
            size_bytes: 0,
            last_modified: OffsetDateTime::UNIX_EPOCH,
            etag: None,
            storage_class: None,
        };
        let entries = vec![first, second];
        assert_eq!(answer, Answer { entries, is_truncated: true, next: Some("1ue/+=".to_owned()) });
        let prefixed = "<s3:ListBucketResult xmlns:s3='x'><s3:IsTruncated>false</s3:IsTruncated>\
                        <s3:Contents><s3:Key>k</s3:Key></s3:Contents></s3:ListBucketResult>";
        assert_eq!(read(prefixed.as_bytes()).unwrap().entries[0].key, "k");
        assert_eq!(read(EMPTY.as_bytes()), Ok(Answer::default()));
    }

    #[test]
    fn what_is_no_whole_list_is_refused() {
        for length in 1..PAGE.len() {
            if PAGE.is_char_boundary(length) {
                assert!(read(&PAGE.as_bytes()[..length]).is_err(), "{}", &PAGE[..length]);
            }
        }
        for wrong in [
            "",
            "no XML",
            "<html></html>",
            "<ListBucketResult><Contents></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>&nbsp;</Key></Contents></ListBucketResult>",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(read(b"<ListBucketResult>\xff</ListBucketResult>").is_err());
    }

    proptest! {
        #[test]
        fn names_come_back_as_they_were(key in "[^\\x00-\\x1f\\x7f\u{fffe}\u{ffff}]{1,40}") {
            let page = format!(
                "<ListBucketResult><Contents><Key>{}</Key></Contents></ListBucketResult>",
                escape(&key)
            );
            prop_assert_eq!(&read(page.as_bytes()).unwrap().entries[0].key, &key);
        }

        #[test]
        fn nothing_makes_it_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&content);
            let page = [b"<ListBucketResult>".as_slice(), &content].concat();
            let _ = read(&page);
        }
    }
}
