// SPDX-License-Identifier: BSL-1.0
#include <carom/errors.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(Errors, form_the_tree_that_the_manual_shows) {
  EXPECT_TRUE((std::is_base_of_v<std::runtime_error, carom::error>));
  EXPECT_TRUE((std::is_base_of_v<carom::process_error, carom::timeout_error>));
  EXPECT_TRUE((std::is_base_of_v<carom::process_error, carom::authentication_error>));
  EXPECT_TRUE((std::is_base_of_v<carom::process_error, carom::buffer_too_short>));
  EXPECT_TRUE((std::is_base_of_v<carom::error, carom::worker_lost>));
  EXPECT_FALSE((std::is_base_of_v<carom::process_error, carom::worker_lost>));
}

TEST(Errors, worker_lost_by_a_signal_tells_all_it_knows) {
  const carom::worker_lost error{{.pid = 1234,
                                  .signal = SIGSEGV,
                                  .task_name = "square",
                                  .task_id = 17,
                                  .run_time = 1203us,
                                  .memory = 12 << 20,
                                  .attempts = 1}};
  EXPECT_STREQ(error.what(),
               "worker 1234 died of SIGSEGV while running task 17 'square' after 1.203 ms "
               "(resident 12 MiB)");
  EXPECT_EQ(error.signal(), SIGSEGV);
  EXPECT_EQ(error.memory(), std::uint64_t{12} << 20);
}

TEST(Errors, worker_lost_by_an_exit_tells_status_cause_and_attempt) {
  const carom::worker_lost error{
      {.pid = 5, .exit_code = 3, .task_id = 2, .attempts = 3, .cause = "the task called exit(3)"}};
  EXPECT_STREQ(error.what(),
               "worker 5 exited with status 3 while running task 2 after 0 ns, at attempt 3: the "
               "task called exit(3)");
}

TEST(Errors, worker_lost_by_sigkill_hints_at_memory) {
  const carom::worker_lost error{{.pid = 5, .signal = SIGKILL, .task_id = 2}};
  EXPECT_THAT(error.what(), HasSubstr("memory"));
}

TEST(Errors, worker_lost_shows_the_backtrace) {
  const carom::worker_lost error{{.signal = SIGABRT, .backtrace = "#0 crash()"}};
  EXPECT_THAT(error.what(), HasSubstr("\n#0 crash()"));
}

TEST(Errors, limits_tell_task_limit_and_what_to_do) {
  const carom::time_limit_exceeded hard{
      {.task_name = "slow", .task_id = 4, .limit = 500ms, .run_time = 501ms, .pid = 7}};
  EXPECT_STREQ(hard.what(),
               "task 4 'slow' in worker 7 passed its time limit of 500 ms after 501 ms and its "
               "worker was killed; raise time_limit, or let the task do less");
  const carom::soft_time_limit_exceeded soft{{.task_id = 4, .limit = 2s}};
  EXPECT_THAT(soft.what(), HasSubstr("soft time limit of 2 s"));
  const carom::memory_limit_exceeded memory{
      {.task_id = 4, .limit = 1 << 20, .memory = 3 << 20, .pid = 7}};
  EXPECT_THAT(memory.what(), HasSubstr("used 3 MiB of memory, more than its limit of 1 MiB"));
}

TEST(Errors, terminated_tells_by_what) {
  EXPECT_STREQ(carom::terminated({.signal = SIGTERM, .pid = 3, .task_id = 9}).what(),
               "task 9 was terminated in worker 3 with SIGTERM");
  EXPECT_STREQ(carom::terminated({}).what(), "the task was terminated with its pool");
}

TEST(Errors, restart_freq_exceeded_names_the_cause) {
  const carom::restart_freq_exceeded error{
      {.restarts = 400, .period = 1s, .cause = "the initializer threw"}};
  EXPECT_THAT(error.what(), HasSubstr("400 workers died within 1 s"));
  EXPECT_THAT(error.what(), HasSubstr("the initializer threw"));
}

TEST(Errors, remote_error_speaks_with_the_text_of_the_original) {
  EXPECT_STREQ(carom::remote_error({"mine", "boom", 3}).what(), "boom");
  EXPECT_STREQ(carom::remote_error({"int", "", 3}).what(),
               "an exception of type int left the task in worker 3");
}

TEST(Errors, unknown_task_says_what_to_call) {
  const carom::unknown_task error{{.task_name = "square", .reason = "another build"}};
  EXPECT_THAT(error.what(), HasSubstr("register_task"));
  EXPECT_THAT(error.what(), HasSubstr("another build"));
}

TEST(Errors, buffer_too_short_carries_the_message) {
  const carom::buffer_too_short error{{.message = std::vector<std::byte>(10), .capacity = 4}};
  EXPECT_EQ(error.message().size(), 10U);
  EXPECT_THAT(error.what(), HasSubstr("10 bytes"));
}

TEST(Errors, those_without_fields_have_a_sentence_ready) {
  for (const carom::error& error : std::initializer_list<carom::error>{
           carom::timeout_error{}, carom::queue_empty{}, carom::queue_full{}, carom::pool_closed{},
           carom::broken_barrier{}, carom::coro_stop{}})
    EXPECT_GT(std::string{error.what()}.size(), 10U);
  EXPECT_STREQ(carom::pool_closed{"my words"}.what(), "my words");
}

}  // namespace
