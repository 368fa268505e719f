//! What other servers do differently, as data: which requests they refuse, and with which
//! answer. A dialect is a constant of a few lines.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use s3s::HttpResponse;

/// The manners of one server.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// A name for messages of tests.
    pub name: &'static str,
    /// The first that fits a request answers it.
    pub rules: &'static [Rule],
    /// How it lists.
    pub listing: ListingOrder,
    /// Whether it stores what comes with a checksum without a look at that, nor a word about it.
    pub knows_no_checksum: bool,
}

impl Dialect {
    /// A server with no manners of its own.
    pub const PLAIN: Dialect = Dialect {
        name: "plain",
        rules: &[],
        listing: ListingOrder::ByName,
        knows_no_checksum: false,
    };
}

/// In which order objects are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingOrder {
    /// In the order of the names' bytes.
    ByName,
    /// As a hash of the names has it.
    None,
    /// One half of the names after the other, each in order.
    TwoShards,
    /// In order, and each page begins with the last name of the one before.
    Repeating,
}

/// Some requests, and how they are answered.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What they ask for.
    pub of: Of,
    /// What is the matter with them.
    pub when: When,
    /// How often, before it is over; `None` is for ever.
    pub times: Option<u32>,
    /// The status of the answer.
    pub status: u16,
    /// S3's word for it; empty for an answer without XML, which is the message alone.
    pub code: &'static str,
    /// The server's words.
    pub message: &'static str,
    /// Headers of the answer.
    pub headers: &'static [(&'static str, &'static str)],
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Anything.
    All,
    /// To store an object or a part.
    Content,
    /// To store an object in one request.
    Object,
    /// To store a part.
    Part,
    /// To begin an upload in parts.
    Begin,
    /// To complete an upload in parts.
    Complete,
    /// To store anything in any way.
    Write,
    /// An object, or what is known of it.
    Read,
    /// What is known of an object.
    Head,
    /// Names of objects.
    List,
    /// To delete several objects.
    DeleteMany,
    /// To delete anything.
    Delete,
}

/// What a request has or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Whatever it has.
    Always,
    /// A header of this name; one that ends with a hyphen is the beginning of names.
    Has(&'static str),
    /// No header of this name.
    Lacks(&'static str),
    /// No hash of the content in the signature.
    ContentIsUnsigned,
    /// A signature for another region than this.
    SignedForOtherThan(&'static str),
    /// What it asks for is not there.
    Missing,
    /// Of a listing: it is not of names below a path that ends so, with or without more.
    PrefixLacks(&'static str),
}

/// A rule that always holds.
pub const fn refuse(
    of: Of,
    when: When,
    status: u16,
    code: &'static str,
    message: &'static str,
) -> Rule {
    Rule { of, when, times: None, status, code, message, headers: &[] }
}

/// A dialect that is spoken, and how often each rule has been used.
#[derive(Debug)]
pub(super) struct Spoken {
    dialect: Mutex<Dialect>,
    used: [AtomicU32; MOST_RULES],
}

const MOST_RULES: usize = 8;

impl Default for Spoken {
    fn default() -> Self {
        Spoken { dialect: Mutex::new(Dialect::PLAIN), used: Default::default() }
    }
}

/// As much of a request as rules look at.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) key: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Spoken {
    pub(super) fn set(&self, dialect: Dialect) {
        assert!(dialect.rules.len() <= MOST_RULES, "{} has too many rules", dialect.name);
        *self.dialect.lock().expect("no panic while the dialect is locked") = dialect;
        for used in &self.used {
            used.store(0, Ordering::Relaxed);
        }
    }

    fn dialect(&self) -> Dialect {
        *self.dialect.lock().expect("no panic while the dialect is locked")
    }

    pub(super) fn knows_no_checksum(&self) -> bool {
        self.dialect().knows_no_checksum
    }

    pub(super) fn listing(&self) -> ListingOrder {
        self.dialect().listing
    }

    /// The answer to a request by a rule. `answered` is the status of what the server would
    /// answer, once it is known.
    pub(super) fn answer(
        &self,
        asked: &Asked<'_>,
        answered: Option<StatusCode>,
    ) -> Option<HttpResponse> {
        let dialect = self.dialect();
        let fits = |rule: &&(usize, &Rule)| rule.1.fits(asked, answered);
        let rules: Vec<(usize, &Rule)> = dialect.rules.iter().enumerate().collect();
        let (number, rule) = rules.iter().find(fits)?;
        let used = self.used[*number].fetch_add(1, Ordering::Relaxed);
        if rule.times.is_some_and(|times| used >= times) {
            return None;
        }
        Some(rule.response(asked.method == Method::HEAD))
    }
}

impl Rule {
    fn fits(&self, asked: &Asked<'_>, answered: Option<StatusCode>) -> bool {
        (self.when == When::Missing) == answered.is_some()
            && self.of.fits(asked)
            && self.when.fits(asked, answered)
    }

    fn response(&self, is_head: bool) -> HttpResponse {
        let body = match (is_head, self.code) {
            (true, _) => String::new(),
            (false, "") => self.message.to_owned(),
            (false, code) => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
                 <Message>{}</Message></Error>",
                self.message
            ),
        };
        let mut response = HttpResponse::new(s3s::Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a status of HTTP");
        for (name, value) in self.headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Of {
    fn fits(self, asked: &Asked<'_>) -> bool {
        let has =
            |name: &str| asked.query.split('&').any(|part| part.split('=').next() == Some(name));
        let is_object = !asked.key.is_empty();
        let puts = is_object && asked.method == Method::PUT;
        let posts = is_object && asked.method == Method::POST;
        match self {
            Of::All => true,
            Of::Content => puts,
            Of::Object => puts && !has("partNumber"),
            Of::Part => puts && has("partNumber"),
            Of::Begin => posts && has("uploads"),
            Of::Complete => posts && has("uploadId"),
            Of::Write => puts || posts,
            Of::Head => is_object && asked.method == Method::HEAD,
            Of::Read => is_object && matches!(*asked.method, Method::GET | Method::HEAD),
            Of::List => !is_object && asked.method == Method::GET && !has("uploads"),
            Of::DeleteMany => asked.method == Method::POST && has("delete"),
            Of::Delete => {
                is_object && asked.method == Method::DELETE && !has("uploadId")
                    || asked.method == Method::POST && has("delete")
            }
        }
    }
}

impl When {
    fn fits(self, asked: &Asked<'_>, answered: Option<StatusCode>) -> bool {
        let has = |wanted: &str| {
            asked.headers.keys().any(|name| match wanted.ends_with('-') {
                true => name.as_str().starts_with(wanted),
                false => name.as_str() == wanted,
            })
        };
        match self {
            When::Always => true,
            When::Has(name) => has(name),
            When::Lacks(name) => !has(name),
            When::ContentIsUnsigned => {
                asked.headers.get("x-amz-content-sha256").is_some_and(|it| it == "UNSIGNED-PAYLOAD")
            }
            When::SignedForOtherThan(region) => signed_region(asked.headers) != Some(region),
            When::Missing => answered == Some(StatusCode::NOT_FOUND),
            When::PrefixLacks(path) => {
                let prefix = asked.query.split('&').find_map(|part| part.strip_prefix("prefix="));
                !prefix.unwrap_or_default().replace("%2F", "/").contains(path)
            }
        }
    }
}

/// The region in `Credential=KEY/DAY/REGION/s3/aws4_request`.
fn signed_region(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(hyper::header::AUTHORIZATION)?.to_str().ok()?;
    authorization.split("Credential=").nth(1)?.split('/').nth(2)
}
