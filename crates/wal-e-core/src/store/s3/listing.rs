//! Lists of objects, in the order of the keys' bytes whatever the server does.
//!
//! Those who read a listing rely on its order: they stop where the names they look for end.
//! Most servers list in order, some do not: directories on disk come as the file system has
//! them, and servers of several shards list one after the other. A page is sorted here in
//! any case. The first listing of more than one page shows whether its pages follow each
//! other; on a server where they do not, a listing is read to its end and sorted.

use aws_sdk_s3::Client;

use super::Bucket;
use super::abilities::Order;
use super::causes::chain;
use super::errors::{Action, Answer, Failure};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectKey;
use crate::store::{Attributes, ListPage, ListRequest, ObjectInfo};

mod answer;

use answer::TakeAnswer;

/// Pages that are asked for at the same time.
pub(super) const PAGES_AT_ONCE: usize = 32;

/// A page as the server gave it.
struct Page {
    objects: Vec<ObjectInfo>,
    next: Option<String>,
}

/// A page of a listing.
pub(super) async fn list(
    bucket: &Bucket,
    request: &ListRequest,
    page: Option<String>,
) -> Result<ListPage> {
    let failed = |failure| error(bucket, request, failure);
    let place = page.as_deref().map(Place::read);
    let token = place.as_ref().map(|place| place.token.clone());
    if place.is_none() && bucket.abilities.order() == Order::Unordered {
        return read_all(bucket, request).await.map_err(failed);
    }
    let first = fetch(bucket, request, token).await.map_err(failed)?;
    let last_before = place.and_then(|place| place.last_key);
    let mut objects = first.objects;
    let is_sorted = objects.is_sorted_by(|a, b| a.key <= b.key);
    let follows = match (&last_before, objects.first()) {
        // Some repeat the last of a page at the beginning of the next.
        (Some(last), Some(object)) => object.key.as_str() >= last.as_str(),
        _ => true,
    };
    let is_one_of_many = last_before.is_some() || first.next.is_some();
    let mut ordered = is_sorted && follows;
    if ordered && let (Order::NotKnown, Some(next)) = (bucket.abilities.order(), &first.next) {
        let second = fetch(bucket, request, Some(next.clone())).await.map_err(failed)?;
        ordered = second.objects.is_sorted_by(|a, b| a.key <= b.key)
            && !matches!(
                (objects.last(), second.objects.first()),
                (Some(last), Some(first)) if first.key < last.key
            );
        if ordered && !objects.is_empty() && !second.objects.is_empty() {
            bucket.abilities.note_order(Order::Ordered);
        }
    }
    if !ordered && is_one_of_many {
        bucket.abilities.note_order(Order::Unordered);
        if last_before.is_some() {
            // What came before was taken for the beginning of a list in order.
            return Err(out_of_order(bucket, request));
        }
        return read_all(bucket, request).await.map_err(failed);
    }
    in_order(&mut objects);
    if let Some(last) = &last_before {
        objects.retain(|object| object.key.as_str() > last.as_str());
    }
    let last_key = objects.last().map(|object| object.key.to_string()).or(last_before);
    let next = first.next.map(|token| Place { last_key, token }.write());
    Ok(ListPage { objects, next })
}

/// The whole listing as one page.
async fn read_all(bucket: &Bucket, request: &ListRequest) -> Result<ListPage, Failure> {
    let mut objects = Vec::new();
    let mut token = None;
    loop {
        let page = fetch(bucket, request, token).await?;
        objects.extend(page.objects);
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    in_order(&mut objects);
    Ok(ListPage { objects, next: None })
}

fn in_order(objects: &mut Vec<ObjectInfo>) {
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects.dedup_by(|a, b| a.key == b.key);
}

/// One request.
async fn fetch(
    bucket: &Bucket,
    request: &ListRequest,
    token: Option<String>,
) -> Result<Page, Failure> {
    // A start before the first name with the prefix changes nothing, and Garage finds nothing
    // then in a listing with a delimiter.
    let start_after = request.start_after.as_ref().filter(|key| **key > request.prefix);
    let start_after = start_after.map(|key| format!("{}{key}", bucket.base));
    let prefix = format!("{}{}", bucket.base, request.prefix);
    let ask = async |client: Client| {
        let taken = TakeAnswer::default();
        let answer = client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(&prefix)
            .set_start_after(start_after.clone())
            .set_delimiter(request.shallow.then(|| "/".to_owned()))
            .set_continuation_token(token.clone())
            .customize()
            .interceptor(taken.clone())
            .send();
        answer.await.map_err(|error| Failure::from_sdk(&error))?;
        match taken.content().await {
            Ok(Some((response, content))) => {
                answer::read(&content).map_err(|error| Failure::unreadable(&response, &error))
            }
            Ok(None) => Err(Failure::NotUnderstood("it has no content".to_owned())),
            Err(error) => Err(Failure::NoConnection(chain(&*error))),
        }
    };
    let limit = bucket.limits.answer;
    let asked = bucket.attempt(|client| async {
        let answer = tokio::time::timeout(limit, ask(client)).await;
        answer.unwrap_or(Err(Failure::TooSlow(limit)))
    });
    let answer = asked.await?;
    let next = answer.next;
    // A listing that goes on where it was would never end.
    if answer.is_truncated && (next.is_none() || next == token) {
        return Err(Failure::NotUnderstood(
            "the listing goes on, but the server does not say where".to_owned(),
        ));
    }
    let objects = answer.entries.into_iter().filter_map(|entry| {
        // What has no key's form ("directory" objects, for one) is not ours.
        let key = ObjectKey::from_listing(entry.key.strip_prefix(&bucket.base)?)?;
        Some(ObjectInfo {
            key,
            size_bytes: entry.size_bytes,
            last_modified: entry.last_modified,
            etag: entry.etag,
            storage_class: entry.storage_class,
            attributes: Attributes::default(),
        })
    });
    // Servers without order know no beginning either.
    let is_after = |object: &ObjectInfo| {
        request.start_after.as_deref().is_none_or(|after| object.key.as_str() > after)
    };
    Ok(Page {
        objects: objects.filter(is_after).collect(),
        next: next.filter(|_| answer.is_truncated),
    })
}

fn error(bucket: &Bucket, request: &ListRequest, failure: Failure) -> Error {
    // A listing can be empty, but there is none that is not there: this must not be
    // taken for the answer that an object is missing.
    let failure = match failure {
        Failure::Answered(Answer { status, code: Some(code), .. })
            if matches!(code.as_str(), "NoSuchKey" | "NoSuchUpload" | "NotFound") =>
        {
            Failure::NotUnderstood(format!(
                "the request to list objects was answered {status} {code}, as if it were for one object"
            ))
        }
        failure => failure,
    };
    failure.into_error(Action::List, &bucket.url(&request.prefix), &bucket.place())
}

fn out_of_order(bucket: &Bucket, request: &ListRequest) -> Error {
    let url = bucket.url(&request.prefix);
    Error::new(ErrorKind::Conflict, format!("the list of objects below \"{url}\" is out of order"))
        .with_detail("A later page of it has names that belong on an earlier one.")
        .with_hint(
            "Try again: from now on this process reads each listing to its end and sorts it.",
        )
}

/// Where a listing goes on: the server's token, and the last key that was handed out.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    last_key: Option<String>,
    token: String,
}

impl Place {
    /// The length of the key, the key, and the token.
    fn write(&self) -> String {
        let last_key = self.last_key.as_deref().unwrap_or_default();
        format!("{}:{last_key}{}", last_key.len(), self.token)
    }

    fn read(page: &str) -> Place {
        let parts = || {
            let (length, rest) = page.split_once(':')?;
            rest.split_at_checked(length.parse().ok()?)
        };
        // Every page that is asked for comes from `write`.
        let (last_key, token) = parts().unwrap_or(("", page));
        let last_key = (!last_key.is_empty()).then(|| last_key.to_owned());
        Place { last_key, token: token.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for (last_key, token) in [
            (None, "token"),
            (Some("wal_005/x:1"), "12:token"),
            (Some("k"), ""),
            (Some("gr\u{f6}\u{df}e"), "t"),
        ] {
            let place = Place { last_key: last_key.map(str::to_owned), token: token.to_owned() };
            assert_eq!(Place::read(&place.write()), place);
        }
    }
}
