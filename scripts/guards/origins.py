"""The guards of SECURITY.md's section Origins."""

from . import Mutant

ORIGINS = ["-p", "rowcast-edge", "--test", "origins"]
LIST = ["-p", "rowcast-edge", "--lib", "--", "http::origins"]

MUTANTS = [
    Mutant(
        "origins: a socket of a page that is not on the list is refused",
        "services/edge/src/upgrade.rs",
        "        Judgement::Refused => Refusal::Origin,\n",
        "",
        [*ORIGINS, "--", "sockets_of_other_origins"],
        binaries=True,
    ),
    Mutant(
        "origins: a request of a page that is not on the list is refused",
        "services/edge/src/http/mod.rs",
        "        Judgement::Refused => request.into_response(Refusal::Origin.response()),\n",
        "",
        [*ORIGINS, "--", "pages_of_allowed_origins"],
        binaries=True,
    ),
    Mutant(
        "origins: the answer that a page may read names its origin for caches",
        "services/edge/src/http/origins.rs",
        'headers.push((header::VARY, HeaderValue::from_static("Origin")));',
        "",
        [*ORIGINS, "--", "pages_of_allowed_origins"],
        binaries=True,
    ),
    Mutant(
        "origins: only a page that may come is told what it may send",
        "services/edge/src/http/mod.rs",
        "Judgement::Allowed(_) if asks_first",
        "_ if asks_first",
        [*ORIGINS, "--", "a_preflight"],
        binaries=True,
    ),
    Mutant(
        "origins: without a list no page of another origin may read an answer",
        "services/edge/src/http/origins.rs",
        "            return Judgement::NotJudged;",
        "            return headers.get(header::ORIGIN).cloned().map_or(Judgement::NotJudged, Judgement::Allowed);",
        [*ORIGINS, "--", "without_a_list"],
        binaries=True,
    ),
    Mutant(
        "origins: an origin on the list is the whole of it",
        "services/edge/src/http/origins.rs",
        "Self::Exact(exact) => origin.eq_ignore_ascii_case(exact),",
        "Self::Exact(exact) => origin.starts_with(exact.as_str()),",
        LIST,
    ),
    Mutant(
        "origins: nothing but a name stands for a star",
        "services/edge/src/http/origins.rs",
        "!name.is_empty() && name.bytes().all(is_name)",
        "!name.is_empty()",
        LIST,
    ),
    Mutant(
        "origins: a cookie is no token",
        "services/edge/src/http/mod.rs",
        "let mut all = headers.get_all(header::AUTHORIZATION);\n"
        "    let only = all.next().filter(|_| all.next().is_none())?;\n"
        "    of_bearer(only.to_str().ok()?)",
        "let only = headers.get(header::AUTHORIZATION).or(headers.get(header::COOKIE))?;\n"
        "    let (scheme, token) = only.to_str().ok()?.split_once([' ', '='])?;\n"
        '    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())',
        [*ORIGINS, "--", "cookies"],
        binaries=True,
    ),
]
