//! The services that hand out keys.

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;

/// How the services are reached that hand out keys.
#[derive(Debug, Clone)]
pub(in crate::store::s3) struct Services {
    /// Those of a region.
    pub(in crate::store::s3) through_proxies: SharedHttpClient,
    /// Those of this machine or container.
    pub(in crate::store::s3) direct: SharedHttpClient,
    /// The one next to a container, with limits of time.
    pub(in crate::store::s3) container: SharedHttpConnector,
}
