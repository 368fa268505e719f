//! Where backups and WAL are kept: options of every command. How they are compressed:
//! options of the commands that store something.

use std::path::PathBuf;

use clap::Args;
use wal_e_core::config::Setting;

use super::values::{placeholder, within};

/// Where backups and WAL are kept, and how to get there.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where backups and WAL are kept")]
pub struct StoreOptions {
    #[arg(
        long = Setting::S3Prefix.option(), help = Setting::S3Prefix.help(),
        value_name = placeholder(Setting::S3Prefix), global = true, conflicts_with = "file_prefix"
    )]
    pub s3_prefix: Option<String>,

    #[arg(
        long = Setting::FilePrefix.option(), help = Setting::FilePrefix.help(),
        value_name = placeholder(Setting::FilePrefix), global = true
    )]
    pub file_prefix: Option<String>,

    #[arg(
        long = Setting::AwsAccessKeyId.option(), help = Setting::AwsAccessKeyId.help(),
        value_name = placeholder(Setting::AwsAccessKeyId), global = true, short = 'k'
    )]
    pub aws_access_key_id: Option<String>,

    #[arg(
        long = Setting::EnvDir.option(), help = Setting::EnvDir.help(),
        value_name = placeholder(Setting::EnvDir), global = true
    )]
    pub env_dir: Option<PathBuf>,

    #[arg(
        long = Setting::S3Endpoint.option(), help = Setting::S3Endpoint.help(),
        value_name = placeholder(Setting::S3Endpoint), global = true
    )]
    pub s3_endpoint: Option<String>,

    #[arg(
        long = Setting::S3Region.option(), help = Setting::S3Region.help(),
        value_name = placeholder(Setting::S3Region), global = true
    )]
    pub s3_region: Option<String>,

    #[arg(
        long = Setting::S3ForcePathStyle.option(), help = Setting::S3ForcePathStyle.help(),
        value_name = placeholder(Setting::S3ForcePathStyle), global = true,
        num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub s3_force_path_style: Option<bool>,

    #[arg(
        long = Setting::S3CaFile.option(), help = Setting::S3CaFile.help(),
        value_name = placeholder(Setting::S3CaFile), global = true
    )]
    pub s3_ca_file: Option<PathBuf>,

    #[arg(
        long = Setting::S3Proxy.option(), help = Setting::S3Proxy.help(),
        value_name = placeholder(Setting::S3Proxy), global = true
    )]
    pub s3_proxy: Option<String>,

    #[arg(
        long = Setting::S3StorageClass.option(), help = Setting::S3StorageClass.help(),
        value_name = placeholder(Setting::S3StorageClass), global = true
    )]
    pub s3_storage_class: Option<String>,

    #[arg(
        long = Setting::S3Sse.option(), help = Setting::S3Sse.help(),
        value_name = placeholder(Setting::S3Sse), global = true
    )]
    pub s3_sse: Option<String>,

    #[arg(
        long = Setting::S3SseKmsKeyId.option(), help = Setting::S3SseKmsKeyId.help(),
        value_name = placeholder(Setting::S3SseKmsKeyId), global = true
    )]
    pub s3_sse_kms_key_id: Option<String>,

    #[arg(
        long = Setting::Encryption.option(), help = Setting::Encryption.help(),
        value_name = placeholder(Setting::Encryption), global = true
    )]
    pub encryption: Option<String>,

    #[arg(
        long = Setting::S3Timeout.option(), help = Setting::S3Timeout.help(),
        value_name = placeholder(Setting::S3Timeout), global = true,
        value_parser = within::<u64>(Setting::S3Timeout)
    )]
    pub s3_timeout: Option<u64>,
}

/// How new objects are compressed. The name of an object that is read says how it is.
#[derive(Debug, Clone, Default, Args)]
pub struct CompressionOptions {
    #[arg(
        long = Setting::Compression.option(), help = Setting::Compression.help(),
        value_name = placeholder(Setting::Compression)
    )]
    pub compression: Option<String>,

    #[arg(
        long = Setting::CompressionLevel.option(), help = Setting::CompressionLevel.help(),
        value_name = placeholder(Setting::CompressionLevel), allow_negative_numbers = true
    )]
    pub compression_level: Option<i32>,
}
