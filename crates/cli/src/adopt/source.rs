//! Reading the source of a trigger function: which channels it notifies and what it says there. It is read with a
//! parser of SQL, so comments and texts do not count; what it can not read is said to be unknown, never guessed.

mod rows;
mod values;

use sqlparser::{
    ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Value},
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer, Word},
};

use rows::is_row;
pub(super) use rows::{is_about_the_event, is_whole_row, plain_column, row_columns, variable};
pub(super) use values::Firing;

/// A function's tokens, without spaces and comments.
pub(super) struct Source {
    tokens: Vec<Token>,
}

/// Where a notification goes.
pub(super) enum Channel {
    /// A name that stands there.
    Name(String),
    /// `pg_notify`'s first argument.
    Computed(Box<Expr>),
    /// Something that can not be read.
    Unreadable(String),
}

impl Source {
    /// Nothing where it is not even SQL's tokens: another language, say.
    pub fn read(text: &str) -> Option<Self> {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().ok()?;
        Some(Self {
            tokens: tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect(),
        })
    }

    /// Every notification in it.
    pub fn channels(&self) -> Vec<Channel> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            match token {
                Token::Word(word) if is(word, "pg_notify") && self.is(index + 1, &Token::LParen) => {
                    found.push(
                        self.call_at(index).and_then(|call| arguments(&call).into_iter().next()).map_or_else(
                            || Channel::Unreadable("an argument of pg_notify".to_owned()),
                            |first| Channel::Computed(Box::new(first)),
                        ),
                    );
                }
                Token::Word(word) if is(word, "notify") && self.begins_statement(index) => {
                    if let Some(Token::Word(name)) = self.tokens.get(index + 1) {
                        found.push(Channel::Name(as_written(name)));
                    }
                }
                Token::SingleQuotedString(text)
                    if text.to_lowercase().trim_start().starts_with("notify ") =>
                {
                    found.push(Channel::Unreadable(format!("EXECUTE '{text}'")));
                }
                _ => {}
            }
        }
        found
    }

    /// Names and values of all that it puts together by `json_build_object`, at whatever depth. An object within
    /// another is told by its own names and values.
    pub fn pairs(&self) -> Vec<(String, Expr)> {
        let mut pairs = Vec::new();
        for index in self.calls(&["json_build_object", "jsonb_build_object"]) {
            let Some(call) = self.call_at(index) else { continue };
            for pair in arguments(&call).chunks_exact(2) {
                let nested = function(&pair[1]).is_some_and(|name| name.ends_with("_build_object"));
                if let (Some(name), false) = (literal(&pair[0]), nested) {
                    pairs.push((name, pair[1].clone()));
                }
            }
        }
        pairs
    }

    /// Whether it sends the row as it is.
    pub fn sends_row(&self) -> bool {
        self.calls(&["row_to_json", "to_json", "to_jsonb"])
            .filter_map(|index| self.call_at(index))
            .any(|call| arguments(&call).first().is_some_and(is_row))
    }

    /// Everything that is assigned to a variable, in the order of the source. Nothing stands for what can not be read.
    pub fn assigned(&self, name: &Ident) -> Vec<Option<Expr>> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let Token::Word(word) = token else { continue };
            if !same(word, name) || !self.begins_statement(index) {
                continue;
            }
            let statement = &self.tokens[index + 1..];
            let end =
                statement.iter().position(|token| *token == Token::SemiColon).unwrap_or(statement.len());
            let sign = statement[..end].iter().position(|token| {
                matches!(token, Token::Assignment | Token::Eq)
                    || matches!(token, Token::Word(word) if is(word, "default"))
            });
            if let Some(sign) = sign {
                found.push(parse(&statement[sign + 1..end]));
            }
        }
        found
    }

    /// Whether a statement or declaration can begin there.
    fn begins_statement(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1).and_then(|before| self.tokens.get(before)) else {
            return true;
        };
        match before {
            Token::SemiColon => true,
            Token::Word(word) => ["begin", "then", "else", "loop", "declare"].iter().any(|one| is(word, one)),
            _ => false,
        }
    }

    fn calls(&self, names: &'static [&'static str]) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(move |index| {
            matches!(&self.tokens[*index], Token::Word(word) if names.iter().any(|name| is(word, name)))
                && self.is(index + 1, &Token::LParen)
        })
    }

    fn call_at(&self, index: usize) -> Option<Function> {
        match parse(&self.tokens[index..])? {
            Expr::Function(call) => Some(call),
            // Something follows the call, such as ::text or || 'x'.
            _ => match parse(&self.tokens[index..=self.closing(index + 1)?])? {
                Expr::Function(call) => Some(call),
                _ => None,
            },
        }
    }

    /// Where the parenthesis closes that opens there.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(open) {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.checked_sub(1)?,
                _ => continue,
            }
            if depth == 0 {
                return Some(index);
            }
        }
        None
    }

    fn is(&self, index: usize, token: &Token) -> bool {
        self.tokens.get(index) == Some(token)
    }
}

fn parse(tokens: &[Token]) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).with_tokens(tokens.to_vec()).parse_expr().ok()
}

fn function(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(call) => Some(name_of(call)),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => function(inner),
        _ => None,
    }
}

fn name_of(call: &Function) -> String {
    call.name.0.last().and_then(ObjectNamePart::as_ident).map(of).unwrap_or_default()
}

fn arguments(call: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &call.args else { return Vec::new() };
    let plain = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect::<Option<_>>().unwrap_or_default()
}

fn literal(expr: &Expr) -> Option<String> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::Number(text, _) => {
            Some(text.clone())
        }
        Value::DollarQuotedString(text) => Some(text.value.clone()),
        _ => None,
    }
}

fn is(word: &Word, name: &str) -> bool {
    word.value.eq_ignore_ascii_case(name)
}

fn same(word: &Word, name: &Ident) -> bool {
    as_written(word) == of(name)
}

/// PostgreSQL reads what is not quoted as lower case.
fn as_written(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

fn of(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
