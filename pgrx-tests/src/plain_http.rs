//! HTTP for an S3 client that was not written here.
//!
//! The SDK's own client speaks HTTP/2, which wal_e does not need: with it, cargo would build all
//! below the SDK a second time for the tests, and test what is not shipped.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect;
use hyper_util::rt::TokioExecutor;

#[derive(Debug)]
struct PlainHttp(Client<connect::HttpConnector, SdkBody>);

impl HttpConnector for PlainHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = request.try_into_http1x().expect("the SDK makes sound requests");
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// A client for `http://` without proxies, limits of time and TLS.
pub fn client() -> SharedHttpClient {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let connector = SharedHttpConnector::new(PlainHttp(client));
    http_client_fn(move |_, _| connector.clone())
}
