//! `account import` and `transfer import`.

use super::program::Program;

fn migrated() -> Program {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program
}

#[test]
fn accounts_are_imported_and_importing_them_again_changes_nothing() {
    let program = migrated();
    let mut text = "id,currency,kind,overdraft_limit\nbank,USD,external,\n".to_owned();
    for number in 0..2500 {
        text.push_str(&format!("a{number:04},JPY,,{number}\n"));
    }
    program.file("accounts.csv", &text);
    let first = program.json(&["account", "import", "accounts.csv"]);
    assert_eq!(first, serde_json::json!({"created": 2501, "existing": 0, "refused": 0}));
    let again = program.json(&["account", "import", "accounts.csv"]);
    assert_eq!(again, serde_json::json!({"created": 0, "existing": 2501, "refused": 0}));
    assert_eq!(program.json(&["account", "show", "a2499"])["overdraft_limit"], "2499");
    assert_eq!(program.json(&["account", "show", "bank"])["kind"], "external");
}

#[test]
fn a_file_with_bad_lines_imports_nothing_and_names_them_all() {
    let program = migrated();
    let text = "id,currency,overdraft_limit\ngood,USD,1.00\nb d,USD,\nx,usd,\ny,USD,1.234\nz,USD\n";
    program.file("accounts.csv", text);
    let output = program.run(&["account", "import", "accounts.csv"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    for line in ["line 3: id is 'b d'", "line 4: currency", "line 5: overdraft_limit", "line 6: "] {
        assert!(output.stderr.contains(line), "{line} is missing: {output:?}");
    }
    assert!(output.stderr.contains("4 of 5 lines"), "{output:?}");
    assert_eq!(program.json(&["account", "list"])["data"], serde_json::json!([]));
}

#[test]
fn bad_lines_beyond_the_first_hundred_are_counted() {
    let program = migrated();
    let text = "id,currency\n".to_owned() + &"bad id,USD\n".repeat(150);
    program.file("accounts.csv", &text);
    let output = program.run(&["account", "import", "accounts.csv"]);
    assert!(output.stderr.contains("and 50 more lines"), "{output:?}");
    assert!(output.stderr.contains("150 of 150 lines"), "{output:?}");
}

#[test]
fn columns_that_are_missing_or_unknown_are_refused() {
    let program = migrated();
    for text in ["id,kind\na,customer\n", "id,currency,colour\na,USD,red\n", ""] {
        program.file("accounts.csv", text);
        let output = program.run(&["account", "import", "accounts.csv"]);
        assert_eq!(output.code, Some(1), "{text}: {output:?}");
        assert!(output.stderr.contains("columns id,currency"), "{output:?}");
    }
    let output = program.run(&["account", "import", "no-such-file.csv"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("no-such-file.csv"), "{output:?}");
}

#[test]
fn an_account_that_exists_with_other_attributes_is_refused_by_line() {
    let program = migrated();
    program.json(&["account", "create", "alice", "--currency", "EUR"]);
    program.file("accounts.csv", "id,currency\nbob,USD\nalice,USD\n");
    let output = program.run(&["account", "import", "accounts.csv"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("line 3: account alice exists"), "{output:?}");
    assert_eq!(program.json(&["account", "show", "bob"])["currency"], "USD");
}

#[test]
fn transfers_are_imported_once_however_often_the_file_is() {
    let program = migrated();
    let text = "source,destination,amount,currency,idempotency_key,description\n\
                bank,alice,1.00,USD,k1,\"rent, July\"\nbank,alice,2.00,USD,k2,\n";
    program.file("transfers.csv", text);
    let first = program.json(&["transfer", "import", "transfers.csv"]);
    assert_eq!(first, serde_json::json!({"accepted": 2, "repeated": 0, "refused": 0}));
    let again = program.json(&["transfer", "import", "transfers.csv"]);
    assert_eq!(again, serde_json::json!({"accepted": 0, "repeated": 2, "refused": 0}));
    let found = program.json(&["transfer", "list", "--account", "bank", "--key", "k1"]);
    assert_eq!(found["data"][0]["description"], "rent, July");

    program.file("transfers.csv", &text.replace("2.00", "3.00"));
    let changed = program.run(&["transfer", "import", "transfers.csv"]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert!(changed.stderr.contains("line 3: this idempotency key"), "{changed:?}");
}

#[test]
fn transfers_without_a_key_are_refused() {
    let program = migrated();
    let head = "source,destination,amount,currency,idempotency_key\n";
    program
        .file("transfers.csv", &format!("{head}bank,alice,1.00,USD,\na,a,1,USD,k\na,b,0,USD,k\n"));
    let output = program.run(&["transfer", "import", "transfers.csv"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    for line in ["line 2: idempotency_key is empty", "line 3: source and", "line 4: amount is zero"]
    {
        assert!(output.stderr.contains(line), "{line} is missing: {output:?}");
    }
}
