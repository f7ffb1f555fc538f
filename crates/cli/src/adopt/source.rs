//! Reading the source of a trigger function: which channels it notifies and what it says there. It is read with a
//! parser of SQL, so comments and texts do not count; what it can not read is said to be unknown, never guessed.

use std::collections::BTreeSet;

use sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
        ObjectNamePart, Subscript, Value,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer, Word},
};

/// Variables may be made of variables; one that is made of itself ends here.
const MAX_DEPTH: usize = 8;
/// More values than that of one expression are not worth telling apart.
const MAX_VALUES: usize = 32;

/// A function's tokens, without spaces and comments.
pub(super) struct Source {
    tokens: Vec<Token>,
}

/// What is known while a trigger fires.
pub(super) struct Firing<'a> {
    pub schema: &'a str,
    pub table: &'a str,
    pub trigger: &'a str,
    /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    pub operation: &'a str,
    pub arguments: &'a [String],
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

    /// All values that an expression may have; nothing where one is not known.
    pub fn values(&self, expr: &Expr, firing: &Firing<'_>) -> Option<BTreeSet<String>> {
        self.evaluate(expr, firing, 0)
    }

    fn evaluate(&self, expr: &Expr, firing: &Firing<'_>, depth: usize) -> Option<BTreeSet<String>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let value = |expr: &Expr| self.evaluate(expr, firing, depth + 1);
        let one = |text: &str| Some(BTreeSet::from([text.to_owned()]));
        match expr {
            Expr::Value(_) => one(&literal(expr)?),
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => value(inner),
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                join(&[value(left)?, value(right)?], "")
            }
            Expr::Identifier(name) => match firing.variable(name) {
                Some(text) => one(text),
                None => self.variable(name, firing, depth),
            },
            Expr::CompoundFieldAccess { root, access_chain } => one(firing.argument(root, access_chain)?),
            Expr::Case { conditions, else_result, .. } => {
                let results = conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
                union(results.map(value))
            }
            Expr::Function(call) => {
                let parts = arguments(call);
                let values = parts.iter().map(value).collect::<Option<Vec<_>>>();
                match name_of(call).as_str() {
                    "lower" => Some(values?.first()?.iter().map(|text| text.to_lowercase()).collect()),
                    "upper" => Some(values?.first()?.iter().map(|text| text.to_uppercase()).collect()),
                    "quote_ident" => values?.into_iter().next(),
                    "concat" => join(&values?, ""),
                    "concat_ws" => {
                        let values = values?;
                        let (separator, rest) = values.split_first()?;
                        join(rest, separator.first()?)
                    }
                    "format" => formatted(&values?),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// All values that are assigned to a variable.
    fn variable(&self, name: &Ident, firing: &Firing<'_>, depth: usize) -> Option<BTreeSet<String>> {
        union(self.assigned(name).into_iter().map(|expr| self.evaluate(&expr?, firing, depth + 1)))
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

impl Firing<'_> {
    fn variable(&self, name: &Ident) -> Option<&str> {
        match name.value.to_lowercase().as_str() {
            "tg_table_name" | "tg_relname" => Some(self.table),
            "tg_table_schema" => Some(self.schema),
            "tg_op" => Some(self.operation),
            "tg_name" => Some(self.trigger),
            _ => None,
        }
    }

    /// `TG_ARGV[n]`.
    fn argument(&self, root: &Expr, chain: &[AccessExpr]) -> Option<&str> {
        let (Expr::Identifier(name), [AccessExpr::Subscript(Subscript::Index { index })]) = (root, chain)
        else {
            return None;
        };
        let number = name.value.eq_ignore_ascii_case("tg_argv").then(|| literal(index))??;
        self.arguments.get(number.parse::<usize>().ok()?).map(String::as_str)
    }
}

/// The columns of NEW and OLD that an expression names.
pub(super) fn row_columns(expr: &Expr) -> BTreeSet<String> {
    let Some(source) = Source::read(&expr.to_string()) else { return BTreeSet::new() };
    let tokens = source.tokens.windows(3).filter_map(|three| match three {
        [Token::Word(row), Token::Period, Token::Word(column)] if is(row, "new") || is(row, "old") => {
            Some(as_written(column))
        }
        _ => None,
    });
    tokens.collect()
}

/// The column that an expression is, unchanged: `NEW.x`, and what picks between NEW and OLD.
pub(super) fn plain_column(expr: &Expr) -> Option<String> {
    let all = |parts: &mut dyn Iterator<Item = &Expr>| {
        let columns = parts.map(plain_column).collect::<Option<BTreeSet<_>>>()?;
        (columns.len() == 1).then(|| columns.into_iter().next())?
    };
    match expr {
        Expr::Nested(inner) => plain_column(inner),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [row, column] if is_row_name(row) => Some(of(column)),
            _ => None,
        },
        Expr::Case { conditions, else_result, .. } => {
            all(&mut conditions.iter().map(|when| &when.result).chain(else_result.as_deref()))
        }
        Expr::Function(call) if name_of(call) == "coalesce" => all(&mut arguments(call).iter()),
        _ => None,
    }
}

/// Whether an expression says something about the event and nothing about the row: texts, TG_OP, the time.
pub(super) fn is_about_the_event(expr: &Expr) -> bool {
    let Some(source) = Source::read(&expr.to_string()) else { return false };
    let known = [
        "case",
        "when",
        "then",
        "else",
        "end",
        "now",
        "clock_timestamp",
        "current_timestamp",
        "lower",
        "upper",
    ];
    source.tokens.iter().all(|token| match token {
        Token::Word(word) => {
            let name = word.value.to_lowercase();
            name.starts_with("tg_") || known.contains(&name.as_str())
        }
        _ => true,
    })
}

/// A variable's name, if the expression is one.
pub(super) fn variable(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => variable(inner),
        _ => None,
    }
}

/// Whether it is the row itself, made JSON or not.
pub(super) fn is_whole_row(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_whole_row(inner),
        Expr::Function(call) => {
            ["row_to_json", "to_json", "to_jsonb"].contains(&name_of(call).as_str())
                && arguments(call).first().is_some_and(is_row)
        }
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().map(|when| &when.result).chain(else_result.as_deref()).all(is_whole_row)
        }
        other => is_row(other),
    }
}

fn is_row(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(name) => is_row_name(name),
        Expr::Function(call) if name_of(call) == "coalesce" => arguments(call).iter().all(is_row),
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().map(|when| &when.result).chain(else_result.as_deref()).all(is_row)
        }
        Expr::Nested(inner) => is_row(inner),
        _ => false,
    }
}

fn is_row_name(name: &Ident) -> bool {
    name.quote_style.is_none() && ["new", "old"].contains(&name.value.to_lowercase().as_str())
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

/// Every way of taking one value of each part.
fn join(parts: &[BTreeSet<String>], separator: &str) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::from([None::<String>]);
    for part in parts {
        all = all
            .iter()
            .flat_map(|start| {
                part.iter().map(move |end| {
                    Some(
                        start
                            .as_ref()
                            .map_or_else(|| end.clone(), |start| format!("{start}{separator}{end}")),
                    )
                })
            })
            .collect();
        if all.len() > MAX_VALUES {
            return None;
        }
    }
    all.into_iter().collect()
}

fn union(sets: impl Iterator<Item = Option<BTreeSet<String>>>) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for set in sets {
        all.extend(set?);
    }
    (!all.is_empty() && all.len() <= MAX_VALUES).then_some(all)
}

/// `format` with nothing but `%s`, `%I` and `%%`.
fn formatted(values: &[BTreeSet<String>]) -> Option<BTreeSet<String>> {
    let (patterns, mut rest) = values.split_first()?;
    let mut pattern = patterns.first()?.as_str();
    let mut parts = Vec::new();
    while let Some(at) = pattern.find('%') {
        parts.push(BTreeSet::from([pattern[..at].to_owned()]));
        match pattern[at + 1..].chars().next()? {
            '%' => parts.push(BTreeSet::from(["%".to_owned()])),
            's' | 'I' => {
                let (first, others) = rest.split_first()?;
                parts.push(first.clone());
                rest = others;
            }
            _ => return None,
        }
        pattern = &pattern[at + 2..];
    }
    parts.push(BTreeSet::from([pattern.to_owned()]));
    join(&parts, "")
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
