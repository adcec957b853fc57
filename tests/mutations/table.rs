//! The bugs that are planted: each one is a careless version of a line of the product.

/// What takes the place of what.
pub enum Change {
    /// One expression instead of another.
    Expression(&'static str),
    /// Statements instead of others; nothing in between is declared by them.
    Statements(&'static str),
    /// Whatever text; `planted!()` in it says whether the bug is there.
    Text(&'static str),
}

/// A planted bug.
pub struct Mutation {
    /// What the careless version does.
    pub name: &'static str,
    /// Of `docs/HAZARDS.md`; 0 where it breaks an invariant that no hazard stands for.
    pub hazard: u32,
    pub file: &'static str,
    /// Stands in the file exactly once.
    pub original: &'static str,
    pub change: Change,
    pub caught: Caught,
}

/// What must catch it.
pub enum Caught {
    /// So many histories, from the first seed on.
    Histories(u64),
    /// A scenario, played step by step.
    Scenario(&'static str),
}

use Caught::{Histories, Scenario};
use Change::{Expression, Statements, Text};

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "believes_a_commit_that_was_not_confirmed",
        hazard: 1,
        file: "src/store/transact.rs",
        original: "tx.commit().await?;",
        change: Statements("let _ = tx.commit().await;"),
        caught: Histories(50),
    },
    Mutation {
        name: "announces_as_held_what_is_over",
        hazard: 2,
        file: "src/hold/decide.rs",
        original: "State::Rejected | State::Committed | State::Cancelled => Standing::Over,",
        change: Text(
            "State::Rejected | State::Committed | State::Cancelled => if planted!() { Standing::Held } else { Standing::Over },",
        ),
        caught: Histories(200),
    },
    Mutation {
        name: "says_nothing_of_an_end_that_stands",
        hazard: 44,
        file: "src/hold/onward.rs",
        original: "if let Some(end) = end(input, rows, stored, stamp) {",
        change: Text(
            "if let Some(end) = end(input, rows, stored, stamp).filter(|_| !planted!()) {",
        ),
        caught: Histories(300),
    },
    Mutation {
        name: "pays_what_stays_without_taking_it",
        hazard: 0,
        file: "src/hold/onward.rs",
        original: "plan.add(committed);",
        change: Statements("drop(committed);"),
        caught: Histories(20),
    },
    Mutation {
        name: "cancels_without_writing_the_pivot",
        hazard: 2,
        file: "src/cancel.rs",
        original: "tx.insert_entries(std::slice::from_ref(&mark)).await?;",
        change: Text("if !planted!() { tx.insert_entries(std::slice::from_ref(&mark)).await?; }"),
        caught: Histories(300),
    },
    Mutation {
        name: "announces_an_end_when_credit_refuses",
        hazard: 3,
        file: "src/credit/decide.rs",
        original: "Outcome::Emit(stamp.following(input, EventType::Refused, Some(reason), None))",
        change: Expression(
            "Outcome::Emit(stamp.following(input, EventType::announcing(reason.final_state()), Some(reason), None))",
        ),
        caught: Histories(50),
    },
    Mutation {
        name: "credits_a_closed_account",
        hazard: 5,
        file: "src/credit/decide.rs",
        original: "match row.status {",
        change: Text("match if planted!() { AccountStatus::Active } else { row.status } {"),
        caught: Histories(200),
    },
    Mutation {
        name: "does_not_count_what_is_held",
        hazard: 47,
        file: "src/hold/decide.rs",
        original: "row.velocity.count(terms.amount.minor(), stamp.at);",
        change: Statements(""),
        caught: Histories(100),
    },
    Mutation {
        name: "does_not_write_what_was_counted",
        hazard: 45,
        file: "src/turn/shared.rs",
        original: "whole.usage = Plan::usage_changes(locked, &rows);",
        change: Statements(""),
        caught: Histories(100),
    },
    Mutation {
        name: "opens_a_window_again_when_a_clock_goes_back",
        hazard: 46,
        file: "src/domain/velocity.rs",
        original: "self.window < window",
        change: Expression("self.window != window"),
        caught: Scenario("a_clock_that_goes_back_opens_no_window_twice"),
    },
    Mutation {
        name: "holds_for_a_frozen_account",
        hazard: 5,
        file: "src/hold/decide.rs",
        original: "match row.status {",
        change: Text("match if planted!() { AccountStatus::Active } else { row.status } {"),
        caught: Histories(200),
    },
    Mutation {
        name: "acts_on_events_of_before_a_promotion",
        hazard: 6,
        file: "src/worker/intake.rs",
        original: "event.generation < self.generation",
        change: Expression("false"),
        caught: Histories(2000),
    },
    Mutation {
        name: "leaves_ends_unsaid_after_a_promotion",
        hazard: 6,
        file: "src/reconciler/recover/ends.rs",
        original: "fact.state.is_final() && !announced() && kept()",
        change: Expression("false"),
        caught: Scenario("an_end_that_nobody_was_told_of_is_announced_after_a_promotion"),
    },
    Mutation {
        name: "says_that_nothing_was_accepted_after_a_lost_commit",
        hazard: 7,
        file: "src/ingress/group_commit.rs",
        original: "if unknown { Refusal::OutcomeUnknown }",
        change: Text("if unknown && !planted!() { Refusal::OutcomeUnknown }"),
        caught: Scenario("what_may_have_been_accepted_is_never_said_not_to_be"),
    },
    Mutation {
        name: "credits_without_a_pivot",
        hazard: 10,
        file: "src/credit/decide.rs",
        original: "plan.entries.push(EntryRow::pivot_row(terms, Ok(entry), stamp.at, input.cause()));",
        change: Statements("let _ = entry;"),
        caught: Histories(50),
    },
    Mutation {
        name: "does_not_compare_counts",
        hazard: 12,
        file: "src/store/mod.rs",
        original: "changed == expected as u64",
        change: Expression("true"),
        caught: Histories(50),
    },
    Mutation {
        name: "takes_a_backlog_for_orphans",
        hazard: 19,
        file: "src/reconciler/decide.rs",
        original: "_ if around.behind => Action::Leave,",
        change: Text("_ if around.behind && !planted!() => Action::Leave,"),
        caught: Scenario("a_queue_is_not_refused_however_long_it_stands"),
    },
    Mutation {
        name: "overtakes_the_outbox",
        hazard: 20,
        file: "src/reconciler/decide.rs",
        original: "State::Requested if around.unsent => Action::Leave,",
        change: Text("State::Requested if around.unsent && !planted!() => Action::Leave,"),
        caught: Scenario("nothing_overtakes_the_outbox"),
    },
    Mutation {
        name: "forgets_what_was_not_announced",
        hazard: 25,
        file: "src/worker/lane.rs",
        original: "Err(error) => Report::Producer(error),",
        change: Text(
            "Err(_) if planted!() => Report::Done(Vec::new()), Err(error) => Report::Producer(error),",
        ),
        caught: Histories(100),
    },
    Mutation {
        name: "gives_a_credit_no_version",
        hazard: 29,
        file: "src/credit/decide.rs",
        original: "row.version += 1;",
        change: Statements(""),
        caught: Histories(50),
    },
    Mutation {
        name: "lets_two_reversals_see_the_whole",
        hazard: 38,
        file: "src/ingress/decide.rs",
        original: "original.amount.minor() - before - *more",
        change: Expression("original.amount.minor() - *more"),
        caught: Scenario("two_reversals_at_once_take_back_no_more_than_there_is"),
    },
    Mutation {
        name: "promises_a_cancel_on_any_refusal",
        hazard: 39,
        file: "src/ingress/cancel.rs",
        original: "PivotDecision::Refused(found) if found.final_state() == State::Cancelled => {\n                Ok(Cancelled { transfer, repeated: false })",
        change: Text(
            "PivotDecision::Refused(found) if planted!() || found.final_state() == State::Cancelled => {\n                Ok(Cancelled { transfer, repeated: false })",
        ),
        caught: Scenario("a_cancel_of_what_the_destination_refused_is_no_promise"),
    },
    Mutation {
        name: "cancels_what_is_no_longer_requested",
        hazard: 0,
        file: "src/cancel.rs",
        original: "if tx.advance_transfers(std::slice::from_ref(&write)).await? == 0 {",
        change: Text(
            "if tx.advance_transfers(std::slice::from_ref(&write)).await? == 0 && !planted!() {",
        ),
        caught: Histories(200),
    },
    Mutation {
        name: "holds_more_than_there_is",
        hazard: 0,
        file: "src/hold/decide.rs",
        original: "free_after < -row.overdraft_limit",
        change: Expression("free_after < -POSTED_LIMIT"),
        caught: Histories(50),
    },
    Mutation {
        name: "debits_nothing",
        hazard: 0,
        file: "src/commit/decide.rs",
        original: "after.posted -= amount;",
        change: Statements(""),
        caught: Histories(50),
    },
    Mutation {
        name: "forgets_what_it_let_go",
        hazard: 41,
        file: "src/commit/mod.rs",
        original: "self.context.store.watch(shard, &left).await?;",
        change: Statements(""),
        caught: Scenario("an_end_that_is_written_after_its_event_was_let_go_is_still_announced"),
    },
];
