//! The built page's files. Which paths it has is the page's own affair: what names no file is its start.

use std::io;
use std::path::{Path, PathBuf};

use actix_web::http::{Method, header};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};

use super::answer::{self, Refusal};

const START: &str = "index.html";
/// The build puts a hash of their content into the names of these: a changed one is another file.
const HASHED: &str = "assets";

const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><title>Rowcast: the page is not built</title>
<body style=\"font: 1rem/1.5 system-ui; margin: 3rem auto; max-width: 40rem\">
<h1>The demo's page is not built</h1>
<p><code>make demo</code> builds it. By hand, in the folder <code>clients</code>:</p>
<pre>npm ci
npm run build --workspaces --if-present</pre>
<p>Then load this page again. Everything else of the demo runs: its events are in the terminal.</p>
";

/// Where the files are.
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// In this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A file's content, with its path below the folder. Nothing outside of the folder is read, through links either.
    async fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let folder = tokio::fs::canonicalize(&self.folder).await?;
        let file = tokio::fs::canonicalize(folder.join(path)).await?;
        if !file.starts_with(&folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tokio::fs::read(file).await
    }
}

/// Any path that is not the API's.
pub async fn serve(request: HttpRequest, files: Data<Files>) -> HttpResponse {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return answer::wrong_method("GET, HEAD").await;
    }
    let refusal = || Refusal::not_found(format!("the page has no {}", request.path())).error_response();
    let Some(path) = relative(request.path()) else {
        return refusal();
    };
    // The page's own paths have no extension; a missing script must not be answered with the start page.
    let path = if path.extension().is_some() { path } else { START.into() };
    match files.read(&path).await {
        Ok(content) => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, kept(&path)))
            .content_type(content_type(&path))
            .body(content),
        Err(_) if path == Path::new(START) => HttpResponse::ServiceUnavailable()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("text/html; charset=utf-8")
            .body(NOT_BUILT),
        Err(_) => refusal(),
    }
}

/// The path of a file, of plain names only: nothing hidden, nothing that leads upwards, nothing encoded.
fn relative(path: &str) -> Option<PathBuf> {
    let plain = |name: &str| {
        !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte))
    };
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let names: Vec<&str> = path.split('/').filter(|_| !path.is_empty()).collect();
    names.iter().all(|name| !name.is_empty() && plain(name)).then(|| names.iter().collect())
}

fn kept(path: &Path) -> &'static str {
    if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_name_files() {
        assert_eq!(relative("/"), Some(PathBuf::new()));
        assert_eq!(relative("/assets/index-B1_x.js"), Some("assets/index-B1_x.js".into()));
        assert_eq!(relative("/shop/"), Some("shop".into()));
        for trick in [
            "",
            "x",
            "/../x",
            "/a/../b",
            "/.env",
            "/a/.git/x",
            "/a//b",
            "/a\\b",
            "/%2e%2e/x",
            "/a%00",
            "//etc/x",
            "/a:b",
        ] {
            assert_eq!(relative(trick), None, "{trick}");
        }
    }

    #[tokio::test]
    async fn a_link_does_not_lead_out_of_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let page = place.path().join("page");
        std::fs::create_dir(&page).unwrap();
        std::fs::write(place.path().join("secret.json"), "x").unwrap();
        std::fs::write(page.join("own.json"), "y").unwrap();
        std::os::unix::fs::symlink("../secret.json", page.join("link.json")).unwrap();
        let files = Files::new(page);
        assert_eq!(files.read(Path::new("own.json")).await.unwrap(), b"y");
        assert_eq!(files.read(Path::new("link.json")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
