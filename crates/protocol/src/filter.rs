//! Which event types a session wants.

/// The most patterns that one session may give.
pub const MAX_PATTERNS: usize = 64;

/// A set of event types: exact names and prefixes written as `booking.*`. Without patterns it takes everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFilter {
    patterns: Vec<Pattern>,
    restricted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl TypeFilter {
    /// Takes every type.
    pub fn all() -> Self {
        Self::default()
    }

    /// Takes the types that match one of the patterns; none where there are no patterns.
    pub fn of<S: AsRef<str>>(patterns: &[S]) -> Self {
        let patterns = patterns.iter().map(|text| Pattern::parse(text.as_ref())).collect();
        Self { patterns, restricted: true }
    }

    /// Whether this takes everything.
    pub fn is_all(&self) -> bool {
        !self.restricted
    }

    /// Whether a type is wanted.
    pub fn takes(&self, event_type: &str) -> bool {
        !self.restricted || self.patterns.iter().any(|pattern| pattern.matches(event_type))
    }
}

impl Pattern {
    fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *event_type,
            Self::Prefix(prefix) => event_type.starts_with(&**prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_and_prefixes() {
        let filter = TypeFilter::of(&["booking.*", "payment.settled"]);
        assert!(filter.takes("booking.created") && filter.takes("payment.settled"));
        assert!(!filter.takes("bookings.created") && !filter.takes("payment.settled.late"));
        assert!(TypeFilter::all().takes("anything") && TypeFilter::of(&["*"]).takes("anything"));
        assert!(!TypeFilter::of::<&str>(&[]).takes("anything"));
        assert!(TypeFilter::all().is_all() && !TypeFilter::of(&["*"]).is_all());
    }
}
