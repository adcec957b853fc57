//! Batches, bound value by value. A text that takes one has a `VALUES` clause of one row; it is
//! written out for as many rows as there are, rounded up to a few lengths, so that each connection
//! prepares few texts. Rows that are left over are bound to nothing, which is NULL, and the texts
//! leave out rows whose first column is. Unpacking JSON with `json_each` would cost more than what is
//! then done with the values.

use crate::store::sql::Arg;
use crate::store::sql::cells::{Cell, Cells, Packed};
use serde::Serialize;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqlSafeStr, SqlStr};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

/// Numbers of rows that a batch is rounded up to.
pub(super) const LENGTHS: [usize; 5] = [1, 4, 16, 64, MOST];
/// Longer batches are several statements.
const MOST: usize = 256;

/// Where the row of placeholders begins and ends in a text.
const BEGIN: &str = "(VALUES (";
const END: &str = "))";

/// `batch!(name 1, …)`: the rows of the batch as a table `v`.
macro_rules! batch {
    ($($name:ident $index:literal),+) => {
        concat!(
            "(SELECT ", batch!(@columns $($name $index),+), " FROM (VALUES (",
            batch!(@places $($index),+), ")) WHERE column1 IS NOT NULL) AS v"
        )
    };
    (@columns $name:ident $index:literal $(, $names:ident $indexes:literal)*) => {
        concat!("column", $index, " AS ", stringify!($name), $(
            ", column", $indexes, " AS ", stringify!($names)
        ),*)
    };
    (@places $index:literal $(, $indexes:literal)*) => { concat!("?" $(, batch!(@place $indexes))*) };
    (@place $index:literal) => { ", ?" };
}

/// The rows of a batch of one column, as the right side of an `IN`.
macro_rules! one_of {
    () => {
        "(SELECT column1 FROM (VALUES (?)) WHERE column1 IS NOT NULL)"
    };
}

pub(super) use {batch, one_of};

/// A batch as one argument, which has to be the first of its statement.
pub(super) fn pack<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Arg {
    Arg::Rows(Packed::of(rows))
}

/// The statements that take a batch, and what is bound to each; other texts are one statement.
/// Arguments after the batch come before it in the text.
pub(super) fn statements(
    sql: &'static str,
    args: &[Arg],
) -> Result<Vec<(SqlStr, SqliteArguments)>, sqlx::Error> {
    let (Some(columns), Some((Arg::Rows(packed), others))) = (columns(sql), args.split_first())
    else {
        return Ok(vec![(sql.into_sql_str(), bound(args)?)]);
    };
    let mut cells = Cells::of(packed);
    let mut statements = Vec::new();
    while !cells.is_empty() {
        let mut bound = bound(others)?;
        let rows = bind(&mut bound, &mut cells, columns)?;
        statements.push((written_out(sql, rows), bound));
    }
    Ok(statements)
}

/// How many columns a text's batch has, if it takes one.
fn columns(sql: &str) -> Option<usize> {
    let (_, rest) = sql.split_once(BEGIN)?;
    let (row, _) = rest.split_once(END)?;
    Some(row.matches('?').count())
}

/// Binds the next rows, [`MOST`] at most, and returns how many.
fn bind(
    bound: &mut SqliteArguments,
    cells: &mut Cells<'_>,
    columns: usize,
) -> Result<usize, sqlx::Error> {
    // Currencies, clients and what else repeats from row to row is shared.
    let mut before: Vec<Option<Arc<str>>> = vec![None; columns];
    let mut rows = 0;
    while rows < MOST && !cells.is_empty() {
        for before in &mut before {
            match cells.next() {
                Some(Cell::Null) => bound.add(None::<i64>),
                Some(Cell::Int(number)) => bound.add(number),
                Some(Cell::Bytes(bytes)) => bound.add(bytes.to_vec()),
                Some(Cell::Text(text)) => {
                    let shared = before.take().filter(|before| **before == *text);
                    let shared = shared.unwrap_or_else(|| text.into());
                    *before = Some(Arc::clone(&shared));
                    bound.add(shared)
                }
                None => Err("a batch has rows of another length than its text".into()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        rows += 1;
    }
    Ok(rows)
}

fn bound(args: &[Arg]) -> Result<SqliteArguments, sqlx::Error> {
    let mut bound = SqliteArguments::default();
    for arg in args {
        match arg {
            Arg::Null => bound.add(None::<i64>),
            Arg::Int(number) => bound.add(*number),
            Arg::Text(text) => bound.add(text.clone()),
            Arg::Bytes(bytes) => bound.add(bytes.clone()),
            Arg::Rows(_) => Err("rows are for a text that takes a batch".into()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

/// Texts by what they were written from and for how many rows.
type Written = HashMap<(&'static str, usize), Arc<str>>;

/// The text for that many rows or a few more.
fn written_out(sql: &'static str, rows: usize) -> SqlStr {
    /// As many as there are texts and lengths.
    static WRITTEN: LazyLock<RwLock<Written>> = LazyLock::new(RwLock::default);
    const SOUND: &str = "nothing panics while it holds this";
    let length = LENGTHS.into_iter().find(|length| *length >= rows).unwrap_or(MOST);
    let known = WRITTEN.read().expect(SOUND).get(&(sql, length)).cloned();
    let text = known.unwrap_or_else(|| {
        let text: Arc<str> = of_length(sql, length).into();
        Arc::clone(WRITTEN.write().expect(SOUND).entry((sql, length)).or_insert(text))
    });
    AssertSqlSafe(text).into_sql_str()
}

/// One of the product's own texts, its row of placeholders repeated.
pub(super) fn of_length(sql: &str, length: usize) -> String {
    let Some((before, rest)) = sql.split_once(BEGIN) else { return sql.to_owned() };
    let Some((row, after)) = rest.split_once(END) else { return sql.to_owned() };
    let rows = vec![format!("({row})"); length].join(",");
    format!("{before}(VALUES {rows}){after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::Hex;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{ConnectOptions, Row};

    const ECHO: &str = concat!(
        "SELECT c.factor * v.number, v.text, v.bytes FROM (SELECT ? AS factor) AS c CROSS JOIN ",
        batch!(number 1, text 2, bytes 3)
    );

    async fn run(conn: &mut SqliteConnection, sql: &'static str, args: &[Arg]) -> Vec<String> {
        let mut rows = Vec::new();
        for (sql, args) in statements(sql, args).unwrap() {
            for row in sqlx::query_with(sql, args).fetch_all(&mut *conn).await.unwrap() {
                let (number, text) = (row.get::<i64, _>(0), row.get::<Option<String>, _>(1));
                rows.push(format!("{number} {text:?} {:?}", row.get::<Vec<u8>, _>(2)));
            }
        }
        rows
    }

    #[tokio::test]
    async fn a_batch_of_any_length_has_exactly_its_rows() {
        let mut conn = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        for length in [1, 2, 4, 5, 63, 64, 65, 255, 256, 257, 700] {
            let text = |number: i64| (number % 3 > 0).then(|| format!("t'{}\u{e9}", number / 4));
            let row = |number: i64| (number, text(number), Hex(vec![0, 0xff]));
            let batch = pack((0..length).map(row));
            let said = run(&mut conn, ECHO, &[batch, Arg::Int(2)]).await;
            let expected = |number: i64| format!("{} {:?} [0, 255]", 2 * number, text(number));
            assert_eq!(said, (0..length).map(expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn batches_of_all_lengths_share_a_few_texts() {
        let texts = (1..=1000).flat_map(|length| {
            let batch = pack((0..length).map(|number| (number, "", ())));
            statements(ECHO, &[batch, Arg::Int(1)]).unwrap().into_iter().map(|(sql, _)| sql)
        });
        let texts: std::collections::BTreeSet<String> =
            texts.map(|text| text.as_str().to_owned()).collect();
        assert_eq!(texts.len(), LENGTHS.len());
    }

    #[test]
    fn a_row_of_another_length_is_an_error() {
        statements(ECHO, &[pack([(1, "")]), Arg::Int(1)]).unwrap_err();
    }
}
