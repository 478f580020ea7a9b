//! A gRPC service without generated code: its messages are plain text, and each method answers with
//! what it was sent.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::http;
use bytes::{Buf, BufMut};
use futures_util::{Stream, StreamExt, stream};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService},
};

use crate::app::released;

/// Plain text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// Waits for the test before it answers, so that a stop falls into the middle.
async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    let peer = request.remote_addr();
    println!("unary begins");
    released().await;
    Ok(Response::new(format!("{} from {peer:?}", request.into_inner())))
}

/// One message at once, the other when the test says so.
async fn server_stream(request: Request<String>) -> Result<Response<Texts>, Status> {
    let text = request.into_inner();
    let (first, second) = (format!("{text} 1"), format!("{text} 2"));
    let rest = stream::once(async {
        println!("server stream begins");
        released().await;
        Ok(second)
    });
    Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(rest))))
}

/// All that it was sent.
async fn client_stream(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    println!("client stream begins");
    let mut texts = request.into_inner();
    let mut all = Vec::new();
    while let Some(text) = texts.message().await? {
        all.push(text);
    }
    Ok(Response::new(all.join(" ")))
}

/// Each as it comes.
async fn bidirectional(request: Request<Streaming<String>>) -> Result<Response<Texts>, Status> {
    println!("bidirectional stream begins");
    Ok(Response::new(Box::pin(request.into_inner())))
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = Grpc::new(Text);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(tower::service_fn(unary), request).await,
                "/test.Echo/ServerStream" => {
                    grpc.server_streaming(tower::service_fn(server_stream), request).await
                }
                "/test.Echo/ClientStream" => {
                    grpc.client_streaming(tower::service_fn(client_stream), request).await
                }
                "/test.Echo/Bidirectional" => {
                    grpc.streaming(tower::service_fn(bidirectional), request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}
