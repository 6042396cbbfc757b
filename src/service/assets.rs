//! Embedded assets: the web UI, the browser SDK and the OpenAPI document, compressed at build time.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::state::ServiceState;
use crate::error::Error;
use crate::http::{Access, Method, Request, Response, Route, RouteSpec};

/// Headers of the web UI's files. Browsers may cache them but must revalidate each time. The policy restricts a page to its
/// own service's files and forbids other sites to frame it.
pub(crate) const UI_HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];
/// Headers of the browser SDK, which pages of all origins load. A new version reaches them within a day, and no page waits
/// for revalidation.
pub(crate) const SDK_HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "public, max-age=86400, stale-while-revalidate=604800"),
    ("Access-Control-Allow-Origin", "*"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
];
/// Headers of the OpenAPI document. It has no CORS headers, since other origins cannot call the API either.
pub(crate) const OPENAPI_HEADERS: &[(&str, &str)] = &[("Cache-Control", "no-cache")];

/// An embedded file.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// The path of its route.
    pub path: &'static str,
    /// The media type.
    pub content_type: &'static str,
    /// Additional response headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The content, compressed with gzip.
    pub gzip: &'static [u8],
    /// The content, compressed with brotli.
    pub brotli: &'static [u8],
}

/// Embeds the web UI of a service, as built by `static/build.mjs`.
macro_rules! ui_assets {
    ($service:literal) => {
        &[
            $crate::service::assets::embed_asset!("/", "text/html; charset=utf-8", UI_HEADERS, $service, "index.html"),
            $crate::service::assets::embed_asset!(
                "/app.js",
                "text/javascript; charset=utf-8",
                UI_HEADERS,
                $service,
                "app.js"
            ),
            $crate::service::assets::embed_asset!(
                "/theme.js",
                "text/javascript; charset=utf-8",
                UI_HEADERS,
                $service,
                "theme.js"
            ),
            $crate::service::assets::embed_asset!(
                "/app.css",
                "text/css; charset=utf-8",
                UI_HEADERS,
                $service,
                "app.css"
            ),
            $crate::service::assets::embed_asset!("/icon.svg", "image/svg+xml", UI_HEADERS, $service, "icon.svg"),
        ]
    };
}

/// Embeds the OpenAPI document of a service, as built by `static/openapi.mjs`.
macro_rules! openapi_asset {
    ($service:literal) => {
        $crate::service::assets::embed_asset!(
            "/openapi.json",
            "application/json",
            OPENAPI_HEADERS,
            $service,
            "openapi.json"
        )
    };
}

/// Embeds one file from `static/dist/`.
macro_rules! embed_asset {
    ($path:literal, $content_type:literal, $headers:ident, $service:literal, $name:literal) => {
        $crate::service::Asset {
            path: $path,
            content_type: $content_type,
            headers: $crate::service::assets::$headers,
            gzip: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/dist/", $service, "/", $name, ".gz")),
            brotli: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/dist/", $service, "/", $name, ".br")),
        }
    };
}

pub(crate) use {embed_asset, openapi_asset, ui_assets};

/// Creates the route of an asset, which needs no key.
pub fn asset_route<S: ServiceState>(asset: &'static Asset) -> Route<S> {
    let spec = RouteSpec::new(Method::Get, asset.path, Access::Open);
    let hash = format!("{:x}", md5::compute(asset.gzip));
    Route::deferred(spec, Box::new(move |_, request, responder| responder.send(respond(asset, &hash, &request))))
}

fn respond(asset: &Asset, hash: &str, request: &Request) -> Response {
    let (coding, body) = if request.accepts("br") {
        (Some("br"), asset.brotli)
    } else if request.accepts("gzip") {
        (Some("gzip"), asset.gzip)
    } else {
        (None, asset.gzip)
    };
    let etag = format!("\"{hash}-{}\"", coding.unwrap_or("plain"));
    let is_cached = request.header("if-none-match").is_some_and(|etags| {
        String::from_utf8_lossy(etags).split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
    });
    let response = match (is_cached, coding) {
        (true, _) => Response::new(304, asset.content_type, Vec::new()),
        (false, Some(coding)) => {
            Response::new(200, asset.content_type, body.to_vec()).static_header("Content-Encoding", coding)
        }
        (false, None) => {
            let mut plain = Vec::new();
            if let Err(why) = GzDecoder::new(body).read_to_end(&mut plain) {
                return Error::Internal(format!("failed to decompress the asset {}: {why}", asset.path)).into();
            }
            Response::new(200, asset.content_type, plain)
        }
    };
    let response = response.header("ETag", etag).static_header("Vary", "Accept-Encoding");
    asset.headers.iter().fold(response, |response, (name, value)| response.static_header(name, value))
}
