//! Contract of the store port: one set of behaviours, run against both adapters, two shards each.

mod accounts;
mod audit;
mod audit_chain;
mod costs;
mod drift;
mod entries;
mod identity;
mod model;
mod mysql_only;
mod operations;
mod outbox;
mod projection;
mod proposals;
mod reconcile;
mod recovery;
mod replicas;
mod reversals;
mod sealing;
mod sqlite_only;
mod transactions;
mod transfers;
mod velocity;
mod world;

use world::{Databases, World};

/// Each behaviour against each adapter: `on` begins with a cluster that is ready, or with databases
/// that were never migrated.
macro_rules! contract {
    ($($kind:ident $group:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$group::$behaviour(contract!(@sqlite $kind)).await;
                }
            )+)+
        }

        mod mysql {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$group::$behaviour(contract!(@mysql $kind)).await;
                }
            )+)+
        }
    };
    (@sqlite cluster) => { super::World::sqlite().await };
    (@mysql cluster) => { super::World::mysql().await };
    (@sqlite empty) => { super::Databases::sqlite() };
    (@mysql empty) => { super::Databases::mysql().await };
}

contract! {
    cluster accounts:
        created_accounts_read_back_with_their_projection,
        every_attribute_of_an_account_is_kept,
        ids_that_differ_in_case_are_two_accounts,
        an_account_is_created_once,
        locked_rows_come_without_those_that_do_not_exist,
        money_is_written_where_the_version_is_the_one_before,
        writing_what_is_there_already_counts,
        balances_reach_the_bounds_and_no_held_is_negative,
        settings_are_written_with_their_projection,
        quarantine_raises_the_version_once,
        accounts_are_listed_in_id_order_by_prefix_currency_and_status,
        decision_rows_come_in_pages;
    cluster transfers:
        a_hold_a_credit_and_a_commit_move_money,
        every_attribute_of_a_transfer_is_kept,
        claims_are_compared_byte_for_byte,
        a_second_claim_or_transfer_is_told_apart,
        a_transfer_moves_on_only_from_what_is_expected,
        a_refusal_at_hold_and_a_cancellation_keep_their_reasons_and_causes,
        a_thousand_transfers_go_through_in_one_batch,
        outgoing_transfers_are_listed_newest_first;
    cluster entries:
        entries_and_marks_read_back,
        the_first_pivot_stays,
        marks_of_one_account_do_not_collide,
        two_entries_of_one_version_are_told_apart_from_two_pivots,
        entries_are_listed_newest_first,
        incoming_transfers_are_listed_by_their_credits;
    cluster transactions:
        what_is_committed_is_seen_and_nothing_before,
        a_dropped_transaction_leaves_nothing,
        work_dropped_in_the_middle_costs_no_connection,
        a_commit_that_is_dropped_happened_or_not,
        a_short_count_rolls_everything_back,
        a_plan_is_written_whole_or_not_at_all,
        texts_come_back_as_they_were,
        transfers_in_opposite_directions_do_not_deadlock,
        one_of_two_groups_wins_every_key,
        work_is_run_again_as_a_whole_or_given_up,
        times_are_the_databases_own,
        a_shard_that_is_not_there_is_an_error;
    cluster recovery:
        a_raised_generation_shuts_out_all_that_came_before,
        a_recovery_that_was_interrupted_is_seen_and_begun_again,
        raising_the_generation_waits_for_transactions_under_way,
        leases_are_seen_until_they_run_out,
        watched_transfers_are_due_at_once;
    cluster reversals:
        what_is_reversed_is_raised_and_lowered,
        what_is_reversed_is_never_below_zero,
        reversals_at_once_never_take_back_too_much;
    cluster velocity:
        limits_are_replaced_with_what_is_used_of_them,
        locked_rows_come_with_their_limits_and_others_without,
        usage_is_written_with_the_hold_or_neither_is,
        usage_of_many_accounts_is_one_batch;
    cluster model:
        random_work_leaves_what_a_model_of_it_says;
    cluster outbox:
        records_come_back_byte_for_byte,
        rows_are_unsent_until_they_are_acknowledged,
        a_payload_that_cannot_be_read_does_not_stop_the_rest,
        records_wait_through_a_restart;
    cluster reconcile:
        the_scan_lists_what_is_not_final_and_goes_on_from_its_mark,
        the_sweep_finds_what_committed_behind_the_mark,
        stuck_transfers_wait_until_they_are_due_and_leave_when_final,
        standing_counts_what_is_not_final,
        a_lease_has_one_holder_until_it_runs_out,
        claims_end_with_their_time;
    cluster projection:
        a_newer_or_equal_version_wins,
        projections_at_once_end_at_the_newest,
        refreshing_copies_what_differs_and_only_that,
        refreshing_goes_page_by_page;
    cluster audit:
        a_sound_ledger_has_no_faults,
        every_planted_fault_is_found,
        a_fault_is_told_with_its_numbers,
        sums_go_beyond_64_bits,
        facts_of_both_sides_come_in_pages_and_by_id,
        debits_of_transfers_that_do_not_exist_are_found;
    cluster drift:
        accounts_are_added_up_in_pages_and_by_id,
        a_glance_sees_what_adding_up_does,
        entries_that_do_not_follow_are_found_by_transfer_and_by_account,
        a_pass_is_moved_by_one_of_several;
    cluster operations:
        acts_are_listed_newest_first_and_by_what_they_were,
        an_act_is_written_with_what_it_did_or_not_at_all,
        a_quarantine_keeps_its_first_reason_until_it_is_forgotten,
        a_dead_letter_is_marked_once,
        projections_are_made_anew_whatever_they_say,
        what_is_not_final_is_listed_without_writing;
    cluster proposals:
        every_proposal_reads_back_as_it_was_and_as_it_became,
        a_key_stands_for_one_proposal_of_a_principal_about_a_target,
        proposals_are_listed_newest_first_and_by_their_state,
        the_database_lets_nobody_decide_on_their_own_proposal,
        of_two_that_decide_at_once_the_second_sees_what_the_first_decided;
    cluster sealing:
        what_callers_wrote_stands_nowhere_in_the_tables,
        plain_and_sealed_rows_live_side_by_side,
        sealed_fields_in_the_place_of_others_are_not_read,
        processes_that_begin_at_once_share_one_key,
        a_rotated_key_reads_on_and_another_seals,
        a_rewrap_that_was_interrupted_is_completed_by_repeating_it,
        a_key_that_was_taken_out_too_early_costs_the_fields_and_nothing_else,
        a_reference_is_found_however_it_is_kept,
        a_fingerprint_is_the_same_through_every_rotation,
        a_worn_key_gets_a_successor_by_itself;
    cluster identity:
        swapped_shards_are_not_opened,
        a_raised_generation_stops_every_writer,
        a_new_shard_map_stops_every_writer,
        another_clusters_shard_is_refused,
        a_map_that_does_not_fit_its_fingerprint_is_corrupt,
        an_unknown_code_in_a_row_is_corrupt;
    cluster audit_chain:
        a_chain_grows_across_transactions_and_within_one,
        more_acts_than_a_page_are_one_chain,
        a_transaction_that_is_rolled_back_leaves_no_gap,
        writers_at_once_make_one_chain,
        what_a_column_does_not_take_is_cut_off_and_hashed_so,
        every_change_of_a_column_is_found_and_named,
        rows_that_are_taken_away_or_added_are_found,
        a_head_that_was_changed_is_found,
        a_chain_made_anew_is_found_by_what_was_noted,
        a_chain_of_another_shard_is_found;
    empty audit_chain:
        rows_from_before_the_chain_stay_and_are_counted;
    empty identity:
        migrating_makes_one_cluster_and_can_be_repeated,
        a_database_of_an_earlier_release_is_upgraded,
        several_may_migrate_at_once,
        a_cluster_that_is_not_in_use_is_completed,
        an_empty_shard_of_a_cluster_in_use_is_refused,
        another_number_of_partitions_or_shards_is_refused,
        databases_without_tables_say_what_to_do;
}
