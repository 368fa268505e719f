use std::cell::RefCell;

use super::*;
use crate::notice::{self, NoticeQueue};
use crate::store::s3::errors::Answer;

fn abilities() -> (Abilities, NoticeQueue) {
    let (notices, queue) = notice::channel();
    (Abilities::new("s3://bucket/path/".to_owned(), notices), queue)
}

fn refusal(status: u16, code: &str, message: &str) -> Failure {
    let (code, message) = (Some(code.to_owned()), Some(message.to_owned()));
    Failure::Answered(Answer { status, code, message, ..Answer::default() })
}

/// What is sent to a server that takes only some checksums, and what becomes of it.
async fn send(
    abilities: &Abilities,
    carrier: Carrier,
    taken: &[Checksum],
    failure: &Failure,
) -> (Vec<Checksum>, Result<(), Failure>) {
    let sent = RefCell::new(Vec::new());
    let outcome = abilities
        .with_checksum(carrier, |checksum| {
            sent.borrow_mut().push(checksum);
            let outcome = match taken.contains(&checksum) {
                true => Ok(()),
                false => Err(failure.clone()),
            };
            std::future::ready(outcome)
        })
        .await;
    (sent.into_inner(), outcome)
}

#[tokio::test]
async fn what_one_server_refuses_is_sent_in_the_next_form_and_remembered() {
    use Checksum::{Crc32, Crc32c, Md5, Sha256, Signature};
    for (status, code, message) in [
        (400, "InvalidArgument", "Unsupported header 'x-amz-checksum' received for this API call."),
        (501, "NotImplemented", "Header 'x-amz-checksum-crc32c' not implemented"),
        (400, "InvalidRequest", "Missing required header for this request: Content-MD5"),
        (400, "MissingContentMD5", "Content-MD5 is required"),
        (400, "XNotImplemented", "A header you provided implies functionality"),
        (400, "UnsupportedHeader", "No."),
    ] {
        let failure = refusal(status, code, message);
        for (taken, tried) in [
            (Crc32c, vec![Crc32c]),
            (Md5, vec![Crc32c, Md5]),
            (Crc32, vec![Crc32c, Md5, Crc32]),
            (Sha256, vec![Crc32c, Md5, Crc32, Sha256]),
            (Signature, vec![Crc32c, Md5, Crc32, Sha256, Signature]),
        ] {
            let (abilities, queue) = abilities();
            let (sent, outcome) = send(&abilities, Carrier::Object, &[taken], &failure).await;
            assert_eq!((sent, outcome), (tried, Ok(())), "{failure:?}");
            let (sent, outcome) = send(&abilities, Carrier::Object, &[taken], &failure).await;
            assert_eq!((sent, outcome), (vec![taken], Ok(())), "{failure:?}");
            // Uploads in parts begin with what is known of objects.
            let (sent, outcome) = send(&abilities, Carrier::Announcement, &[taken], &failure).await;
            assert_eq!((sent, outcome), (vec![taken], Ok(())), "{failure:?}");
            let said = queue.drain();
            assert_eq!(said.len(), usize::from(taken != Crc32c), "{said:?}");
        }
    }
}

#[tokio::test]
async fn the_change_is_said_once() {
    let (abilities, queue) = abilities();
    let failure = refusal(501, "NotImplemented", "x-amz-checksum-crc32c");
    for _ in 0..2 {
        let (_, outcome) = send(&abilities, Carrier::Object, &[Checksum::Md5], &failure).await;
        assert_eq!(outcome, Ok(()));
    }
    let said: Vec<String> = queue.drain().into_iter().map(|notice| notice.message).collect();
    assert_eq!(
        said,
        ["the server of \"s3://bucket/path/\" refuses x-amz-checksum-crc32c with an object: \
             Content-MD5 is sent instead"]
    );
}

#[tokio::test]
async fn parts_may_be_refused_what_objects_are_not() {
    let (abilities, _queue) = abilities();
    let failure = refusal(400, "InvalidArgument", "no checksum");
    let all = Checksum::ALL;
    for carrier in [Carrier::Object, Carrier::Announcement] {
        let (sent, _) = send(&abilities, carrier, &all, &failure).await;
        assert_eq!(sent, [Checksum::Crc32c]);
    }
    let (sent, outcome) = send(&abilities, Carrier::Part, &[Checksum::Md5], &failure).await;
    assert_eq!((sent.len(), outcome), (2, Ok(())));
    assert_eq!(abilities.checksum(Carrier::Object), Checksum::Crc32c);
    // What comes with parts is what the next upload announces.
    assert_eq!(abilities.checksum(Carrier::Announcement), Checksum::Md5);
}

#[tokio::test]
async fn what_has_another_reason_is_not_sent_again() {
    for (status, code, message) in [
        (403, "AccessDenied", "Access Denied"),
        (403, "QuotaExceeded", "Bucket quota exceeded"),
        (400, "ExpiredToken", "It has expired."),
        (400, "BadDigest", "The checksum did not match."),
        (400, "InvalidStorageClass", "No such class."),
        (400, "KMS.NotFoundException", "No such key."),
        (400, "EntityTooLarge", "Too large."),
        (400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'"),
        (503, "SlowDown", "Slow down."),
        (500, "InternalError", "Oops."),
        (404, "NoSuchBucket", "None."),
    ] {
        let (abilities, _queue) = abilities();
        let failure = refusal(status, code, message);
        let (sent, outcome) = send(&abilities, Carrier::Object, &[], &failure).await;
        assert_eq!((sent, outcome), (vec![Checksum::Crc32c], Err(failure)));
    }
}

#[tokio::test]
async fn a_checksum_that_went_through_is_only_given_up_when_the_server_names_it() {
    let (abilities, _queue) = abilities();
    let other = refusal(400, "InvalidArgument", "x-amz-meta-thing");
    let (_, outcome) = send(&abilities, Carrier::Object, &Checksum::ALL, &other).await;
    assert_eq!(outcome, Ok(()));
    let (sent, outcome) = send(&abilities, Carrier::Object, &[Checksum::Md5], &other).await;
    assert_eq!((sent, outcome), (vec![Checksum::Crc32c], Err(other)));
    let named = refusal(400, "InvalidArgument", "Unsupported header x-amz-checksum-crc32c");
    let (_, outcome) = send(&abilities, Carrier::Object, &[Checksum::Md5], &named).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn when_nothing_goes_through_the_first_refusal_is_told() {
    let (abilities, queue) = abilities();
    let failure = refusal(400, "InvalidRequest", "Something else.");
    let (sent, outcome) = send(&abilities, Carrier::Object, &[], &failure).await;
    assert_eq!((sent, outcome), (Checksum::ALL.to_vec(), Err(failure)));
    assert_eq!(abilities.checksum(Carrier::Object), Checksum::Crc32c);
    assert_eq!(queue.drain(), []);
}

#[test]
fn only_a_checksum_that_the_server_answers_with_counts_as_compared() {
    let (abilities, _queue) = abilities();
    assert!(abilities.compares(Checksum::Md5));
    assert!(!abilities.compares(Checksum::Crc32c));
    abilities.note_answer(Checksum::Crc32c, [Some("yZRlqg=="), None, None]);
    assert!(abilities.compares(Checksum::Crc32c));
    // An upload without such a checksum says nothing of it.
    abilities.note_answer(Checksum::Md5, [None, None, None]);
    assert!(abilities.compares(Checksum::Crc32c));
    assert!(!abilities.compares(Checksum::Signature));
    abilities.note_answer(Checksum::Crc32c, [None, None, None]);
    assert!(!abilities.compares(Checksum::Crc32c));
}
