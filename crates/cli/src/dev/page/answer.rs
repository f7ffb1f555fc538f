//! Errors of the demo's API, as JSON: a code for programs, and what to do for people.

use std::fmt;

use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError, http::StatusCode, web};
use serde_json::json;

/// A request that is not fulfilled.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    /// The request makes no sense.
    pub fn malformed(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// There is no good token.
    pub fn token(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token", message)
    }

    /// It is not theirs, or comes from elsewhere.
    pub fn forbidden(code: &'static str, message: impl fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Something that is needed does not work now.
    pub fn unavailable(code: &'static str, message: impl fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl fmt::Display) -> Self {
        Self { status, code, message: message.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(json!({ "error": self.code, "message": self.message }))
    }
}

/// Answers with JSON that nobody keeps.
pub fn json(value: impl serde::Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(value)
}

/// Answers with what is JSON already.
pub fn raw_json(text: String) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store")).content_type("application/json").body(text)
}

/// How bodies are read.
pub fn json_config(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit)
        .error_handler(|error, _| Refusal::malformed(format!("the body must be JSON: {error}")).into())
}

/// How queries are read.
pub fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _| Refusal::malformed(error).into())
}

/// For paths below `/demo/` that lead nowhere.
pub async fn not_found() -> HttpResponse {
    let known = "the demo's API has /demo/state, /demo/token, /demo/bookings and /demo/break/<what>";
    Refusal::not_found(known).error_response()
}

/// For a method that a path does not know.
pub async fn wrong_method(allowed: &'static str) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((header::ALLOW, allowed))
        .json(json!({ "error": "method", "message": format!("this takes {allowed}") }))
}
