//! The values that an expression may have while a trigger fires.

use std::collections::BTreeSet;

use sqlparser::ast::{AccessExpr, BinaryOperator, Expr, Ident, Subscript};

use super::{Source, arguments, literal, name_of};

/// Variables may be made of variables; one that is made of itself ends here.
const MAX_DEPTH: usize = 8;
/// More values than that of one expression are not worth telling apart.
const MAX_VALUES: usize = 32;

/// What is known while a trigger fires.
pub(in super::super) struct Firing<'a> {
    pub schema: &'a str,
    pub table: &'a str,
    pub trigger: &'a str,
    /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    pub operation: &'a str,
    pub arguments: &'a [String],
}

impl Source {
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
                        join(rest, only(separator)?)
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

/// The value, where there is just one: the others would be left out without a word.
fn only(values: &BTreeSet<String>) -> Option<&String> {
    values.first().filter(|_| values.len() == 1)
}

/// `format` with nothing but `%s`, `%I` and `%%`.
fn formatted(values: &[BTreeSet<String>]) -> Option<BTreeSet<String>> {
    let (patterns, mut rest) = values.split_first()?;
    let mut pattern = only(patterns)?.as_str();
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
