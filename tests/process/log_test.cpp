// SPDX-License-Identifier: BSL-1.0
// billiard's get_logger and log_to_stderr: what a child has of its host's log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <unistd.h>

#include <carom/log.hpp>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "tests/process/support.hpp"

namespace {

using namespace carom::test;
using carom::file_descriptor;
using carom::process;
using carom::start_method;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// The log as it was, at the end of a test.
struct log_as_before {
  spdlog::level::level_enum level = carom::log()->level();
  ~log_as_before() {
    carom::set_log(nullptr);
    carom::log()->set_level(level);
  }
};

std::string own_log() {
  return carom::log()->name() + " " + std::to_string(static_cast<int>(carom::log()->level()));
}

std::string with_level(const std::string& name, spdlog::level::level_enum level) {
  return name + " " + std::to_string(static_cast<int>(level));
}

}  // namespace

TEST_F(Parity, Process_log_level_is_the_hosts_when_the_child_starts) {
  const log_as_before restored;
  EXPECT_EQ(carom::log()->name(), "carom");
  for (const auto method : carom::get_all_start_methods())
    for (const auto level : {spdlog::level::debug, spdlog::level::err}) {
      SCOPED_TRACE(std::string(carom::to_string(method)));
      carom::log()->set_level(level);
      pipe_ends ends;
      process one(
          {.name = "scribe", .start_method = method},
          +[](file_descriptor to) { write_line(to.get(), own_log()); }, std::move(ends.write));
      one.start();
      EXPECT_EQ(read_line(ends.read.get()), with_level("carom-scribe", level));
      one.join();
      carom::pool pool{{.processes = 1, .start_method = method, .name = "scribes"}};
      EXPECT_EQ(pool.apply(own_log), with_level("carom-scribes-0", level));
    }
}

TEST_F(Parity, Process_log_that_the_host_has_given_is_the_hosts_alone) {
  const log_as_before restored;
  std::ostringstream book;
  carom::set_log(std::make_shared<spdlog::logger>(
      "the host's", std::make_shared<spdlog::sinks::ostream_sink_mt>(book, true)));
  carom::log()->warn("from the host");
  EXPECT_THAT(book.str(), HasSubstr("from the host"));
  for (const auto method : carom::get_all_start_methods()) {
    SCOPED_TRACE(std::string(carom::to_string(method)));
    pipe_ends ends;
    process one(
        {.start_method = method},
        +[](file_descriptor to) {
          ::dup2(to.get(), STDERR_FILENO);
          carom::log()->warn("from the child");
        },
        std::move(ends.write));
    one.start();
    EXPECT_THAT(read_line(ends.read.get()), HasSubstr("from the child"));
    one.join();
  }
  EXPECT_THAT(book.str(), Not(HasSubstr("from the child")));
}

TEST_F(Parity, Process_log_goes_to_stderr_from_its_level_on) {
  const log_as_before restored;
  carom::log()->set_level(spdlog::level::info);
  pipe_ends ends;
  process one(
      {.name = "scribe"},
      +[](file_descriptor to) {
        ::dup2(to.get(), STDERR_FILENO);
        carom::log()->debug("too little");
        carom::log()->info("enough");
      },
      std::move(ends.write));
  one.start();
  EXPECT_THAT(read_line(ends.read.get()), HasSubstr("[carom-scribe] [info] enough"));
  EXPECT_THAT(read_all(ends.read.get()), IsEmpty());
  one.join();
}
