//! The start-up check against servers that do not keep to conditions. Own process: it sets `AWS_…` for itself.

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::Response,
};
use ceteris_blob::Blobs;
use ceteris_shared::digest::Digest;

/// Which conditions the fake server keeps.
#[derive(Clone, Copy, Debug)]
struct Keeps {
    none_match: bool,
    matches: bool,
}

type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// As much of S3 as the start-up check uses.
async fn serve(State((keeps, objects)): State<(Keeps, Objects)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("small bodies");
    let key = parts.uri.path().to_owned();
    let mut objects = objects.lock().expect("no panic holds it");
    let answer = |status: StatusCode, bytes: Vec<u8>| {
        Response::builder()
            .status(status)
            .header(header::ETAG, format!("\"{}\"", Digest::of(&bytes)))
            .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT")
            .header(header::CONTENT_LENGTH, bytes.len())
            .body(Body::from(bytes))
            .expect("a response")
    };
    let header = |name: header::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let stored = objects.get(&key).cloned();
    match (parts.method, stored) {
        (Method::PUT, stored) => {
            let exists = keeps.none_match && header(header::IF_NONE_MATCH).is_some() && stored.is_some();
            let tag = stored.map(|bytes| format!("\"{}\"", Digest::of(&bytes)));
            let stale = keeps.matches && header(header::IF_MATCH).is_some_and(|wish| Some(wish) != tag.as_deref());
            if exists || stale {
                return answer(StatusCode::PRECONDITION_FAILED, Vec::new());
            }
            let tag_of = body.to_vec();
            objects.insert(key, body.to_vec());
            let mut response = answer(StatusCode::OK, tag_of);
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response
        }
        (Method::GET | Method::HEAD, Some(bytes)) => answer(StatusCode::OK, bytes),
        (Method::DELETE, _) => {
            objects.remove(&key);
            answer(StatusCode::NO_CONTENT, Vec::new())
        }
        (Method::POST, _) => answer(StatusCode::NOT_IMPLEMENTED, Vec::new()),
        _ => answer(StatusCode::NOT_FOUND, Vec::new()),
    }
}

async fn fake(keeps: Keeps) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let app = Router::new().fallback(serve).with_state((keeps, Objects::default()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// Opens `s3://bucket/prefix` in a process of its own, since variables are a process's; prints how it went.
#[tokio::test]
#[ignore = "the process that the other tests start"]
async fn open_in_this_process() {
    match Blobs::open("s3://bucket/prefix").await {
        Ok(blobs) => println!("opened {blobs:?}"),
        Err(error) => println!("refused {error}"),
    }
}

async fn open_at(endpoint: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "open_in_this_process", "--ignored", "--nocapture"])
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "the-key")
        .env("AWS_SECRET_ACCESS_KEY", "the-secret")
        .env_remove("AWS_ALLOW_HTTP")
        .envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("the-secret"), "{text}");
    text
}

const ALLOW_HTTP: [(&str, &str); 1] = [("AWS_ALLOW_HTTP", "true")];

#[tokio::test]
async fn a_server_that_keeps_to_conditions_is_opened() {
    let text = open_at(&fake(Keeps { none_match: true, matches: true }).await, &ALLOW_HTTP).await;
    assert!(text.contains("opened Blobs { place: \"s3://bucket/prefix\""), "{text}");
}

#[tokio::test]
async fn a_server_that_ignores_if_none_match_is_refused() {
    let text = open_at(&fake(Keeps { none_match: false, matches: true }).await, &ALLOW_HTTP).await;
    assert!(text.contains("refused") && text.contains("If-None-Match") && text.contains("SeaweedFS"), "{text}");
}

#[tokio::test]
async fn a_server_that_ignores_if_match_is_refused() {
    let text = open_at(&fake(Keeps { none_match: true, matches: false }).await, &ALLOW_HTTP).await;
    assert!(text.contains("refused") && text.contains("If-Match") && text.contains("SeaweedFS"), "{text}");
}

#[tokio::test]
async fn http_has_to_be_allowed() {
    let text = open_at("http://127.0.0.1:9", &[]).await;
    assert!(text.contains("refused") && text.contains("AWS_ALLOW_HTTP=true"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let text = open_at("http://127.0.0.1:9", &ALLOW_HTTP).await;
    assert!(text.contains("refused") && text.contains("AWS_ENDPOINT_URL"), "{text}");
}
