//! Bad requests, as rows.

mod bodies;
mod edges;
mod resources;

use axum::body::Body;
use axum::http::Request;

/// A request and how it must be refused.
pub struct Case {
    pub name: String,
    method: &'static str,
    pub path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    pub status: u16,
    pub code: &'static str,
    /// The faults' pointers, in any order; not looked at where there are none.
    pub pointers: Vec<&'static str>,
}

impl Case {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            name: format!("{method} {path}"),
            method,
            path,
            headers: Vec::new(),
            body: Vec::new(),
            status: 400,
            code: "invalid_request",
            pointers: Vec::new(),
        }
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub fn refused(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }

    pub fn at(mut self, pointers: &[&'static str]) -> Self {
        self.pointers = pointers.to_vec();
        self
    }

    pub fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_slice());
        }
        request.body(Body::from(self.body.clone())).unwrap()
    }

    /// The method as the OpenAPI document writes it.
    pub fn documented_method(&self) -> String {
        self.method.to_lowercase()
    }
}

/// All of them. They find the account alice, in USD, and a closed account `closed`.
pub fn cases() -> Vec<Case> {
    [
        bodies::amounts(),
        bodies::escaped_amounts(),
        bodies::currencies(),
        bodies::ids(),
        bodies::keys(),
        bodies::labels(),
        bodies::bodies(),
        edges::media_types(),
        edges::sizes(),
        edges::methods_and_paths(),
        edges::path_ids(),
        edges::queries(),
        resources::accounts(),
        resources::unknown(),
        resources::payments(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
