//! What an expression takes from the rows of a trigger, NEW and OLD.

use std::collections::BTreeSet;

use sqlparser::{
    ast::{Expr, Ident},
    tokenizer::Token,
};

use super::{Source, arguments, as_written, is, name_of, of};

/// The columns of NEW and OLD that an expression names.
pub(in super::super) fn row_columns(expr: &Expr) -> BTreeSet<String> {
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
pub(in super::super) fn plain_column(expr: &Expr) -> Option<String> {
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
pub(in super::super) fn is_about_the_event(expr: &Expr) -> bool {
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
pub(in super::super) fn variable(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => variable(inner),
        _ => None,
    }
}

/// Whether it is the row itself, made JSON or not.
pub(in super::super) fn is_whole_row(expr: &Expr) -> bool {
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

pub(super) fn is_row(expr: &Expr) -> bool {
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
