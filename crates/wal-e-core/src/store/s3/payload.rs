//! The content of an upload on its way: checksum, signature, and a watch that
//! it moves.
//!
//! The SDK has no limit for an upload that stands still, and one for the whole
//! of it would have to know how fast the line is. So the content is handed out
//! in small pieces, and an upload fails when none is asked for a while.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sigv4::http_request::SignableBody;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::checksum::{Checksum, Headers};
use super::errors::Failure;
use super::limits::Limits;
use crate::rate_limit::RateLimit;

/// How much is handed out at once: small enough to see a slow line move.
const PIECE_BYTES: usize = 64 * 1024;

/// The content of one upload or one part.
pub(super) struct Payload {
    content: Bytes,
    progress: Arc<Progress>,
    /// Counts the pieces of all uploads, without those that were sent in vain.
    activity: Arc<AtomicU64>,
    /// Pieces of this content.
    sent: Arc<AtomicU64>,
    rate_limit: Option<Arc<RateLimit>>,
    checksum: Checksum,
}

#[derive(Debug)]
struct Progress {
    began: Instant,
    /// Milliseconds from `began` to the last piece.
    moved_ms: AtomicU64,
    sending: AtomicBool,
    /// Whether a piece waits for the rate limit, and not for the server.
    held_back: AtomicBool,
}

impl Payload {
    /// `activity` counts the pieces of all uploads.
    pub(super) fn new(content: Bytes, checksum: Checksum, activity: &Arc<AtomicU64>) -> Payload {
        let progress = Progress {
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            sending: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
        };
        Payload {
            content,
            progress: Arc::new(progress),
            activity: Arc::clone(activity),
            sent: Arc::default(),
            rate_limit: None,
            checksum,
        }
    }

    /// Sent no faster than that.
    pub(super) fn limited_to(self, rate_limit: Option<Arc<RateLimit>>) -> Payload {
        Payload { rate_limit, ..self }
    }

    pub(super) fn length(&self) -> i64 {
        i64::try_from(self.content.len()).unwrap_or(i64::MAX)
    }

    /// The checksum, before the content: not every server understands one that follows it.
    pub(super) fn headers(&self) -> Headers {
        Headers::of(self.checksum, &self.content)
    }

    /// The content for one request.
    pub(super) fn stream(&self) -> ByteStream {
        // An earlier request may have ended while it was held back.
        self.progress.held_back(false);
        let pieces = Pieces {
            rest: self.content.clone(),
            progress: Arc::clone(&self.progress),
            activity: Arc::clone(&self.activity),
            sent: Arc::clone(&self.sent),
            rate_limit: self.rate_limit.clone(),
            allowance: None,
        };
        ByteStream::new(SdkBody::from_body_1_x(pieces))
    }

    /// Decides whether the content's hash goes into the signature.
    pub(super) fn signing(&self, hashed: bool) -> PayloadSigning {
        let hash = hashed.then(|| {
            Sha256::digest(&self.content).iter().map(|byte| format!("{byte:02x}")).collect()
        });
        PayloadSigning { hash }
    }

    /// Waits for the answer to an upload as long as it moves.
    pub(super) async fn watch<T, E>(
        &self,
        limits: Limits,
        upload: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = tokio::select! {
            biased;
            answer = upload => answer.map_err(|error| Failure::from_sdk(&error)),
            limit = self.progress.stands_still(limits) => Err(Failure::TooSlow(limit)),
        };
        if answer.is_err() {
            self.activity.fetch_sub(self.sent.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        answer
    }
}

impl Progress {
    /// The rate limit has, or has no longer, kept a piece waiting.
    fn held_back(&self, held_back: bool) {
        self.held_back.store(held_back, Ordering::Relaxed);
    }

    fn moved(&self, sending: bool) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
        self.sending.store(sending, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for too long, and says how long.
    async fn stands_still(&self, limits: Limits) -> Duration {
        loop {
            // Before the first piece there is a connection to make, and after
            // the last one the kernel still holds some of the content.
            let sending = self.sending.load(Ordering::Relaxed);
            let limit = if sending { limits.stall } else { limits.answer };
            if self.held_back.load(Ordering::Relaxed) {
                self.moved(sending);
            }
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let idle = self.began.elapsed().saturating_sub(moved);
            match limit.checked_sub(idle).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return limit,
            }
        }
    }
}

/// Hands the content out in pieces and notes when.
struct Pieces {
    rest: Bytes,
    progress: Arc<Progress>,
    activity: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    rate_limit: Option<Arc<RateLimit>>,
    /// How long the next piece may be, once the rate limit says it.
    allowance: Option<Allowance>,
}

type Allowance = Pin<Box<dyn Future<Output = usize> + Send + Sync>>;

impl Pieces {
    /// How long the next piece may be: at once, or once the rate limit allows it.
    fn poll_allowance(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let wanted = self.rest.len().min(PIECE_BYTES);
        let Some(rate_limit) = &self.rate_limit else { return Poll::Ready(wanted) };
        if self.allowance.is_none() && !rate_limit.is_in_force() {
            return Poll::Ready(wanted);
        }
        let rate_limit = Arc::clone(rate_limit);
        let allowance = self
            .allowance
            .get_or_insert_with(|| Box::pin(async move { rate_limit.take(wanted).await }));
        let polled = allowance.as_mut().poll(context);
        self.progress.held_back(polled.is_pending());
        if polled.is_ready() {
            self.allowance = None;
        }
        polled
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            self.progress.moved(false);
            return Poll::Ready(None);
        }
        let length = ready!(self.poll_allowance(context));
        let piece = self.rest.split_to(length);
        self.progress.moved(!self.rest.is_empty());
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// The SDK signs content that it holds in memory and leaves out what it does
/// not: here the hash is given, or the content is left out where a checksum protects it.
#[derive(Debug)]
pub(super) struct PayloadSigning {
    /// SHA-256 in hex.
    hash: Option<String>,
}

impl Intercept for PayloadSigning {
    fn name(&self) -> &'static str {
        "PayloadSigning"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut config = settings
            .load::<SigV4OperationSigningConfig>()
            .cloned()
            .ok_or("no settings for the signature")?;
        config.signing_options.payload_override = Some(match &self.hash {
            Some(hash) => SignableBody::Precomputed(hash.clone()),
            None => SignableBody::UnsignedPayload,
        });
        settings.interceptor_state().store_put(config);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn pieces_are_the_content_and_their_length_is_known() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let content: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
            let payload = Payload::new(content.clone(), Checksum::Crc32c, &Arc::default());
            assert_eq!(payload.length(), length as i64);
            for limited in [false, true] {
                let pieces = Pieces {
                    rest: payload.content.clone(),
                    progress: Arc::clone(&payload.progress),
                    activity: Arc::default(),
                    sent: Arc::default(),
                    rate_limit: limited.then(|| Arc::new(RateLimit::fixed(2_000_000))),
                    allowance: None,
                };
                assert_eq!(pieces.size_hint().exact(), Some(length as u64));
                assert!(pieces.collect().await.unwrap().to_bytes() == content);
                assert!(!payload.progress.sending.load(Ordering::Relaxed));
            }
        }
    }

    #[test]
    fn the_hash_of_the_content_is_signed_where_that_is_wanted() {
        let content = Bytes::from_static(b"abc");
        let payload = Payload::new(content, Checksum::Crc32c, &Arc::default());
        // SHA-256 of "abc" from FIPS 180.
        assert_eq!(
            payload.signing(true).hash.unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(payload.signing(false).hash, None);
    }
}
