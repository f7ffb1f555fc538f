//! Values that are never printed. They hide themselves in `Debug`, `Display` and `Serialize`; `expose` is the one way out.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What is printed in place of a secret. Loading refuses it, so a printed configuration cannot become a password.
pub(super) const MASK: &str = "***";

/// Why loading refuses it.
pub(super) const MASK_REFUSED: &str = "the mask of a printed configuration stands where a secret belongs";

/// A secret text: empty when it is not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is set at all.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both contain the mask: that is how the defaults tell which keys are secret.
        f.write_str(if self.is_set() { MASK } else { "*** (not set)" })
    }
}

/// A URL or connection string, of which only the password is secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL with its password. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is set at all.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_password(&self.0))
    }
}

/// Masks `user:password@` and `password=…`. Where it cannot be sure it hides more rather than less.
fn mask_password(url: &str) -> String {
    let mut masked = url.to_owned();
    if let Some(start) = masked.find("://").map(|at| at + 3)
        && let Some(end) = masked.rfind('@').filter(|end| *end > start)
        && let Some(colon) = masked[start..end].find(':').map(|at| start + at)
    {
        masked.replace_range(colon + 1..end, MASK);
    }
    const KEY: &str = "password=";
    let mut from = 0;
    while let Some(start) = masked[from..].find(KEY).map(|at| from + at + KEY.len()) {
        let rest = &masked[start..];
        let length = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.find('\'').map_or(rest.len(), |at| at + 2),
            None => rest.find(|c: char| c == '&' || c.is_whitespace()).unwrap_or(rest.len()),
        };
        masked.replace_range(start..start + length, MASK);
        from = start + MASK.len();
    }
    masked
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.contains(MASK) {
        true => Err(D::Error::custom("the mask of a printed configuration stands where a secret belongs")),
        false => Ok(text),
    }
}

macro_rules! hides_itself {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read(deserializer).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                String::json_schema(generator)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

hides_itself!(Secret);
hides_itself!(SecretUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked_and_the_rest_is_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:hush@cache:6379/1", "redis://:***@cache:6379/1"),
            ("postgres://app:p@ss/w?rd@db/app?sslmode=require", "postgres://app:***@db/app?sslmode=require"),
            ("postgres://db/app?user=a&password=hush&x=1", "postgres://db/app?user=a&password=***&x=1"),
            ("host=db password=hush user=a", "host=db password=*** user=a"),
            ("host=db password='hu sh' sslpassword=hush", "host=db password=*** sslpassword=***"),
            ("", ""),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), shown);
        }
    }

    #[test]
    fn a_secret_shows_only_whether_it_is_set() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "Secret(***)");
        assert_eq!(Secret::default().to_string(), "*** (not set)");
        assert_eq!(Secret::new("hush").expose(), "hush");
    }
}
