//! [`exec_suite!`](crate::exec_suite): one test per law.

/// Makes one test per law of [`exec::laws`](crate::exec::laws), for an
/// [`ExecHarness`](crate::exec::ExecHarness).
///
/// Use it once per module; the tests have the laws' names.
#[macro_export]
macro_rules! exec_suite {
    ($harness:ty) => {
        $crate::exec_suite!(@tests $harness;
            // what arrives
            arguments_arrive_unchanged
            the_environment_is_what_the_command_says
            the_last_variable_of_a_name_counts
            an_inherited_environment_is_given_or_refused_by_name
            a_command_starts_in_the_work_directory
            a_command_starts_where_it_says
            a_program_is_searched_in_the_commands_own_path
            // what is read
            stdin_arrives_whole
            stdin_is_empty_unless_something_is_given
            a_program_need_not_read_its_stdin
            a_stream_can_be_fed
            exec_refuses_a_piped_stdin
            // what is written
            the_two_streams_are_kept_apart
            large_output_arrives_whole
            what_is_over_the_capture_is_dropped_and_the_program_goes_on
            // how it ends
            the_exit_code_is_told
            a_signal_is_told
            a_missing_program_is_an_error
            a_directory_is_not_executed
            a_file_that_is_not_executable_is_not_executed
            a_missing_working_directory_is_an_error
            bad_input_is_refused_by_field_and_leaves_the_executor_usable
            usage_names_its_sources
            // files
            files_are_there_when_the_program_starts
            files_have_the_mode_that_was_asked_for
            a_file_replaces_one_that_is_there
            a_file_whose_path_is_blocked_is_an_error
            files_are_collected_whatever_the_verdict
            a_file_that_is_too_long_is_cut_off
            links_directories_and_pipes_are_not_collected
            // limits
            every_limit_is_enforced_or_refused_by_name
            a_limit_above_the_resources_own_is_refused
            memory_process_and_time_limits_go_together
            wall_time_ends_the_whole_tree
            cpu_time_is_summed_over_processes
            waiting_uses_no_cpu_time
            memory_is_limited
            processes_are_limited
            output_is_limited_to_the_byte
            output_up_to_the_limit_is_fine
            output_is_limited_while_it_is_streamed
            file_size_is_limited
            disk_bytes_are_limited
            disk_inodes_are_limited
            open_files_are_limited
            stack_is_limited
            the_cpu_set_is_limited
            the_network_is_off
            an_exceeded_limit_leaves_the_executor_usable
            // life
            a_conversation_is_streamed
            what_is_taken_is_not_in_the_outcome
            an_unread_program_waits_and_loses_nothing
            a_wait_that_is_dropped_loses_nothing
            a_signal_reaches_the_program
            a_kill_ends_the_whole_tree
            after_the_end_signals_are_refused_and_kills_do_nothing
            what_a_command_leaves_running_is_killed
            a_process_in_a_session_of_its_own_is_killed_too
            a_dropped_exec_leaves_nothing_running
            a_dropped_process_leaves_nothing_running
            many_commands_run_one_after_the_other
            commands_run_side_by_side_or_are_told_to_wait
            a_terminal_is_given_or_refused_by_name
        );
    };
    (@tests $harness:ty; $($law:ident)+) => {
        $(
            #[test]
            fn $law() {
                $crate::exec::run_law::<$harness, _>(stringify!($law), $crate::exec::laws::$law::<$harness>);
            }
        )+
    };
}
