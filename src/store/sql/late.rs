//! Writes that are sent together with the COMMIT, in one text and so in one round trip. One that
//! changes rows is followed by a question that fails where they were not as many as they should have
//! been; one that inserts rows inserts all of them or fails itself. What follows a statement that
//! fails is not run.

use super::driver::{Arg, Texts};

/// A write whose outcome nobody needs before the COMMIT.
pub(super) struct Late {
    /// With a placeholder for each argument and no other question mark.
    pub sql: &'static str,
    pub args: Vec<Arg>,
    /// Rows that it must change; none for an insert.
    pub rows: Option<usize>,
}

/// All of them as one text, and how many statements that are.
pub(super) fn script(texts: &Texts, writes: Vec<Late>) -> (String, usize) {
    let mut statements = 0;
    let bytes = |arg: &Arg| match arg {
        Arg::Null | Arg::Int(_) => 20,
        Arg::Text(text) => text.len() + text.len() / 16,
        Arg::Bytes(bytes) => 2 * bytes.len() + 3,
        Arg::Rows(rows) => rows.len() + rows.len() / 2,
    };
    let length = |write: &Late| write.sql.len() + write.args.iter().map(bytes).sum::<usize>() + 80;
    let mut script = String::with_capacity(writes.iter().map(length).sum());
    for write in writes {
        put(texts.literal, write.sql, &write.args, &mut script);
        script.push_str("; ");
        statements += 1;
        if let Some(rows) = write.rows {
            (texts.count)(rows, &mut script);
            script.push_str("; ");
            statements += 1;
        }
    }
    (script, statements)
}

/// A statement with its arguments in their places.
pub fn put(literal: fn(&Arg, &mut String), sql: &str, args: &[Arg], out: &mut String) {
    let mut args = args.iter();
    for (place, part) in sql.split('?').enumerate() {
        if place > 0 {
            literal(args.next().expect("an argument for each placeholder"), out);
        }
        out.push_str(part);
    }
    assert!(args.next().is_none(), "a placeholder for each argument");
}
