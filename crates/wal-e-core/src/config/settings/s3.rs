//! How S3 is reached, and how objects are stored there.

use super::{Description, Number, TEXT_OF_SERVER, Unit, Value, option};

pub(super) const AWS_ACCESS_KEY_ID: Description = Description {
    name: "aws_access_key_id",
    purpose: "Access key; its secret is AWS_SECRET_ACCESS_KEY in the environment or in --env-dir",
    remarks: "Its short form is `-k`. The variables of keys are under [Keys](#keys).",
    value: Value::Text { empty: "the keys of the environment or of `--env-dir`" },
    guc: None,
    option: option("aws-access-key-id", "ID", ""),
    ..TEXT_OF_SERVER
};

pub(super) const S3_ENDPOINT: Description = Description {
    name: "s3_endpoint",
    purpose: "URL of an S3 server that is not AWS",
    note: "\"https://host:port\".",
    remarks: "WAL-E's form, such as `https+path://host:port`, also says where the bucket is named. \
              `host:port` alone means `https`.",
    value: Value::Text { empty: "AWS" },
    option: option("s3-endpoint", "URL", "https://HOST:PORT"),
    variables: &["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_REGION: Description = Description {
    name: "s3_region",
    purpose: "Region of the bucket",
    value: Value::Text { empty: "the region of the environment, or us-east-1 with an endpoint" },
    option: option("s3-region", "REGION", ""),
    variables: &["AWS_REGION", "AWS_DEFAULT_REGION"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_FORCE_PATH_STYLE: Description = Description {
    name: "s3_force_path_style",
    purpose: "Whether the bucket is in the path of a request instead of the host name",
    note: "\"auto\" means: yes when an endpoint is set.",
    remarks: "An option or variable is `true` or `false`; without one it is `auto`. The option alone \
              means `true`.",
    value: Value::Choice { words: &["auto", "on", "off"], default: "auto" },
    option: Some(super::Flag {
        name: "s3-force-path-style",
        placeholder: "BOOL",
        form: "",
        commands: &[],
        value: Some(Value::Choice { words: &["auto", "true", "false"], default: "auto" }),
    }),
    variables: &["AWS_S3_FORCE_PATH_STYLE"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_CA_FILE: Description = Description {
    name: "s3_ca_file",
    purpose: "PEM file of the authorities that may sign the S3 server's certificate",
    remarks: "A certificate of the server that stands in it itself is trusted however it was made, \
              while it has not expired and is for the server's name.",
    value: Value::Text { empty: "those that the system trusts" },
    option: option("s3-ca-file", "FILE", ""),
    variables: &["S3_CA_CERT_FILE", "AWS_CA_BUNDLE"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_PROXY: Description = Description {
    name: "s3_proxy",
    purpose: "HTTP proxy on the way to S3",
    note: "\"http://host:port\", or \"none\".",
    remarks: "When it is empty, the variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the \
              environment and of `env_dir` count, in lower case before upper case; what it says \
              counts for all requests. A proxy with a password belongs into `HTTPS_PROXY` in \
              `env_dir`. See [proxies](stores.md#proxies).",
    value: Value::Text { empty: "the proxy of HTTPS_PROXY, HTTP_PROXY and NO_PROXY" },
    option: option("s3-proxy", "URL", "http://HOST:PORT, or none"),
    ..TEXT_OF_SERVER
};

pub(super) const S3_STORAGE_CLASS: Description = Description {
    name: "s3_storage_class",
    purpose: "S3 storage class of new objects",
    remarks: "`STANDARD_IA` and others, but not the archive classes that need a restore request \
              before objects can be read.",
    value: Value::Text { empty: "the bucket's default" },
    option: option("s3-storage-class", "CLASS", ""),
    variables: &["S3_STORAGE_CLASS"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_SSE: Description = Description {
    name: "s3_sse",
    purpose: "Server-side encryption of new objects",
    note: "\"AES256\", \"aws:kms\" or \"aws:kms:dsse\".",
    value: Value::Text { empty: "the bucket's default" },
    option: option("s3-sse", "METHOD", "AES256, aws:kms or aws:kms:dsse"),
    variables: &["S3_SSE"],
    ..TEXT_OF_SERVER
};

pub(super) const S3_SSE_KMS_KEY_ID: Description = Description {
    name: "s3_sse_kms_key_id",
    purpose: "Key for server-side encryption with \"aws:kms\"",
    value: Value::Text { empty: "the account's default key" },
    option: option("s3-sse-kms-key-id", "KEY", ""),
    variables: &["S3_SSE_KMS_ID"],
    ..TEXT_OF_SERVER
};

/// Long enough for a slow line, short enough that a request that stalls is tried
/// again before anyone misses it.
pub(super) const S3_TIMEOUT: Description = Description {
    name: "s3_timeout",
    purpose: "How long an S3 request may stall before it counts as failed",
    note: "An answer may take twice as long, and the completion of a multipart upload ten times.",
    remarks: "In the server the default counts as not set: a variable in `wal_e.env_dir` is used \
              then.",
    value: Value::Number(Number { unit: Unit::Seconds, low: 1, high: 3600, default: Some(30) }),
    option: option("s3-timeout", "SECONDS", ""),
    variables: &["S3_TIMEOUT"],
    ..TEXT_OF_SERVER
};
